"""A consumer of the Python library is stopped at an awkward moment: it ends all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from ledger_feed import Consumer, Feed, Item, PostgresPositions
from ledger_feed.backoff import Backoff
from ledger_feed.positions import Reached
from tests.feed_clients.ledger import ConsumerDatabase, RestartableLedger

END_SECONDS = 15
"""Less than a poll of the feed takes."""


async def apply_nothing(conn: psycopg.AsyncConnection[Any], item: Item) -> None:
    """The handler of a consumer that only moves its position."""


async def run_to_its_end(consumer: Consumer, feed: Feed, positions: PostgresPositions) -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            await consumer.run()
    finally:
        await feed.aclose()
        await positions.aclose()


def test_a_caller_that_is_cancelled_after_a_stop_is_told_so(
    ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """Whoever has set a time limit learns that it has passed."""

    async def apply_slowly(conn: psycopg.AsyncConnection[Any], item: Item) -> None:
        consumer.stop()
        await asyncio.sleep(END_SECONDS)

    async def story() -> None:
        await positions.ensure_tables()
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await consumer.run()
        finally:
            await feed.aclose()
            await positions.aclose()

    feed = Feed(ledger.service.url, ledger.feed_key, whole_ledger=True)
    positions = PostgresPositions(database.url, "slow")
    consumer = Consumer(feed, positions, apply_slowly)
    asyncio.run(story())


def test_a_stop_while_the_position_is_loaded_ends_it(
    ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """In Python 3.11 a query of psycopg 3.2 may end well although its task was cancelled."""

    class PositionsThatAreNotCancelled(PostgresPositions):
        async def load(self, filter: str) -> Reached:
            reached = await super().load(filter)
            consumer.stop()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            return reached

    async def story() -> None:
        await positions.ensure_tables()
        await run_to_its_end(consumer, feed, positions)

    feed = Feed(ledger.service.url, ledger.feed_key, whole_ledger=True)
    positions = PositionsThatAreNotCancelled(database.url, "loading", begin_after=ledger.read_head())
    consumer = Consumer(feed, positions, apply_nothing)
    asyncio.run(story())


def test_a_stop_before_the_database_is_lost_in_a_batch_waits_for_no_other_try(
    ledger: RestartableLedger, database: ConsumerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next_wait_seconds", lambda self: 30.0)  # as after many failures

    async def lose_the_database(conn: psycopg.AsyncConnection[Any], item: Item) -> None:
        consumer.stop()
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async def story() -> None:
        await positions.ensure_tables()
        await run_to_its_end(consumer, feed, positions)

    feed = Feed(ledger.service.url, ledger.feed_key, whole_ledger=True)
    positions = PostgresPositions(database.url, "losing")
    consumer = Consumer(feed, positions, lose_the_database)
    asyncio.run(story())
    assert database.read_position() == 0
