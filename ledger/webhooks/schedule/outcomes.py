"""Record the outcomes of attempts in batches: those that arrive while one batch commits are the next (a group
commit). One statement records all successes of a batch.

Who locks several deliveries of an endpoint locks them by id, and the health of the endpoint after them; who
locks those of several endpoints, by endpoint: so processes do not wait for each other in a circle. What a
batch could not record at the second try is attempted again when its lease has expired; what the first try has
recorded, perhaps without hearing of it, is not recorded twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from ledger.clock import Clock
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, Conn, ReconnectingConnection, fetch_all
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.batching import BatchQueue, Pending
from ledger.store.log import PLANNER_SETTINGS
from ledger.webhooks import deliveries
from ledger.webhooks.deliveries import Attempt, DeliveryState
from ledger.webhooks.health import HealthChange
from ledger.webhooks.schedule import order

BATCH_MAX = 128
PAUSE_SECONDS = 0.005
"""Between two batches: under load, what ends meanwhile is one batch, not several."""
TRIES_MAX = 2
_STATEMENT_SECONDS_MAX = 10
_SETTINGS = PLANNER_SETTINGS | LOCAL_COMMITS | {"statement_timeout": f"{_STATEMENT_SECONDS_MAX}s"}

# Of endpoints that do not fail: a success of another one also changes its health.
_RECORD_SUCCESSES = """
WITH attempt AS (
    SELECT * FROM unnest(%(deliveries)s::text[], %(at)s::float8[], %(duration_ms)s::integer[],
                         %(status)s::smallint[], %(answer)s::bytea[], %(sealed_answer)s::bytea[])
        AS a(delivery, at, duration_ms, status, answer, sealed_answer)
), locked AS (
    SELECT d.id FROM webhooks.deliveries d
    WHERE d.id = ANY (%(deliveries)s::text[])
      AND NOT EXISTS (SELECT FROM webhooks.endpoint_health h WHERE h.endpoint = d.endpoint AND h.failing)
    ORDER BY d.endpoint, d.id FOR UPDATE OF d
), settled AS (
    UPDATE webhooks.deliveries d
    SET tries = tries + 1, leased_until = '-infinity', state = 'delivered'
    FROM locked WHERE d.id = locked.id RETURNING d.id, d.tries
)
INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status, answer, sealed_answer)
SELECT s.id, s.tries, to_timestamp(a.at), a.duration_ms, a.status, a.answer, a.sealed_answer
FROM settled s JOIN attempt a ON a.delivery = s.id
RETURNING delivery
"""
# Whoever retries a delivery locks it, then the health of its endpoint.
_LOCK = """
SELECT FROM webhooks.deliveries WHERE id = ANY (%(ids)s::text[]) ORDER BY endpoint, id FOR UPDATE
"""
# A record releases the lease.
_UNRECORDED = """
SELECT id FROM webhooks.deliveries WHERE id = ANY (%(ids)s::text[]) AND leased_until > '-infinity'
"""


class Outcome(NamedTuple):
    """The outcome of an attempt of a delivery, or that none was made: see `deliveries.record_outcome`.
    `in_order`: others of its object may wait for it."""

    delivery: str
    endpoint: str
    account: str
    state: DeliveryState
    due_at: float | None = None
    attempt: Attempt | None = None
    in_order: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether an attempt was made and accepted."""
        return self.attempt is not None and self.attempt.succeeded


class OutcomeRecorder:
    """Records for one process."""

    def __init__(self, dsn: str, clock: Clock, *, outcomes_max: int) -> None:
        self._clock = clock
        self._connection = ReconnectingConnection(
            dsn,
            "ledger_api",
            name="webhook outcomes",
            settings=_SETTINGS,
            answer_seconds=_STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
        )
        self._queue: BatchQueue[Outcome, HealthChange | None] = BatchQueue(
            self._record_batch, batch_max=BATCH_MAX, queue_max=outcomes_max
        )

    async def start(self) -> None:
        """Begin to record."""
        self._queue.start("webhook outcomes")

    async def close(self) -> None:
        """Record what waits, then disconnect."""
        await self._queue.close()
        await self._connection.drop()

    async def record(self, outcome: Outcome) -> HealthChange | None:
        """Record an outcome and release its lease. Returns what to log of the endpoint's health, if anything.
        Raises psycopg.Error and LedgerError; then nothing was recorded."""
        return await self._queue.submit(outcome)

    async def _record_batch(self, batch: list[Pending[Outcome, HealthChange | None]]) -> None:
        outcomes = sorted((pending.item for pending in batch), key=_lock_order)
        changes: dict[str, HealthChange] = {}
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                async with self._connection as conn:
                    if tries_left < TRIES_MAX - 1:
                        outcomes = await _list_unrecorded(conn, outcomes)
                    changes = await record_outcomes(conn, outcomes, self._clock.now())
                break
            except psycopg.OperationalError:  # a deadlock, or the connection is lost
                if not tries_left:
                    raise
        for pending in batch:
            if not pending.future.done():
                pending.future.set_result(changes.get(pending.item.delivery))
        await asyncio.sleep(PAUSE_SECONDS)


async def record_outcomes(conn: Conn, outcomes: Sequence[Outcome], now: float) -> dict[str, HealthChange]:
    """Record the outcomes of different deliveries, ordered by endpoint and delivery, at `now` (unix seconds).
    Returns what to log of the endpoints' health, by delivery. Raises psycopg.Error; then some may have been
    recorded."""
    recorded = await _record_successes(
        conn, [outcome for outcome in outcomes if outcome.succeeded and not outcome.in_order]
    )
    others = [outcome for outcome in outcomes if outcome.delivery not in recorded]
    changes: dict[str, HealthChange] = {}
    if others:
        async with conn.transaction():
            if len(others) > 1:
                await conn.execute(_LOCK, {"ids": [outcome.delivery for outcome in others]})
            for outcome in others:
                change = await deliveries.record_outcome(
                    conn,
                    outcome.delivery,
                    outcome.state,
                    account=outcome.account,
                    due_at=outcome.due_at,
                    attempt=outcome.attempt,
                )
                if outcome.in_order:
                    await order.release_next(conn, outcome.delivery, now)
                if change is not None:
                    changes[outcome.delivery] = change
    return changes


async def _record_successes(conn: Conn, outcomes: Sequence[Outcome]) -> set[str]:
    """Record successes, but not of endpoints that fail. Returns the deliveries that were."""
    if not outcomes:
        return set()
    attempts = [outcome.attempt for outcome in outcomes if outcome.attempt is not None]
    parameters = {
        "deliveries": [outcome.delivery for outcome in outcomes],
        "at": [attempt.at for attempt in attempts],
        "duration_ms": [attempt.duration_ms for attempt in attempts],
        "status": [attempt.status for attempt in attempts],
        "answer": [attempt.answer for attempt in attempts],
        "sealed_answer": [attempt.sealed_answer for attempt in attempts],
    }
    return {row[0] for row in await fetch_all(conn, _RECORD_SUCCESSES, parameters)}


async def _list_unrecorded(conn: Conn, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that a try which ended in an error has not recorded."""
    parameters = {"ids": [outcome.delivery for outcome in outcomes]}
    unrecorded = {row[0] for row in await fetch_all(conn, _UNRECORDED, parameters)}
    return [outcome for outcome in outcomes if outcome.delivery in unrecorded]


def _lock_order(outcome: Outcome) -> tuple[str, str]:
    return outcome.endpoint, outcome.delivery
