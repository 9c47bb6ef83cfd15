"""For handlers that call other systems: events wait in a table until the call has succeeded."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from ledger_feed.backoff import Backoff
from ledger_feed.items import Item
from ledger_feed.positions import Connection

PUT = "INSERT INTO ledger_feed_inbox (consumer, position, item) VALUES (%s, %s, %s)"
LOCK_FIRST = """\
SELECT position, item FROM ledger_feed_inbox WHERE consumer = %s ORDER BY position LIMIT 1 FOR UPDATE
"""
REMOVE = "DELETE FROM ledger_feed_inbox WHERE consumer = %s AND position = %s"

Call = Callable[[Item, str], Awaitable[None]]
"""Calls another system about an item, with an idempotency key that is the same whenever it is tried."""

_log = logging.getLogger("ledger_feed")


class Inbox:
    """The inbox of one consumer, in the database of its positions.

    `put` is the handler of the consumer: an item gets into the inbox exactly once. `run` hands items to
    `call`, in order: at least once, since a process may die between a call and its record. Then the item
    comes again, under the same idempotency key. What `call` raises means: try again, and later items wait.
    """

    def __init__(
        self,
        conninfo: str,
        consumer: str,
        *,
        poll_seconds: float = 0.5,
        call_seconds_max: float = 60.0,
    ) -> None:
        self._conninfo = conninfo
        self._consumer = consumer
        self._poll_seconds = poll_seconds
        self._call_seconds_max = call_seconds_max
        self._backoff = Backoff()
        self._is_stopped = asyncio.Event()

    async def put(self, conn: Connection, item: Item) -> None:
        """Keep an item, in the transaction that moves the position."""
        await conn.execute(PUT, (self._consumer, item.position, json.dumps(item.members)))

    async def run(self, call: Call) -> None:
        """Hand items to `call` until `stop`. Of several instances, one calls and the others wait."""
        while not self._is_stopped.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as conn:
                    while not self._is_stopped.is_set():
                        if not await self._call_first(conn, call):
                            await self._pause(self._poll_seconds)
                        self._backoff.reset()
            except Exception as error:  # whatever the call raises: its author cannot list all that passes
                _log.warning("the inbox of %s failed, and is tried again: %r", self._consumer, error)
                await self._pause(self._backoff.next_wait_seconds())

    def stop(self) -> None:
        """End `run` after the call that is being made."""
        self._is_stopped.set()

    async def _call_first(self, conn: psycopg.AsyncConnection[Any], call: Call) -> bool:
        """Call with the first item, and remove it. Returns whether there was one."""
        async with conn.transaction():
            row = await (await conn.execute(LOCK_FIRST, (self._consumer,))).fetchone()
            if row is None:
                return False
            position, members = row
            async with asyncio.timeout(self._call_seconds_max):
                await call(Item.from_members(members), f"{self._consumer}:{position}")
            await conn.execute(REMOVE, (self._consumer, position))
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_stopped.wait()
        except TimeoutError:
            return
