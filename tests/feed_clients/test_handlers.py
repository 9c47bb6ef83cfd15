"""A handler that fails, and what a consumer then has applied: nothing of that batch, all before it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger_feed import Consumer, Feed, Item, PostgresPositions
from tests.feed_clients.ledger import ConsumerDatabase, RestartableLedger

LIST = "INSERT INTO applied (position) VALUES (%s)"


async def consume(
    ledger: RestartableLedger, database: ConsumerDatabase, failure: Exception | None, *, failures: int = 99
) -> int:
    """Apply three events, one a transaction; the second fails so often. Returns how often it was tried."""
    head = ledger.read_head()
    feed = Feed(ledger.service.url, ledger.feed_key, whole_ledger=True)
    positions = PostgresPositions(database.url, "failing", begin_after=head - 3)
    await positions.ensure_tables()
    await (await positions.connect()).execute("CREATE TABLE IF NOT EXISTS applied (position bigint)")
    tries = 0

    async def handle(conn: AsyncConnection[Any], item: Item) -> None:
        nonlocal tries
        await conn.execute(LIST, (item.position,))
        if item.position == head - 1:
            tries += 1
            if failure is not None and tries <= failures:
                raise failure
        if item.position == head:
            consumer.stop()

    consumer = Consumer(feed, positions, handle, batch_items_max=1)
    try:
        async with asyncio.timeout(15):
            await consumer.run()
    finally:
        await feed.aclose()
        await positions.aclose()
    return tries


@pytest.fixture
def head(ledger: RestartableLedger) -> int:
    for name in ("Ada", "Bo", "Cy"):
        ledger.post("/v1/customers", {"name": name})
    return ledger.read_head()


def list_applied(database: ConsumerDatabase) -> list[int]:
    return [position for (position,) in database.read("SELECT position FROM applied ORDER BY position")]


def test_a_handler_that_raises_ends_the_consumer_and_its_batch_is_rolled_back(
    ledger: RestartableLedger, database: ConsumerDatabase, head: int
) -> None:
    with pytest.raises(KeyError) as raised:
        asyncio.run(consume(ledger, database, KeyError("colour")))
    assert raised.value.__notes__ == [f"while handling position {head - 1}; its batch was rolled back"]
    assert (list_applied(database), database.read_position()) == ([head - 2], head - 2)

    assert asyncio.run(consume(ledger, database, None)) == 1
    assert list_applied(database) == [head - 2, head - 1, head]


def test_a_deadlock_or_a_lost_database_in_a_handler_is_tried_again(
    ledger: RestartableLedger, database: ConsumerDatabase, head: int
) -> None:
    failure = psycopg.errors.DeadlockDetected("deadlock detected")
    assert asyncio.run(consume(ledger, database, failure, failures=2)) == 3
    assert list_applied(database) == [head - 2, head - 1, head]


def test_a_consumer_that_begins_at_the_head_gets_only_what_comes_from_then_on(
    ledger: RestartableLedger, database: ConsumerDatabase, head: int
) -> None:
    async def read_head() -> int:
        feed = Feed(ledger.service.url, ledger.account_feed_key, types=["dispute.won"])
        try:
            return await feed.read_head()
        finally:
            await feed.aclose()

    assert asyncio.run(read_head()) == head
