"""The board of disputes (internal API §9): pages in both orders, filters, counts, and who may read it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.internal.conftest import InternalClient

DAY = 86_400
Filters = dict[str, Any]


class Board:
    """The disputes of one account, made by the network's reports."""

    def __init__(self, operator: InternalClient, raw: Caller) -> None:
        self.operator = operator
        self.raw = raw
        self.reader = Caller(operator.http, raw.key)

    def open(self, **fields: Any) -> Any:
        report = {"kind": "chargeback", "reason": "fraudulent", **fields}
        return ok(self.operator.post("/disputes", {"charge": self.raw.charge()["id"], **report}))

    def get(self, path: str = "", **filters: Any) -> Any:
        return self.reader.http.get(
            f"/internal/v1/disputes{path}",
            params=filters,
            headers={"authorization": f"Bearer {self.reader.key}"},
        )

    def list_ids(self, **filters: Any) -> list[str]:
        """All pages, of two each."""
        ids: list[str] = []
        while True:
            page = ok(self.get(limit=2, **filters, **({"starting_after": ids[-1]} if ids else {})))
            ids += [row["id"] for row in page["data"]]
            if not page["has_more"]:
                return ids


@pytest.fixture
def board(operator: InternalClient, raw: Caller) -> Board:
    return Board(operator, raw)


def test_a_row_shows_of_its_dispute_what_an_overview_needs(board: Board, raw: Caller) -> None:
    customer = raw.customer(email="jenny@example.com")["id"]
    ok(raw.post(f"/v1/customers/{customer}", {"source": "tok_visa"}))
    charge = ok(raw.post("/v1/charges", {"amount": 4200, "currency": "eur", "customer": customer}))
    due_by = int(time.time()) + 9 * DAY
    report = {"charge": charge["id"], "kind": "inquiry", "reason": "duplicate", "network_reason_code": "12.6"}
    opened = ok(board.operator.post("/disputes", {**report, "due_by": due_by}))
    expected = {
        "id": opened["id"], "object": "dispute_overview", "account": ok(raw.get("/v1/account"))["id"],
        "livemode": False, "created": opened["created"], "status": "warning_needs_response",
        "due_by": due_by, "amount": 4200, "currency": "eur", "reason": "duplicate",
        "network_reason_code": "12.6", "case_type": "inquiry", "charge": charge["id"],
        "customer": customer, "payment_intent": None, "submission_count": 0, "has_evidence": False,
        "past_due": False,
    }  # fmt: skip
    page = ok(board.get())
    assert page["data"] == [expected]
    dispute_path = f"/v1/disputes/{opened['id']}"
    ok(raw.post(dispute_path, {"evidence[product_description]": "A hat", "submit": "false"}))
    assert ok(board.get())["data"] == [expected | {"has_evidence": True}]
    ok(raw.post(dispute_path, {"submit": "true"}))
    submitted = {"has_evidence": True, "submission_count": 1, "status": "warning_under_review"}
    assert ok(board.get())["data"] == [expected | submitted]
    fact = {"fact": "escalated", "amount": 4000, "reference": "r1", "due_by": due_by + DAY}
    ok(board.operator.post(f"/disputes/{opened['id']}/facts", fact))
    escalated = {
        "status": "needs_response",
        "case_type": "chargeback",
        "amount": 4000,
        "due_by": due_by + DAY,
    }
    assert ok(board.get())["data"] == [expected | submitted | escalated]


def test_pages_are_in_the_order_that_is_asked_for_without_holes_or_repetitions(board: Board) -> None:
    now = int(time.time())
    first = [board.open(due_by=now + days * DAY)["id"] for days in (5, 3, 5, 9, 3)]
    prevented = board.open(kind="prevented")["id"]
    inquiry = board.open(kind="inquiry", due_by=now + 4 * DAY)["id"]
    by_due_date = [first[1], first[4], inquiry, first[0], first[2], first[3], prevented]
    assert board.list_ids() == by_due_date
    assert board.list_ids(order="created") == [inquiry, prevented, *reversed(first)]
    assert board.list_ids(status=["needs_response", "prevented"]) == [
        each for each in by_due_date if each != inquiry
    ]
    bounds = {"due_by[gte]": now + 4 * DAY, "due_by[lte]": now + 5 * DAY}
    assert board.list_ids(**bounds) == [inquiry, first[0], first[2]]


def test_a_reason_is_looked_for_in_every_status_and_both_orders(board: Board) -> None:
    now = int(time.time())
    reasons = ["duplicate", "fraudulent", "duplicate"]
    opened = [
        board.open(reason=reason, due_by=now + (9 - days) * DAY)["id"] for days, reason in enumerate(reasons)
    ]
    ok(board.operator.post(f"/disputes/{opened[0]}/facts", {"fact": "won", "reference": "r1"}))
    assert board.list_ids(reason="duplicate") == [opened[2], opened[0]]
    assert board.list_ids(reason="duplicate", order="created") == [opened[2], opened[0]]
    assert board.list_ids(reason="duplicate", status="won") == [opened[0]]
    counts = {
        each["status"]: each["count"] for each in ok(board.get("/summary", reason="duplicate"))["statuses"]
    }
    assert {status: count for status, count in counts.items() if count} == {"needs_response": 1, "won": 1}


def test_the_summary_counts_by_status_and_by_what_is_due_when(board: Board) -> None:
    now = int(time.time())
    for hours in (1, 30, 60, 500):
        board.open(due_by=now + hours * 3600)
    board.open(kind="inquiry", due_by=now + 3600)
    lost = board.open()
    ok(board.operator.post(f"/disputes/{lost['id']}/facts", {"fact": "lost", "reference": "r1"}))
    summary = ok(board.get("/summary"))
    assert abs(summary["at"] - now) < 60
    columns = {each.pop("status"): each for each in summary["statuses"]}
    nothing = {"amounts": {}, "count": 0, "has_more": False, "past_due": None}
    assert columns["needs_response"] == {
        "amounts": {"usd": 8000}, "count": 4, "has_more": False, "past_due": 0,
        "due_within_24_hours": 1, "due_within_72_hours": 3,
    }  # fmt: skip
    assert columns["warning_needs_response"]["due_within_24_hours"] == 1
    assert columns["lost"]["count"] == 1
    assert columns["lost"]["amounts"] == {"usd": 2000}
    assert columns["won"] == {**nothing, "due_within_24_hours": None, "due_within_72_hours": None}
    assert next(iter(columns)) == "warning_needs_response"
    assert len(columns) == 10


@pytest.mark.parametrize(
    ("path", "filters", "param", "message"),
    [
        ("", {"status": "open"}, "status", "one of warning_needs_response, .*, appeal_under_review"),
        ("", {"reason": "none"}, "reason", "one of bank_cannot_process"),
        ("", {"order": "amount"}, "order", "one of due_by, created"),
        ("", {"order": "created", "due_by[lte]": 5}, "due_by", "only with order=due_by"),
        ("", {"limit": 101}, "limit", "less than or equal to 100"),
        ("", {"due_by[gt]": 5}, "due_by[gt]", "unknown parameter"),
        ("/summary", {"reason": "none"}, "reason", "one of bank_cannot_process"),
    ],
)
def test_what_the_board_cannot_answer_is_refused_by_name(
    board: Board, path: str, filters: Filters, param: str, message: str
) -> None:
    response = board.get(path, **filters)
    code = "parameter_unknown" if "unknown" in message else None
    assert_refused(response, param=param, code=code, message=message)


def test_another_account_or_mode_has_a_board_of_its_own(
    board: Board, account: Account, registrar: Registrar, http: Any
) -> None:
    mine = board.open()["id"]
    others = registrar.account(platform=account.id)
    theirs = Caller(http, others.secret)
    theirs_id = theirs.dispute()["id"]
    path = "/internal/v1/disputes"
    assert [row["id"] for row in ok(theirs.get(path))["data"]] == [theirs_id]
    assert board.list_ids() == [mine]
    assert ok(Caller(http, account.live_secret).get(path))["data"] == []
    connected = ok(board.reader.get(path, stripe_account=others.id))["data"]
    assert [row["id"] for row in connected] == [theirs_id]
    refused = board.get(starting_after=theirs_id)
    assert_refused(
        refused, code="resource_missing", param="starting_after", message=f"No such dispute: '{theirs_id}'"
    )


def test_every_key_that_may_list_disputes_may_read_the_board(
    http: Any, account: Account, registrar: Registrar
) -> None:
    path = "/internal/v1/disputes"
    for scopes in (["rak_dispute_read"], ["rak_dispute_write"]):
        key = registrar.key(account.id, "rk", scopes=scopes)[1]
        assert ok(Caller(http, key).get(path))["data"] == []
        assert len(ok(Caller(http, key).get(f"{path}/summary"))["statuses"]) == 10
    for key in (registrar.key(account.id, "rk", scopes=["rak_charge_read"])[1], account.publishable):
        assert_refused(
            Caller(http, key).get(path),
            403,
            code="more_permissions_required",
            message="lacks the scope 'rak_dispute_read'",
        )
    # A secret key has none of the scopes of the internal API.
    assert Caller(http, account.secret).get("/internal/v1/keys").status_code == 403
