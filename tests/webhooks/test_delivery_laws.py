"""Laws of a delivery, whatever is done to it in whichever order: claimed, settled, retried, dropped, left by
a process that was killed. On a real database, with the statements of the sender and of a retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one, open_connection
from ledger.webhooks import deliveries
from ledger.webhooks.deliveries import RENEW, Attempt, ClaimedDelivery
from tests.conftest import Cluster

SCHEDULE = (10.0, 20.0)
"""Seconds after the first and the second failure; the third one is the last."""
LEASE_SECONDS = 600.0
INSERT = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
VALUES (%(id)s, %(id)s, 'we_1', 'acct_1', false, 0, 1, 0, 'customer.created', to_timestamp(0))
"""
RETRY = f"UPDATE webhooks.deliveries d SET {RENEW} WHERE d.id = %(id)s"
DROP = "UPDATE webhooks.deliveries SET state = 'dropped' WHERE id = %(id)s AND state IN ('pending', 'failed')"
EXPIRE = "UPDATE webhooks.deliveries SET leased_until = '-infinity' WHERE id = %(id)s"
SELECT = """
SELECT state, tries, schedule_from, extract(epoch FROM due_at)::float8, leased_until > now()
FROM webhooks.deliveries WHERE id = %(id)s
"""
CLOSE_BREAKER = "DELETE FROM webhooks.endpoint_health"
NUMBERS = "SELECT number FROM webhooks.attempts WHERE delivery = %(id)s ORDER BY at, number"

Run = Callable[[Callable[[Conn], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="module")
def run(cluster: Cluster) -> Iterator[Run]:
    """Runs on one connection to a database of its own."""
    with cluster.create_database() as dsn, asyncio.Runner() as runner:
        context = open_connection(dsn, "ledger_api", name="test")
        conn = runner.run(context.__aenter__())
        yield lambda check: runner.run(check(conn))
        runner.run(context.__aexit__(None, None, None))


class Model:
    """One delivery, what a sender knows of it, and what must hold of it."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.id = new_id("dlv", 1)
        self.now = 1.0
        self.claimed: ClaimedDelivery | None = None
        self.attempts = 0
        self.accepted = False  # since it was retried last
        self.failures = 0  # since the schedule began
        self.dropped = False

    async def claim(self) -> None:
        """Only one that is pending, due and not claimed is. The breaker of its endpoint would hold it back
        after ten failures over a minute, of one example or of several: it has tests of its own."""
        await self.conn.execute(CLOSE_BREAKER)
        state, _, _, due_at, leased = await self.read()
        found = await deliveries.claim(
            self.conn,
            now=self.now,
            limit=1,
            endpoint_limit_default=1,
            endpoint_limits={},
            lease_seconds=LEASE_SECONDS,
        )
        assert [each.id for each in found] == (
            [self.id] if state == "pending" and due_at <= self.now and not leased else []
        )
        if found:
            assert found[0].attempts_made == self.failures
            self.claimed = found[0]

    async def settle(self, *, status: int) -> None:
        """As the sender does after an attempt."""
        if self.claimed is None:
            return
        made, succeeded = self.claimed.attempts_made, status < 300
        state: deliveries.DeliveryState = "delivered" if succeeded else "failed"
        due_at = None
        if not succeeded and made < len(SCHEDULE):
            state, due_at = "pending", self.now + SCHEDULE[made]
        before = await self.read()
        retried = before[2] > before[1]
        attempt = Attempt(self.now, 1, status, b"", None)
        await deliveries.record_outcome(
            self.conn, self.id, state, account="acct_1", due_at=due_at, attempt=attempt
        )
        self.claimed, self.attempts = None, self.attempts + 1
        after = await self.read()
        if succeeded:
            self.accepted, self.dropped = True, False
            assert after[0] == "delivered", "also if it was given up meanwhile"
        elif retried:
            assert after[0] == before[0], "a failure takes no retry back"
            assert after[3] == before[3]
        else:
            self.failures += 1
            assert after[0] == (state if before[0] == "pending" else before[0])
        assert not after[4]

    async def retry(self) -> None:
        before = await self.read()
        await self.conn.execute(RETRY, {"id": self.id, "now": self.now})
        state, _, _, due_at, leased = await self.read()
        assert (state, leased) == ("pending", before[4])
        assert due_at <= self.now + leased
        self.failures, self.accepted, self.dropped = 0, False, False

    async def drop(self) -> None:
        await self.conn.execute(DROP, {"id": self.id})
        self.dropped = (await self.read())[0] == "dropped"

    async def crash(self) -> None:
        """The sender is gone, and its lease has ended."""
        self.claimed = None
        await self.conn.execute(EXPIRE, {"id": self.id})

    async def wait(self) -> None:
        """Until it is due."""
        self.now = max(self.now + 1, (await self.read())[3])

    async def read(self) -> tuple[str, int, int, float, bool]:
        row = await fetch_one(self.conn, SELECT, {"id": self.id})
        assert row is not None
        return row[0], row[1], row[2], row[3], row[4]

    async def check(self) -> None:
        """What holds after each step."""
        state, tries, schedule_from, *_ = await self.read()
        numbers = [row[0] for row in await fetch_all(self.conn, NUMBERS, {"id": self.id})]
        assert numbers == list(range(1, self.attempts + 1)), "no attempt is lost, and numbers go on"
        assert tries == self.attempts
        assert 0 <= schedule_from <= tries + 1
        assert (state == "dropped") == self.dropped
        if state == "delivered":
            assert self.accepted
        if state == "failed":
            assert self.failures > len(SCHEDULE)


STEPS: dict[str, Callable[[Model], Awaitable[None]]] = {
    "claim": Model.claim,
    "accept": lambda model: model.settle(status=200),
    "refuse": lambda model: model.settle(status=500),
    "retry": Model.retry,
    "drop": Model.drop,
    "crash": Model.crash,
    "wait": Model.wait,
}
ATTEMPT = st.sampled_from([("claim", "accept"), ("wait", "claim", "refuse"), ("wait", "claim", "retry")])


def check_laws(run: Run, steps: list[str]) -> None:
    async def play(conn: Conn) -> None:
        model = Model(conn)
        await conn.execute("DELETE FROM webhooks.deliveries")
        await conn.execute(INSERT, {"id": model.id})
        for step in steps:
            await STEPS[step](model)
            await model.check()

    run(play)


@settings(max_examples=60)
@given(
    st.lists(st.one_of(ATTEMPT, st.sampled_from([(name,) for name in STEPS])), min_size=1, max_size=14).map(
        lambda parts: [step for part in parts for step in part]
    )
)
def test_a_retry_loses_no_attempt_and_is_not_lost(run: Run, steps: list[str]) -> None:
    check_laws(run, steps)


def test_an_endpoint_that_fails_for_minutes_is_no_loss(run: Run) -> None:
    failing = ["claim", "refuse", *["wait", "claim", "refuse"] * 2, "retry"]
    check_laws(run, failing * 5)
