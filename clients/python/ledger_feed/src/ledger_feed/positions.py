"""How far a consumer has come: a row of its database, moved in the transaction that applies the events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger_feed.errors import FilterChanged
from ledger_feed.items import Batch, LastItem

CREATE_TABLES = """\
CREATE TABLE IF NOT EXISTS ledger_feed_positions (
    consumer  text PRIMARY KEY,
    filter    text NOT NULL,
    position  bigint NOT NULL CHECK (position >= 0),
    last_item jsonb,
    moved_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS ledger_feed_inbox (
    consumer text NOT NULL,
    position bigint NOT NULL,
    item     json NOT NULL,
    PRIMARY KEY (consumer, position)
)
"""
# Two instances may start at once: CREATE TABLE IF NOT EXISTS alone fails in one of them.
LOCK_CREATION = "SELECT pg_advisory_xact_lock(hashtextextended('ledger_feed', 0))"
BEGIN_AFTER = """\
INSERT INTO ledger_feed_positions (consumer, filter, position) VALUES (%s, %s, %s)
ON CONFLICT (consumer) DO NOTHING
"""
# Before its first position a consumer has missed nothing that another filter passes.
REPLACE_FILTER = (
    "UPDATE ledger_feed_positions SET filter = %s WHERE consumer = %s AND position = 0 AND filter <> %s"
)
LOAD = "SELECT position, filter, last_item FROM ledger_feed_positions WHERE consumer = %s"
# Instances of one consumer follow each other here: the next one sees what the one before has committed.
LOCK = "SELECT position, filter FROM ledger_feed_positions WHERE consumer = %s FOR UPDATE"
MOVE = """\
UPDATE ledger_feed_positions
SET position = %s, last_item = coalesce(%s::jsonb, last_item), moved_at = now()
WHERE consumer = %s
"""

Connection = psycopg.AsyncConnection[Any]


class Reached(NamedTuple):
    """How far a consumer has come. All that passes its filter up to `position` is applied."""

    position: int
    last: LastItem | None


class PostgresPositions:
    """The position of one consumer, in the database that `conninfo` names, on one connection.

    `begin_after` is where a consumer begins that has no row yet: at the beginning of the log, or after
    `await feed.read_head()` with what comes from now on.
    """

    def __init__(self, conninfo: str, consumer: str, *, begin_after: int = 0) -> None:
        name = conninfo_to_dict(conninfo).get("application_name") or f"ledger_feed {consumer}"
        self._conninfo = make_conninfo(conninfo, application_name=name)
        self.consumer = consumer
        self._begin_after = begin_after
        self._conn: Connection | None = None

    async def ensure_tables(self, yours: str = "") -> None:
        """Create the tables if they are not there, and with `yours`, statements of SQL, your own.

        One instance after the other does it: `CREATE TABLE IF NOT EXISTS` fails in one of two that start at
        once. Or have CREATE_TABLES among your migrations.
        """
        conn = await self.connect()
        async with conn.transaction():
            await conn.execute(LOCK_CREATION)
            await conn.execute(f"{CREATE_TABLES};{yours}".encode())

    async def load(self, filter: str) -> Reached:
        """The committed position, after making the row if there is none. Raises FilterChanged."""
        conn = await self.connect()
        await conn.execute(BEGIN_AFTER, (self.consumer, filter, self._begin_after))
        await conn.execute(REPLACE_FILTER, (filter, self.consumer, filter))
        row = await (await conn.execute(LOAD, (self.consumer,))).fetchone()
        assert row is not None
        position, stored, last = row
        self._check_filter(stored, filter)
        return Reached(position, LastItem(**last) if last is not None else None)

    @asynccontextmanager
    async def lock(self, filter: str) -> AsyncIterator[tuple[Connection, int]]:
        """A transaction that holds the row, and the position in it: no other instance can move it before the
        end. Raises FilterChanged."""
        conn = await self.connect()
        async with conn.transaction():
            row = await (await conn.execute(LOCK, (self.consumer,))).fetchone()
            # A row that was deleted is before every batch, so the consumer loads anew, and begins again.
            position, stored = row or (-1, filter)
            self._check_filter(stored, filter)
            yield conn, position

    async def move(self, conn: Connection, batch: Batch) -> None:
        """Move the position to the end of the batch, in the transaction of `lock`."""
        last = json.dumps(batch.items[-1].last._asdict()) if batch.items else None
        await conn.execute(MOVE, (batch.position, last, self.consumer))

    async def connect(self) -> Connection:
        """The open connection; a new one if it was lost."""
        if self._conn is None or self._conn.closed:
            self._conn = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._conn

    async def aclose(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            await self._conn.close()

    def _check_filter(self, stored: str, requested: str) -> None:
        if stored != requested:
            raise FilterChanged(self.consumer, stored, requested)
