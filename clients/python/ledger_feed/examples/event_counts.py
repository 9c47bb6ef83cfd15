"""Counts the events of the whole ledger by type, and lists them in order: each exactly once.

Settings: API_URL, API_FEED_KEY (a key with the scope ledger_feed), DATABASE_URL (a Postgres database of
yours), CONSUMER (a name, by default event_counts), FEED_TRANSPORT (ndjson, or sse for server-sent events).
"""

import asyncio
import logging
import os
import signal
from typing import Any, Literal, cast

from psycopg import AsyncConnection

from ledger_feed import Consumer, Feed, Item, PostgresPositions

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS event_counts (type text PRIMARY KEY, count bigint NOT NULL);
CREATE TABLE IF NOT EXISTS applied_events (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    position bigint NOT NULL,
    type     text NOT NULL,
    object   text NOT NULL
)
"""
COUNT = """
INSERT INTO event_counts (type, count) VALUES (%s, 1)
ON CONFLICT (type) DO UPDATE SET count = event_counts.count + 1
"""
LIST = "INSERT INTO applied_events (position, type, object) VALUES (%s, %s, %s)"


async def apply(conn: AsyncConnection[Any], item: Item) -> None:
    """Runs in the transaction that moves the position. Neither statement could be repeated unnoticed."""
    await conn.execute(COUNT, (item.type,))
    await conn.execute(LIST, (item.position, item.type, item.object))


async def main() -> None:
    """Apply what comes, until a signal."""
    transport = cast(Literal["ndjson", "sse"], os.environ.get("FEED_TRANSPORT", "ndjson"))
    feed = Feed(os.environ["API_URL"], os.environ["API_FEED_KEY"], whole_ledger=True, transport=transport)
    positions = PostgresPositions(os.environ["DATABASE_URL"], os.environ.get("CONSUMER", "event_counts"))
    await positions.ensure_tables(CREATE_TABLES)
    consumer = Consumer(feed, positions, apply)
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, consumer.stop)
    try:
        await consumer.run()
    finally:
        await feed.aclose()
        await positions.aclose()


if __name__ == "__main__":
    logging.basicConfig(format="%(name)s: %(message)s")
    asyncio.run(main())
