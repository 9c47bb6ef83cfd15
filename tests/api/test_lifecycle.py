"""The transition table of disputes (contract §3.2), row by row: the status that each command or fact leads
to from each state, its Events in order, their previous attributes, and the money moved. Transitions by the
passing of time are in `tests/internal/test_deadlines.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import pytest

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.contract import rows

NOBODY = {"id": None, "idempotency_key": None}
DUE_BY = 4_000_000_000
FEE = 1500
CLOSED = "^This dispute is already closed$"

# The steps that bring a new dispute into each state. Each word is a fact of the network, except `submit`
# and `close`, which are the merchant's commands.
WAYS: dict[str, str] = {
    "needs_response": "chargeback",
    "under_review": "chargeback submit",
    "won": "chargeback won",
    "lost": "chargeback lost",
    "warning_needs_response": "inquiry",
    "warning_under_review": "inquiry submit",
    "warning_closed": "inquiry inquiry_closed",
    "prevented": "prevented",
    "appeal_needs_response": "chargeback lost appeal_opened",
    "appeal_under_review": "chargeback lost appeal_opened appeal",
}
SUBMITTED = {
    "evidence_details": {"has_evidence": False, "submission_count": 0, "submission_method": "not_submitted"}
}
WITHDRAWN, REVERSED = [-2000], [-2000, 2000]


class Case(NamedTuple):
    """In state `begins`, a command (a form, or close) or a fact leads to `status`, or is refused with the
    message `error` (a pattern).

    `events` are the types of the new Events, without `charge.dispute.`; `previous` are the previous
    attributes of the `updated` one among them.
    """

    begins: str
    does: str
    status: str
    events: str = ""
    previous: dict[str, Any] | None = None
    error: str | None = None
    param: str | None = None


def _each(states: str, does: str, status: str | None = None, *rest: Any, **named: Any) -> list[Case]:
    """The same case for several states. It leads to `status`, or leaves the status as it is."""
    return [Case(state, does, status or state, *rest, **named) for state in states.split()]


STAGED = {"evidence": {"customer_name": None}, "evidence_details": {"has_evidence": False}}
NAME = "evidence[customer_name]=J"
APPEAL = "evidence[appeal][card][reason_for_filing]=R"
ALL = " ".join(WAYS)

ROWS: dict[str, list[Case]] = {
    "update of metadata or intended_submission_method only": [
        *_each(
            ALL,
            "metadata[k]=v&intended_submission_method=manual",
            None,
            "updated",
            {"intended_submission_method": None, "metadata": {"k": None}},
        ),
        *_each("needs_response won", "metadata[none]=&intended_submission_method="),
    ],
    "update with submit=false": [
        *_each("needs_response warning_needs_response", f"{NAME}&submit=false", None, "updated", STAGED),
        Case(
            "appeal_needs_response",
            f"{APPEAL}&submit=false",
            "appeal_needs_response",
            "updated",
            {"evidence": {"appeal": None}, "evidence_details": {"has_evidence": False}},
        ),
    ],
    "evidence of an appeal where there is none": [
        case
        for form in (APPEAL, f"{APPEAL}&submit=false", f"{NAME}&{APPEAL}")
        for case in _each(
            " ".join(state for state in WAYS if state != "appeal_needs_response"),
            form,
            error="accepted only while the status of the dispute is appeal_needs_response",
            param="evidence[appeal]",
        )
    ],
    "needs_response submitted": [
        Case(
            "needs_response",
            NAME,
            "under_review",
            "updated",
            {"evidence": {"customer_name": None}, "status": "needs_response", **SUBMITTED},
        ),
    ],
    "warning_needs_response submitted": [
        Case(
            "warning_needs_response",
            NAME,
            "warning_under_review",
            "updated",
            {"evidence": {"customer_name": None}, "status": "warning_needs_response", **SUBMITTED},
        ),
    ],
    "submitted with no evidence at all": _each(
        "needs_response warning_needs_response", "submit=true", error="evidence", param="evidence"
    ),
    "under review updated with evidence": [
        case
        for form in (NAME, "submit=true", f"{NAME}&submit=false")
        for case in _each("under_review warning_under_review appeal_under_review", form, error="under review")
    ],
    "needs_response closed": [Case("needs_response", "close", "lost", "closed")],
    "open inquiry closed": _each(
        "warning_needs_response warning_under_review", "close", "warning_closed", "closed"
    ),
    "close where there is nothing to concede": [
        *_each(
            "under_review appeal_under_review",
            "close",
            error="cannot be closed",
        ),
        Case("prevented", "close", "prevented", error=CLOSED),
    ],
    "won or lost updated with evidence or closed": [
        case
        for does in (NAME, f"{NAME}&submit=false", "submit=true", "close")
        for case in _each("won lost warning_closed prevented", does, error=CLOSED)
    ],
    "fact won": _each("needs_response under_review", "won", "won", "funds_reinstated closed"),
    "fact lost": _each("needs_response under_review", "lost", "lost", "closed"),
    "fact escalated": [
        Case(
            begins,
            "escalated",
            "needs_response",
            "updated funds_withdrawn",
            {
                "balance_transactions": [],
                "evidence_details": {"due_by": ...},
                "is_charge_refundable": True,
                "payment_method_details": {"card": {"case_type": "inquiry"}},
                "status": begins,
            },
        )
        for begins in ("warning_needs_response", "warning_under_review")
    ],
    "fact inquiry closed": _each(
        "warning_needs_response warning_under_review", "inquiry_closed", "warning_closed", "closed"
    ),
    "inquiry's charge fully refunded": _each(
        "warning_needs_response warning_under_review", "refund", "warning_closed", "closed"
    ),
    "refund of a disputed charge": _each(
        "needs_response under_review lost appeal_needs_response appeal_under_review",
        "refund",
        error="has been charged back; cannot issue a refund.$",
    ),
    "refund of a won charge": [Case("won", "refund", "won")],
    "fact appeal opened": [
        Case(
            "lost",
            "appeal_opened",
            "appeal_needs_response",
            "updated",
            {"evidence_details": {"due_by": ...}, "status": "lost"},
        )
    ],
    "appeal_needs_response submitted": [
        Case(
            "appeal_needs_response",
            APPEAL,
            "appeal_under_review",
            "updated",
            {
                "evidence": {"appeal": None},
                "evidence_details": {"has_evidence": False, "submission_count": 0},
                "status": "appeal_needs_response",
            },
        ),
        Case("appeal_needs_response", "close", "lost", "closed"),
        Case(
            "appeal_needs_response",
            "submit=true",
            "appeal_needs_response",
            error="evidence",
            param="evidence",
        ),
    ],
    "appeal_needs_response with other evidence": [
        Case(
            "appeal_needs_response",
            f"{APPEAL}&evidence[{name}]={value}{submit}",
            "appeal_needs_response",
            error="cannot change",
            param=f"evidence[{name}]",
        )
        for name, value in (("product_description", "A+hat"), ("uncategorized_text", "winning_evidence"))
        for submit in ("", "&submit=false")
    ],
    "appeal_under_review fact won or lost": [
        Case("appeal_under_review", "won", "won", "funds_reinstated closed"),
        Case("appeal_under_review", "lost", "lost", "closed"),
    ],
}
FACTS = ("won", "lost", "escalated", "inquiry_closed", "appeal_opened", "prevented")
OPENINGS: dict[str, dict[str, Any]] = {
    "chargeback opened": {
        "body": {"kind": "chargeback", "reason": "duplicate"},
        "status": "needs_response",
        "refundable": False,
        "case_type": "chargeback",
        "reason": "duplicate",
        "money": WITHDRAWN,
    },
    "inquiry opened": {
        "body": {"kind": "inquiry", "reason": "unrecognized"},
        "status": "warning_needs_response",
        "refundable": True,
        "case_type": "inquiry",
        "reason": "unrecognized",
        "money": [],
    },
    "compliance case opened": {
        "body": {"kind": "compliance"},
        "status": "needs_response",
        "refundable": False,
        "case_type": "compliance",
        "reason": "noncompliant",
        "money": WITHDRAWN,
        "eligibility": {"visa_compliance": {"status": "requires_fee_acknowledgement"}},
    },
    "prevented": {
        "body": {"kind": "prevented"},
        "status": "prevented",
        "refundable": True,
        "case_type": "block",
        "reason": "general",
        "money": [],
    },
}


class Network:
    """Another service that reports what the card network decides."""

    def __init__(self, http: httpx.Client, key: str) -> None:
        self._http = http
        self._key = key

    def report(self, path: str, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._key}"}
        return self._http.post(f"/internal/v1{path}", json=body, headers=headers)


@pytest.fixture
def network(http: httpx.Client, account: Account, registrar: Registrar) -> Network:
    return Network(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])


def _does(raw: Caller, network: Network, dispute: Any, does: str) -> httpx.Response:
    path = f"/v1/disputes/{dispute['id']}"
    match does:
        case "close":
            return raw.post(f"{path}/close")
        case "refund":
            return raw.post("/v1/refunds", {"charge": dispute["charge"]})
        case "escalated" | "appeal_opened":
            return network.report(f"/disputes/{dispute['id']}/facts", fact=does, due_by=DUE_BY)
        case _ if does in FACTS:
            return network.report(f"/disputes/{dispute['id']}/facts", fact=does)
        case _:
            return raw.post(path, does)


def _begin_dispute(raw: Caller, network: Network, state: str) -> Any:
    kind, *steps = WAYS[state].split()
    charge = raw.charge()["id"]
    dispute = ok(network.report("/disputes", charge=charge, kind=kind))
    forms = {"submit": "evidence[service_date]=2026", "appeal": "evidence[appeal][card][reason_for_filing]=A"}
    for step in steps:
        ok(_does(raw, network, dispute, forms.get(step, step)))
    dispute = ok(raw.get(f"/v1/disputes/{dispute['id']}"))
    assert dispute["status"] == state
    return dispute


def _money(dispute: Any) -> list[int]:
    """The amounts that moved. Asserts that they fit the dispute's status (contract §3.3)."""
    transactions = dispute["balance_transactions"]
    amounts = [each["amount"] for each in transactions]
    status = dispute["status"]
    if status == "won":
        assert amounts == REVERSED
    elif status.startswith("warning_") or status == "prevented":
        assert amounts == []
    else:
        assert amounts == WITHDRAWN
    assert [each["fee"] for each in transactions] == [FEE, 0][: len(transactions)]
    assert all(each["net"] == each["amount"] - each["fee"] for each in transactions)
    assert all(each["source"] == dispute["id"] for each in transactions)
    return amounts


def _without(expected: Any, rendered: Any) -> Any:
    """`rendered`, with `...` wherever `expected` has it: any value will do there."""
    if expected is ...:
        return ...
    if isinstance(expected, dict) and isinstance(rendered, dict):
        return {name: _without(expected.get(name), value) for name, value in rendered.items()}
    return rendered


def _newest(raw: Caller) -> str:
    newest: str = ok(raw.get("/v1/events?limit=1"))["data"][0]["id"]
    return newest


def _of_dispute(events: list[Any]) -> str:
    return " ".join(
        event["type"].removeprefix("charge.dispute.")
        for event in events
        if event["type"].startswith("charge.dispute.")
    )


@rows("3.2", ROWS)
def test_a_command_or_fact(raw: Caller, network: Network, row: str) -> None:
    for case in ROWS[row]:
        dispute = _begin_dispute(raw, network, case.begins)
        newest = _newest(raw)
        answer = _does(raw, network, dispute, case.does)
        after = ok(raw.get(f"/v1/disputes/{dispute['id']}"))
        made = raw.events(f"ending_before={newest}")
        assert after["status"] == case.status, case
        _money(after)
        if case.error is not None:
            code = "charge_disputed" if case.does == "refund" else None
            assert_refused(answer, code=code, param=case.param, message=case.error)
            assert (after, made) == (dispute, []), case
            continue
        assert answer.status_code == 200, (case, answer.text)
        of_dispute = [event for event in made if event["data"]["object"]["id"] == dispute["id"]]
        assert _of_dispute(of_dispute) == case.events, case
        by_request = case.does != "refund" and case.does not in FACTS
        for event in of_dispute:
            assert event["data"]["object"] == after, case
            expected = {"id": answer.headers["request-id"], "idempotency_key": None}
            assert event["request"] == (expected if by_request else NOBODY), case
            previous = event["data"].get("previous_attributes")
            if event["type"] == "charge.dispute.updated":
                assert _without(case.previous, previous) == case.previous, (case, previous)
            else:
                assert previous is None, case
        if case.does == "refund":
            assert [event["type"] for event in made[:2]] == ["refund.created", "charge.refunded"]
            assert made[2:] == of_dispute
        else:
            assert made == of_dispute
            assert by_request is False or answer.json() == after


@rows("3.2", OPENINGS)
def test_an_opening(raw: Caller, network: Network, row: str) -> None:
    expected = OPENINGS[row]
    charge = raw.charge(description="A hat")
    dispute = ok(network.report("/disputes", charge=charge["id"], **expected["body"]))
    assert dispute["status"] == expected["status"]
    assert dispute["is_charge_refundable"] is expected["refundable"]
    assert dispute["reason"] == expected["reason"]
    assert dispute["payment_method_details"]["card"]["case_type"] == expected["case_type"]
    assert _money(dispute) == expected["money"]
    details = dispute["evidence_details"]
    assert details["enhanced_eligibility"] == expected.get("eligibility", {})
    assert (details["has_evidence"], details["past_due"]) == (False, False)
    assert (details["submission_count"], details["submission_method"]) == (0, "not_submitted")
    first, *made = raw.events()
    assert first["type"] == "charge.succeeded"
    assert _of_dispute(made) == ("created funds_withdrawn" if expected["money"] else "created")
    for event in made:
        assert event["data"] == {"object": dispute}
        assert event["request"] == NOBODY
    assert ok(raw.get(f"/v1/charges/{charge['id']}")) == charge | {"disputed": True}


@pytest.mark.contract("2.2 field status")
def test_a_state_that_does_not_list_a_fact_refuses_it(raw: Caller, network: Network) -> None:
    """Contract §3.1: a fact that §3.2 does not list for a state changes nothing and moves no money."""
    listed = {(case.begins, case.does) for cases in ROWS.values() for case in cases if case.error is None}
    for state in WAYS:
        dispute = _begin_dispute(raw, network, state)
        newest = _newest(raw)
        for fact in FACTS:
            if (state, fact) not in listed:
                answer = _does(raw, network, dispute, fact)
                assert_refused(answer, 409, code="dispute_state", message=f"{fact} cannot follow")
        assert ok(raw.get(f"/v1/disputes/{dispute['id']}")) == dispute
        assert raw.events(f"ending_before={newest}") == []


def test_staged_evidence_is_submitted_with_the_rest_and_again_after_an_escalation(
    raw: Caller, network: Network
) -> None:
    dispute = _begin_dispute(raw, network, "warning_needs_response")
    ok(_does(raw, network, dispute, f"{NAME}&submit=false"))
    sent = ok(_does(raw, network, dispute, "evidence[service_date]=2026"))
    assert sent["evidence"]["customer_name"] == "J"
    ok(_does(raw, network, dispute, "escalated"))
    escalated = ok(raw.get(f"/v1/disputes/{dispute['id']}"))
    details = escalated["evidence_details"]
    assert escalated["evidence"] == sent["evidence"]
    assert (details["due_by"], details["has_evidence"], details["submission_count"]) == (DUE_BY, True, 1)
    again = ok(_does(raw, network, dispute, "submit=true"))
    assert (again["status"], again["evidence_details"]["submission_count"]) == ("under_review", 2)


def test_a_refund_after_a_won_dispute_moves_money_of_its_own(raw: Caller, network: Network) -> None:
    dispute = _begin_dispute(raw, network, "won")
    newest = _newest(raw)
    refund = ok(_does(raw, network, dispute, "refund"))
    made = raw.events(f"ending_before={newest}")
    assert [event["type"] for event in made] == ["refund.created", "charge.refunded"]
    moved = ok(raw.get(f"/v1/balance_transactions?source={refund['id']}"))["data"]
    assert [each["amount"] for each in moved] == [-2000]
    assert ok(raw.get(f"/v1/disputes/{dispute['id']}")) == dispute


def test_an_appeal_after_losing_evidence_waits_for_the_network(raw: Caller, network: Network) -> None:
    dispute = raw.dispute()
    path = f"/v1/disputes/{dispute['id']}"
    ok(raw.post(path, "evidence[uncategorized_text]=losing_evidence"))
    ok(_does(raw, network, dispute, "appeal_opened"))
    assert_refused(raw.post(path, "submit=true"), param="evidence")
    ok(raw.post(path, "evidence[appeal][card][reason_for_filing]=New+facts"))
    assert ok(raw.get(path))["status"] == "appeal_under_review"
    ok(_does(raw, network, dispute, "won"))
    assert _money(ok(raw.get(path))) == REVERSED
