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
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at, leased_until)
VALUES (%s, %s, %s, 'acct_1', false, 0, 0, 0, 'customer.created', now(), now() + interval '1 minute')
"""
RECORDED = """
SELECT d.state, d.tries, a.number, a.status, a.answer, a.error
FROM webhooks.deliveries d LEFT JOIN webhooks.attempts a ON a.delivery = d.id ORDER BY d.id
"""
ACCEPTED = Attempt(1.0, 5, 200, b"ok", None)
HOLD_DELIVERY = "SELECT FROM webhooks.deliveries WHERE id = %s FOR UPDATE"
HOLD_HEALTH = "UPDATE webhooks.endpoint_health SET asked_until = NULL WHERE endpoint = %s"
WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ledger webhook outcomes'
AND wait_event_type = 'Lock'
"""
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
            await record_outcomes(conn, outcomes, 1.0)
            return execute.await_count

    assert asyncio.run(count_statements()) == 1
    assert load_recorded(dsn) == [("delivered", 1, 1, 200, b"ok", None)] * BATCH


@pytest.mark.parametrize("given_up", ["failed", "dropped"])
def test_what_was_given_up_while_its_attempt_was_under_way_is_delivered_if_it_is_accepted(
    dsn: str, given_up: str
) -> None:
    """As by the end of a replay. One of them is recorded alone, because its endpoint fails."""
    asyncio.run(record(dsn, make_outcomes(dsn, "a", REFUSED)[:1]))
    batch = make_outcomes(dsn, "b", ACCEPTED)
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE webhooks.deliveries SET state = %s", (given_up,))
    asyncio.run(record(dsn, batch[:1] + batch[-1:]))
    accepted = [row for row in load_recorded(dsn) if row[3] == 200]
    assert accepted == [("delivered", 1, 1, 200, b"ok", None)] * 2


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


def test_after_an_error_nothing_is_recorded_a_second_time(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The successes of a batch may be on record when its failures meet an error."""
    accepted, refused = make_outcomes(dsn, "a", ACCEPTED), make_outcomes(dsn, "b", REFUSED)
    record_outcome = AsyncMock(
        side_effect=[psycopg.OperationalError, *[DEFAULT] * BATCH], wraps=deliveries.record_outcome
    )
    monkeypatch.setattr(deliveries, "record_outcome", record_outcome)
    asyncio.run(record(dsn, accepted[:2] + refused[:2]))
    assert [row for row in load_recorded(dsn) if row[1]] == [
        *[("delivered", 1, 1, 200, b"ok", None)] * 2,
        *[("failed", 1, 1, None, None, "refused")] * 2,
    ]


def test_a_batch_and_whoever_retries_one_of_its_deliveries_do_not_wait_for_each_other(dsn: str) -> None:
    asyncio.run(record(dsn, make_outcomes(dsn, "a", REFUSED)))
    batch = [outcome for outcome in make_outcomes(dsn, "b", REFUSED) if outcome.endpoint == "we_0"][:2]

    async def record_beside_a_retry() -> None:
        with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as observer:
            conn.execute("SET lock_timeout = '500ms'")
            conn.execute(HOLD_DELIVERY, [batch[1].delivery])
            recording = asyncio.create_task(record(dsn, batch))
            while observer.execute(WAITS).fetchone() == (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            conn.execute(HOLD_HEALTH, [batch[1].endpoint])
            conn.commit()
            await recording

    asyncio.run(record_beside_a_retry())
    assert [row[0] for row in load_recorded(dsn)].count("failed") == BATCH + len(batch)
