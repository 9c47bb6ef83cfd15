"""Time ends what waits for it: unanswered disputes, old inquiries, authorizations never captured.

A service of its own, whose clock is moved; and sweeps side by side, as two workers make them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ledger.accounts import INTERNAL_SCOPES
from ledger.deadlines import DeadlineSweeper, read_overdue_seconds
from ledger.domain.dispute import Dispute
from ledger.domain.money import DAY_SECONDS
from ledger.postgres.connections import connect
from tests.api.service import Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient
from tests.projections.corruption import UNREADABLE, Record, store_record
from tests.projections.histories import Author, catch_up, run_story

WAIT_SECONDS = 60.0
NOBODY = {"id": None, "idempotency_key": None}


class Traveller:
    """An account of the service, and its clock."""

    def __init__(self, http: httpx.Client, registrar: Registrar) -> None:
        account = registrar.account()
        self.raw = Caller(http, account.secret)
        self.operator = InternalClient(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])

    def now(self) -> int:
        return int(ok(self.operator.post("/clock", {"advance_seconds": 0.001}))["now"])

    def goes_to(self, moment: float) -> None:
        ok(self.operator.post("/clock", {"now": moment}))

    def overdue_seconds(self) -> dict[str, float]:
        """By kind."""
        exposition = self.raw.http.get("/metrics").text
        found = re.findall(
            r'^ledger_deadline_overdue_seconds\{kind="(.*)"\} (\S+)$', exposition, re.MULTILINE
        )
        return {kind: float(seconds) for kind, seconds in found}

    def until(self, path: str, **members: Any) -> Any:
        """The object once it has these members."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = ok(self.raw.get(path))
            if all(found[name] == value for name, value in members.items()):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def events_of(self, object_id: str) -> list[Any]:
        """Oldest first. After a leap of the clock the feed's days are made and dropped first, which may take
        longer than a list waits."""
        return [event for event in self.raw.events() if event["data"]["object"]["id"] == object_id]


@pytest.fixture(scope="module")
def ahead(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("deadlines")
    with cluster.create_database() as dsn:
        service = Service(dsn, place, LEDGER_DEADLINE_POLL_MS="20")
        yield service
        service.stop()


@pytest.fixture
def traveller(ahead: Service) -> Iterator[Traveller]:
    registrar = Registrar(ahead.dsn)
    with httpx.Client(base_url=ahead.url, verify=False, timeout=30) as http:
        yield Traveller(http, registrar)
    registrar.close()


@pytest.mark.contract("3.2 due_by passed")
def test_an_unanswered_dispute_is_lost_when_its_day_is_over(traveller: Traveller) -> None:
    dispute = traveller.raw.dispute()
    due_by = dispute["evidence_details"]["due_by"]
    traveller.goes_to(due_by)
    time.sleep(0.2)
    assert ok(traveller.raw.get(f"/v1/disputes/{dispute['id']}"))["status"] == "needs_response"
    traveller.goes_to(due_by + 1)
    lost = traveller.until(f"/v1/disputes/{dispute['id']}", status="lost")
    assert lost["evidence_details"]["submission_count"] == 0
    *_, closed = traveller.events_of(dispute["id"])
    assert (closed["type"], closed["request"]) == ("charge.dispute.closed", NOBODY)
    assert closed["created"] >= due_by + 1


def test_a_dispute_that_is_lost_by_the_clock_returns_what_had_been_refunded(traveller: Traveller) -> None:
    charge = traveller.raw.charge()["id"]
    ok(traveller.raw.post("/v1/refunds", {"charge": charge, "amount": 500}))
    dispute = ok(traveller.operator.post("/disputes", {"charge": charge, "kind": "chargeback"}))
    traveller.goes_to(dispute["evidence_details"]["due_by"] + 1)
    lost = traveller.until(f"/v1/disputes/{dispute['id']}", status="lost")
    assert [each["amount"] for each in lost["balance_transactions"]] == [-2000, 500]
    *_, returned, closed = traveller.events_of(dispute["id"])
    types = [event["type"].removeprefix("charge.dispute.") for event in (returned, closed)]
    assert (types, returned["request"]) == (["funds_reinstated", "closed"], NOBODY)


def test_an_inquiry_reported_after_its_deadline_waits_an_hour_for_its_outcome(traveller: Traveller) -> None:
    now = traveller.now()
    made = {"amount": 2000, "currency": "usd", "created": now - 200 * DAY_SECONDS}
    charge = ok(traveller.operator.post("/charges", made))["id"]
    inquiry = {"charge": charge, "kind": "inquiry", "created": made["created"]}
    path = f"/v1/disputes/{ok(traveller.operator.post('/disputes', inquiry))['id']}"
    due = {"charge": traveller.raw.charge()["id"], "kind": "chargeback", "due_by": now + 60}
    due_path = f"/v1/disputes/{ok(traveller.operator.post('/disputes', due))['id']}"
    traveller.goes_to(traveller.now() + 120)
    traveller.until(due_path, status="lost")  # so the sweep has passed
    assert ok(traveller.raw.get(path))["status"] == "warning_needs_response"
    traveller.goes_to(traveller.now() + 3600)
    traveller.until(path, status="warning_closed")


def test_staged_evidence_is_not_submitted_when_the_day_is_over(traveller: Traveller) -> None:
    dispute = traveller.raw.dispute()
    path = f"/v1/disputes/{dispute['id']}"
    ok(traveller.raw.post(path, {"evidence[uncategorized_text]": "winning_evidence", "submit": "false"}))
    traveller.goes_to(dispute["evidence_details"]["due_by"] + 1)
    lost = traveller.until(path, status="lost")
    details = lost["evidence_details"]
    assert (details["has_evidence"], details["submission_count"]) == (True, 0)
    assert (details["submission_method"], details["past_due"]) == ("not_submitted", False)
    assert [each["amount"] for each in lost["balance_transactions"]] == [-2000]
    types = [event["type"] for event in traveller.events_of(dispute["id"])]
    assert types[-1:] == ["charge.dispute.closed"]
    assert "charge.dispute.funds_reinstated" not in types


@pytest.mark.contract("3.2 appeal's due_by passed")
def test_an_unanswered_appeal_is_lost_when_its_day_is_over(traveller: Traveller) -> None:
    dispute = traveller.raw.dispute()
    path = f"/v1/disputes/{dispute['id']}"
    ok(traveller.raw.post(f"{path}/close"))
    due_by = traveller.now() + 20 * DAY_SECONDS
    fact = {"fact": "appeal_opened", "reference": "net-a", "due_by": due_by}
    appealed = ok(traveller.operator.post(f"/disputes/{dispute['id']}/facts", fact))
    assert (appealed["status"], appealed["evidence_details"]["due_by"]) == ("appeal_needs_response", due_by)
    traveller.goes_to(due_by)
    time.sleep(0.2)
    assert ok(traveller.raw.get(path))["status"] == "appeal_needs_response"
    traveller.goes_to(due_by + 1)
    lost = traveller.until(path, status="lost")
    assert [each["amount"] for each in lost["balance_transactions"]] == [-2000]
    *_, closed = traveller.events_of(dispute["id"])
    assert (closed["type"], closed["request"]) == ("charge.dispute.closed", NOBODY)
    assert "previous_attributes" not in closed["data"]


def test_an_answered_dispute_waits_for_the_network(traveller: Traveller) -> None:
    dispute = traveller.raw.dispute()
    path = f"/v1/disputes/{dispute['id']}"
    ok(traveller.raw.post(path, {"evidence[customer_name]": "Ada"}))
    other = traveller.raw.dispute()
    traveller.goes_to(dispute["evidence_details"]["due_by"] + DAY_SECONDS)
    traveller.until(f"/v1/disputes/{other['id']}", status="lost")  # so the sweep has passed
    assert ok(traveller.raw.get(path))["status"] == "under_review"


@pytest.mark.contract("3.2 120 days after an inquiry's creation")
def test_an_inquiry_closes_after_120_days_answered_or_not(traveller: Traveller) -> None:
    first = traveller.raw.dispute("tok_createDisputeInquiry")
    second = traveller.raw.dispute("tok_createDisputeInquiry")
    ok(traveller.raw.post(f"/v1/disputes/{second['id']}", {"evidence[customer_name]": "Ada"}))
    traveller.goes_to(first["created"] + 120 * DAY_SECONDS - 1)
    time.sleep(0.2)
    assert ok(traveller.raw.get(f"/v1/disputes/{first['id']}"))["status"] == "warning_needs_response"
    traveller.goes_to(second["created"] + 120 * DAY_SECONDS)
    for inquiry in (first, second):
        traveller.until(f"/v1/disputes/{inquiry['id']}", status="warning_closed")
        *_, closed = traveller.events_of(inquiry["id"])
        assert (closed["type"], closed["request"]) == ("charge.dispute.closed", NOBODY)


def test_an_escalated_inquiry_has_a_due_date_of_its_own(traveller: Traveller) -> None:
    inquiry = traveller.raw.dispute("tok_createDisputeInquiry")
    due_by = traveller.now() + 40 * DAY_SECONDS
    fact = {"fact": "escalated", "reference": "net-1", "due_by": due_by}
    ok(traveller.operator.post(f"/disputes/{inquiry['id']}/facts", fact))
    traveller.goes_to(due_by + 1)
    traveller.until(f"/v1/disputes/{inquiry['id']}", status="lost")


@pytest.mark.contract("4.2 charge")
def test_an_authorization_expires_after_seven_days(traveller: Traveller) -> None:
    held = traveller.raw.charge(capture="false")
    captured = traveller.raw.charge(capture="false")
    ok(traveller.raw.post(f"/v1/charges/{captured['id']}/capture"))
    traveller.goes_to(captured["created"] + 7 * DAY_SECONDS)
    expired = traveller.until(f"/v1/charges/{held['id']}", refunded=True)
    assert (expired["captured"], expired["amount_refunded"]) == (False, 2000)
    answer = traveller.raw.post(f"/v1/charges/{held['id']}/capture")
    assert_refused(answer, code="charge_expired_for_capture")
    *_, event = traveller.events_of(held["id"])
    assert (event["type"], event["request"]) == ("charge.expired", NOBODY)
    assert ok(traveller.raw.get(f"/v1/charges/{captured['id']}"))["refunded"] is False


def test_a_payment_intent_is_canceled_when_its_authorization_expires(traveller: Traveller) -> None:
    form = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    held = ok(traveller.raw.post("/v1/payment_intents", form | {"capture_method": "manual"}))
    path = f"/v1/payment_intents/{held['id']}"
    traveller.goes_to(held["created"] + 7 * DAY_SECONDS)
    canceled = traveller.until(path, status="canceled")
    assert (canceled["cancellation_reason"], canceled["amount_capturable"]) == ("expired", 0)
    assert canceled["canceled_at"] >= held["created"] + 7 * DAY_SECONDS
    charge = ok(traveller.raw.get(f"/v1/charges/{held['latest_charge']}"))
    assert (charge["captured"], charge["refunded"]) == (False, True)
    for verb in ("capture", "confirm", "cancel"):
        answer = traveller.raw.post(f"{path}/{verb}")
        assert_refused(answer, code="payment_intent_unexpected_state")
    *_, event = traveller.events_of(held["id"])
    assert (event["type"], event["request"]) == ("payment_intent.canceled", NOBODY)


def test_the_outcome_of_a_dispute_reported_late_can_still_be_reported(traveller: Traveller) -> None:
    charge = traveller.raw.charge()
    report = {"charge": charge["id"], "kind": "chargeback", "due_by": traveller.now() - DAY_SECONDS}
    dispute = ok(traveller.operator.post("/disputes", report))
    time.sleep(0.2)
    assert ok(traveller.raw.get(f"/v1/disputes/{dispute['id']}"))["status"] == "needs_response"
    traveller.goes_to(traveller.now() + 3700)
    traveller.until(f"/v1/disputes/{dispute['id']}", status="lost")


@pytest.mark.parametrize(
    ("kind", "due_by", "status"),
    [
        ("inquiry", {}, "warning_closed"),
        ("chargeback", {}, "lost"),
        ("chargeback", {"due_by": 600}, "lost"),
    ],
)
def test_nothing_is_overdue_while_the_outcome_of_a_late_report_is_waited_for(
    traveller: Traveller, kind: str, due_by: dict[str, int], status: str
) -> None:
    """An alert that fires at each import of old disputes says nothing."""
    now = traveller.now()
    charge = {
        "id": f"ch_late_{kind}_{len(due_by)}",
        "amount": 2000,
        "currency": "usd",
        "created": now - 200 * DAY_SECONDS,
    }
    ok(traveller.operator.post("/charges", charge))
    report = {"charge": charge["id"], "kind": kind, "created": now - 150 * DAY_SECONDS}
    report |= {name: now + seconds for name, seconds in due_by.items()}
    dispute = ok(traveller.operator.post("/disputes", report))
    assert len(ok(traveller.raw.get("/v1/disputes"))["data"]) == 1  # the list waits for the projections
    for seconds in (1, 1800, 1700):
        ok(traveller.operator.post("/clock", {"advance_seconds": seconds}))
        assert traveller.overdue_seconds() == {"response": 0, "inquiry": 0, "capture": 0}
        assert ok(traveller.raw.get(f"/v1/disputes/{dispute['id']}"))["status"] == dispute["status"]
    traveller.goes_to(now + 3601)
    traveller.until(f"/v1/disputes/{dispute['id']}", status=status)


def test_metrics_show_overdue_deadlines(dsn: str) -> None:
    """Without a worker: nothing is done about them."""

    async def story(author: Author) -> None:
        await author.open_dispute(await author.create_charge("tok_createDispute"))
        charge = await author.create_charge("tok_createDisputeInquiry")
        inquiry = author.states[await author.open_dispute(charge, "inquiry")]
        assert isinstance(inquiry, Dispute)
        now = inquiry.created
        await catch_up(dsn)
        async with await connect(dsn, "ledger_api", name="test") as conn:
            assert await read_overdue_seconds(conn, now) == {"response": 0, "inquiry": 0, "capture": 0}
            overdue = await read_overdue_seconds(conn, now + 120 * DAY_SECONDS + 5)
        assert overdue["inquiry"] == 5
        assert 110 * DAY_SECONDS < overdue["response"] < 113 * DAY_SECONDS

    run_story(dsn, story)


def test_metrics_name_each_kind_of_deadline(traveller: Traveller) -> None:
    assert set(traveller.overdue_seconds()) == {"response", "inquiry", "capture"}
    exposition = traveller.raw.http.get("/metrics").text
    assert 'ledger_lag_events{generation="1",projection="deadlines"}' in exposition


def sweeper(author: Author) -> DeadlineSweeper:
    return DeadlineSweeper(author.store, poll_ms=20)


def test_workers_side_by_side_act_on_each_deadline_once(dsn: str) -> None:
    async def story(author: Author) -> None:
        charges = [await author.create_charge("tok_createDispute") for _ in range(40)]
        disputes = [await author.open_dispute(charge) for charge in charges]
        await catch_up(dsn)
        await author.advance_clock(days=10)
        workers = [sweeper(author) for _ in range(4)]
        swept = await asyncio.gather(*(worker.sweep() for worker in workers))
        assert sum(each.expired_count for each in swept) == len(disputes)
        for dispute in disputes:
            state = await author.store.streams.read(dispute)
            assert isinstance(state, Dispute)
            assert (state.status, state.version) == ("lost", 2)
        assert (await workers[0].sweep()).expired_count == 0  # the rows lag behind, the truth does not
        await catch_up(dsn)
        assert (await workers[0].sweep()).due_count == 0
        for worker in workers:
            await worker.close()

    run_story(dsn, story)


def test_work_that_a_crash_left_undone_is_done_by_the_next_sweep(dsn: str) -> None:
    async def story(author: Author) -> None:
        disputes = [
            await author.open_dispute(await author.create_charge("tok_createDispute")) for _ in range(10)
        ]
        await catch_up(dsn)
        await author.advance_clock(days=10)
        crashing = sweeper(author)
        whole = crashing.expire
        done: list[str] = []

        async def dying(stream: str) -> bool:
            if len(done) == 3:
                raise RuntimeError("killed")
            done.append(stream)
            return await whole(stream)

        crashing.expire = dying  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            await crashing.sweep()
        await sweeper(author).sweep()
        for dispute in disputes:
            state = await author.store.streams.read(dispute)
            assert isinstance(state, Dispute)
            assert (state.status, state.version) == ("lost", 2)

    run_story(dsn, story)


def test_an_object_that_cannot_be_read_delays_no_other_and_is_logged_once(dsn: str) -> None:
    async def past(author: Author) -> tuple[str, str, Record]:
        bad = await author.open_dispute(await author.create_charge("tok_createDispute"))  # 1, 2 and 3
        good = await author.open_dispute(await author.create_charge("tok_createDispute"))
        await catch_up(dsn)
        await author.advance_clock(days=10)
        return bad, good, await store_record(dsn, 3, UNREADABLE["no JSON"][0])

    bad, good, was = run_story(dsn, past)

    async def story(author: Author) -> None:
        each = sweeper(author)
        with capture_logs() as logged:
            assert [(await each.sweep()).expired_count for _ in range(2)] == [1, 0]
        assert [(entry["event"], entry["stream"], entry["reason"]) for entry in logged] == [
            ("record_unreadable", bad, "not_json")
        ]
        state = await author.store.streams.read(good)
        assert isinstance(state, Dispute)
        assert state.status == "lost"
        await store_record(dsn, 3, was)
        assert (await each.sweep()).expired_count == 1
        await each.close()

    run_story(dsn, story)
