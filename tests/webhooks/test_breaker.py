"""The breaker of an endpoint, against a model written from docs/webhooks.md; what a receiver asks for by
Retry-After; and that a single delivery keeps its schedule (contract §5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.config import load_settings
from ledger.store.log import PLANNER_SETTINGS
from ledger.webhooks.schedule import breaker
from tests.webhooks.claims import Claims, open_claims


@pytest.fixture
def claims(dsn: str) -> Iterator[Claims]:
    with open_claims(dsn) as claims:
        yield claims


@dataclass
class Model:
    """What should be known of an endpoint after each step."""

    failures: int = 0
    failing_since: float = 0.0
    opened_at: float | None = None
    probe_at: float = 0.0
    failed_probes: int = 0

    def fail(self, at: float) -> None:
        is_probe = self.opened_at is not None and at >= self.probe_at
        self.failing_since = self.failing_since if self.failures else at
        self.failures += 1
        if self.opened_at is None and self.failures >= 10 and at - self.failing_since >= 60:
            self.opened_at, self.failed_probes, self.probe_at = at, 0, at + 30
        elif is_probe:
            self.failed_probes += 1
            self.probe_at = at + min(600, 30 * 2**self.failed_probes)

    def succeed(self) -> None:
        self.failures, self.opened_at, self.failed_probes = 0, None, 0


class BreakerMachine(RuleBasedStateMachine):
    """Deliveries to one endpoint that come, are claimed and fail or succeed, as time goes on."""

    claims: Claims

    def __init__(self) -> None:
        super().__init__()
        self.claims.clear()
        self.model = Model()
        self.under_way: list[str] = []
        self.waiting = 0

    @rule(seconds=st.sampled_from([1, 20, 31, 61, 700]))
    def advance(self, seconds: int) -> None:
        self.claims.now += seconds

    @rule(count=st.integers(1, 12))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.claims.add()
        self.waiting += count

    @rule()
    def claim(self) -> None:
        claimed = [delivery.id for delivery in self.claims.claim()]
        if self.model.opened_at is None:
            expected = self.waiting
        elif self.claims.now < self.model.probe_at or self.is_probing:
            expected = 0
        else:
            expected = min(self.waiting, 1)
        assert len(claimed) == expected
        self.is_probing |= self.model.opened_at is not None and expected == 1
        self.under_way += claimed
        self.waiting -= expected

    is_probing = False

    @precondition(lambda self: self.under_way)
    @rule(count=st.integers(1, 12))
    def fail(self, count: int) -> None:
        for delivery in [self.under_way.pop() for _ in range(min(count, len(self.under_way)))]:
            self.claims.record(delivery, "pending")
            self.waiting += 1
            if self.model.opened_at is not None and self.claims.now >= self.model.probe_at:
                self.is_probing = False
            self.model.fail(self.claims.now)

    @precondition(lambda self: self.under_way)
    @rule()
    def succeed(self) -> None:
        self.claims.record(self.under_way.pop(0), "delivered")
        self.model.succeed()
        self.is_probing = False

    @precondition(lambda self: self.under_way)
    @rule()
    def crash(self) -> None:
        """The process that has claimed dies, and the leases run out."""
        self.claims.execute("UPDATE webhooks.deliveries SET leased_until = '-infinity'")
        self.claims.execute("UPDATE webhooks.endpoint_health SET probe_until = '-infinity'")
        self.waiting += len(self.under_way)
        self.under_way, self.is_probing = [], False

    @invariant()
    def shows_the_state(self) -> None:
        shown = self.claims.read_breaker()
        assert (shown.opened_at, shown.failed_probes) == (self.model.opened_at, self.model.failed_probes)
        if self.model.opened_at is None:
            assert shown.state == "closed"
        else:
            assert shown.next_probe_at == self.model.probe_at
            is_half_open = self.is_probing or self.claims.now >= self.model.probe_at
            assert shown.state == ("half_open" if is_half_open else "open")


def test_the_breaker_is_as_the_model_says_whatever_happens(claims: Claims) -> None:
    class Machine(BreakerMachine):
        pass

    Machine.claims = claims
    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=40))


@pytest.mark.parametrize("livemode", [True, False])
def test_the_failures_of_one_delivery_do_not_change_its_schedule(claims: Claims, livemode: bool) -> None:
    """Contract §5.5: an endpoint with one failing delivery is attempted at every time of the schedule."""
    schedule = (
        load_settings().webhook_retry_seconds_live if livemode else load_settings().webhook_retry_seconds_test
    )
    delivery = claims.add()
    for pause in schedule:
        assert [claimed.id for claimed in claims.claim()] == [delivery]
        claims.record(delivery, "pending", retry_seconds=pause)
        assert claims.claim() == []
        claims.now += pause
    assert [claimed.id for claimed in claims.claim()] == [delivery]
    claims.record(delivery, "failed")


def test_a_pause_costs_no_delivery_an_attempt(claims: Claims) -> None:
    deliveries = [claims.add() for _ in range(breaker.FAILURES_MIN)]
    for claimed in claims.claim():
        claims.record(claimed.id, "pending")
    claims.now += breaker.SPREAD_SECONDS
    for claimed in claims.claim():
        claims.record(claimed.id, "pending")
    assert claims.claim() == []
    attempts = claims.execute("SELECT id, tries FROM webhooks.deliveries ORDER BY id")
    assert [row[0] for row in attempts] == deliveries
    assert {row[1] for row in attempts} == {2}
    claims.now += breaker.PAUSE_SECONDS_MIN
    (probe,) = claims.claim()
    claims.record(probe.id, "delivered")
    assert {claimed.id for claimed in claims.claim()} == {*deliveries} - {probe.id}


def test_the_pauses_between_probes_grow_to_ten_minutes(claims: Claims) -> None:
    for _ in range(breaker.FAILURES_MIN):
        claims.add()
    for _ in range(2):
        for claimed in claims.claim():
            claims.record(claimed.id, "pending")
        claims.now += breaker.SPREAD_SECONDS
    claims.now -= breaker.SPREAD_SECONDS
    for pause in (30, 60, 120, 240, 480, 600, 600):
        claims.now += pause - 1
        assert claims.claim() == []
        claims.now += 1
        (probe,) = claims.claim()
        assert claims.claim() == []
        claims.record(probe.id, "pending")


def test_a_receiver_that_asks_for_a_pause_gets_one_for_all_its_deliveries(claims: Claims) -> None:
    first, second, other = claims.add(), claims.add(), claims.add("we_2")
    assert len(claims.claim(limit=3)) == 3
    claims.record(first, "pending", retry_seconds=10, status=429, pause_seconds=100.0)
    claims.record(other, "pending", retry_seconds=10)
    claims.record(second, "delivered")  # was sent before, and does not end the pause
    third = claims.add()
    claims.now += 99
    assert [claimed.id for claimed in claims.claim()] == [other]
    assert claims.read_breaker().asked_until == claims.now + 1
    claims.now += 1
    assert {claimed.id for claimed in claims.claim()} == {first, third}
    assert claims.read_breaker().asked_until is None


def test_whoever_says_that_it_works_again_ends_the_pauses(claims: Claims) -> None:
    for _ in range(breaker.FAILURES_MIN):
        claims.add()
    for claimed in claims.claim():
        claims.record(claimed.id, "pending", status=503, pause_seconds=30.0)
    claims.now += breaker.SPREAD_SECONDS
    for claimed in claims.claim():
        claims.record(claimed.id, "pending", status=503, pause_seconds=30.0)
    assert claims.claim() == []
    claims.run(breaker.probe_now(claims._conn, "we_1", claims.now))
    assert len(claims.claim()) == 1


def test_a_claim_reads_no_backlog_of_others_for_a_probe_that_nothing_is_due_to(dsn: str) -> None:
    """A failing endpoint whose deliveries wait for their next time, beside one with many that are due."""
    with open_claims(dsn) as claims:
        delivery = claims.add("we_open")
        claims.record(delivery, "pending", retry_seconds=10_000)
        claims.execute("UPDATE webhooks.endpoint_health SET opened_at = now(), probe_at = to_timestamp(0)")
        claims.execute(
            "INSERT INTO webhooks.deliveries"
            " (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)"
            " SELECT 'dlv_' || n, 'evt_' || n, 'we_many', 'acct_1', false, 0, n, 0, 'customer.created',"
            " to_timestamp(0) FROM generate_series(1, 20000) AS n"
        )
        with psycopg.connect(dsn) as owner:
            owner.execute("ANALYZE webhooks.deliveries")
        claims.execute("BEGIN")
        for name, setting in PLANNER_SETTINGS.items():  # as the sender has them
            claims.execute(f"SET LOCAL {name} = {setting}")
        assert {claimed.endpoint for claimed in claims.claim(limit=5)} == {"we_many"}
        ((read,),) = claims.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relid = 'webhooks.deliveries'::regclass"
        )
        claims.execute("ROLLBACK")
        assert read < 200
