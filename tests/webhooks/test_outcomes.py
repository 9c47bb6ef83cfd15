"""Outcomes of attempts in batches: few statements, every attempt on record, no circle of locks."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import DEFAULT, AsyncMock

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger.clock import Clock
from ledger.postgres.connections import open_connection
from ledger.webhooks import deliveries
from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.schedule.outcomes import Outcome, OutcomeRecorder, record_outcomes

BATCH = 100
ENDPOINTS = 4
INSERT_DELIVERY = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
VALUES (%s, %s, %s, 'acct_1', false, 0, 0, 0, 'customer.created', now())
"""
RECORDED = """
SELECT d.state, d.tries, a.number, a.status, a.answer, a.error
FROM webhooks.deliveries d LEFT JOIN webhooks.attempts a ON a.delivery = d.id ORDER BY d.id
"""
ACCEPTED = Attempt(1.0, 5, 200, b"ok", None)
REFUSED = Attempt(1.0, 5, None, None, "refused")


def make_outcomes(dsn: str, prefix: str, attempt: Attempt) -> list[Outcome]:
    """Outcomes of BATCH new deliveries to ENDPOINTS endpoints, in the order in which they are recorded."""
    outcomes = [
        Outcome(f"dlv_{prefix}{number:03d}", f"we_{number % ENDPOINTS}", "acct_1", "delivered", None, attempt)
        for number in range(BATCH)
    ]
    if not attempt.succeeded:
        outcomes = [outcome._replace(state="failed") for outcome in outcomes]
    with psycopg.connect(dsn) as conn:
        rows = [(outcome.delivery, outcome.delivery, outcome.endpoint) for outcome in outcomes]
        conn.cursor().executemany(INSERT_DELIVERY, rows)
    return sorted(outcomes, key=lambda outcome: (outcome.endpoint, outcome.delivery))


def load_recorded(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(RECORDED).fetchall()


async def record(dsn: str, *batches: list[Outcome]) -> None:
    """Record the batches at the same time, each as a process does."""
    recorders = [OutcomeRecorder(dsn, Clock(), outcomes_max=BATCH) for _ in batches]
    for recorder in recorders:
        await recorder.start()
    pairs = zip(recorders, batches, strict=True)
    await asyncio.gather(*(recorder.record(outcome) for recorder, batch in pairs for outcome in batch))
    for recorder in recorders:
        await recorder.close()


def test_a_batch_of_successes_is_one_statement(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = make_outcomes(dsn, "", ACCEPTED)

    async def count_statements() -> int:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            execute = AsyncMock(side_effect=conn.execute)
            monkeypatch.setattr(AsyncConnection, "execute", execute)
            await record_outcomes(conn, outcomes, 1.0, set())
            return execute.await_count

    assert asyncio.run(count_statements()) == 1
    assert load_recorded(dsn) == [("delivered", 1, 1, 200, b"ok", None)] * BATCH


def test_a_success_in_a_batch_ends_the_failure_of_its_endpoint(dsn: str) -> None:
    asyncio.run(record(dsn, make_outcomes(dsn, "a", REFUSED)))
    asyncio.run(record(dsn, make_outcomes(dsn, "b", ACCEPTED)))
    with psycopg.connect(dsn) as conn:
        rows = conn.execute("SELECT failing, attempts FROM webhooks.endpoint_health").fetchall()
    assert rows == [(False, BATCH // ENDPOINTS)] * ENDPOINTS


def test_processes_that_record_at_once_lose_nothing(dsn: str) -> None:
    batches = [
        make_outcomes(dsn, prefix, attempt)
        for prefix, attempt in (("a", REFUSED), ("b", ACCEPTED), ("c", REFUSED), ("d", ACCEPTED))
    ]
    asyncio.run(record(dsn, *batches))
    refused = [("failed", 1, 1, None, None, "refused")] * BATCH
    accepted = [("delivered", 1, 1, 200, b"ok", None)] * BATCH
    assert load_recorded(dsn) == refused + accepted + refused + accepted


def test_what_is_recorded_is_not_recorded_again_after_a_deadlock(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted, refused = make_outcomes(dsn, "a", ACCEPTED)[:1], make_outcomes(dsn, "b", REFUSED)[:1]
    record_outcome = deliveries.record_outcome
    deadlock = psycopg.errors.DeadlockDetected("deadlock detected")
    monkeypatch.setattr(
        deliveries, "record_outcome", AsyncMock(side_effect=[deadlock, DEFAULT], wraps=record_outcome)
    )
    asyncio.run(record(dsn, accepted + refused))
    made = [row[1:4] for row in load_recorded(dsn) if row[1]]
    assert made == [(1, 1, 200), (1, 1, None)]


def test_a_batch_is_recorded_although_its_connection_was_lost(dsn: str) -> None:
    first, second = make_outcomes(dsn, "", ACCEPTED)[:2]

    async def lose_connection() -> None:
        recorder = OutcomeRecorder(dsn, Clock(), outcomes_max=BATCH)
        await recorder.start()
        await recorder.record(first)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ledger webhook outcomes'"
            )
        await recorder.record(second)
        await recorder.close()

    asyncio.run(lose_connection())
    assert [row[0] for row in load_recorded(dsn)].count("delivered") == 2
