"""Applies the feed to a database: each event once, in order, whatever is cut, killed or restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import psycopg

from ledger_feed.backoff import Backoff
from ledger_feed.feed import Feed
from ledger_feed.items import Batch, Item, PositionMovedBack
from ledger_feed.positions import Connection, PostgresPositions

Handler = Callable[[Connection, Item], Awaitable[None]]
"""Applies one item through the connection of the transaction, which it leaves open."""

_log = logging.getLogger("ledger_feed")


class Consumer:
    """Hands each item to `handler` in the transaction that moves the position.

    Either both are committed or neither, so a killed consumer goes on where its database says. Several
    instances of one consumer may run: a transaction holds the row of the position, and applies only what
    follows it. A transaction applies what has just arrived, at most `batch_items_max` items.
    """

    def __init__(
        self, feed: Feed, positions: PostgresPositions, handler: Handler, *, batch_items_max: int = 500
    ) -> None:
        self._feed = feed
        self._positions = positions
        self._handler = handler
        self._batch_items_max = batch_items_max
        self._backoff = Backoff()
        self._work: asyncio.Task[None] | None = None
        self._is_stopped = asyncio.Event()  # type checkers believe that a plain bool stays what it was
        self._is_applying = False

    async def run(self) -> None:
        """Apply what comes, until `stop`.

        Raises errors of FeedError, and what the handler raises, after rolling back its batch. A lost database
        is waited for.
        """
        if self._is_stopped.is_set():
            return
        self._work = asyncio.create_task(self._apply_all())
        try:
            await self._work
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            assert caller is not None
            if not self._is_stopped.is_set() or caller.cancelling():
                raise

    def stop(self) -> None:
        """End `run` after the batch that is being applied. A signal handler of the loop may call it."""
        self._is_stopped.set()
        if self._work is not None and not self._is_applying:
            self._work.cancel()

    async def _apply_all(self) -> None:
        while not self._is_stopped.is_set():
            try:
                await self._follow()
            except PositionMovedBack:
                _log.warning("the position of %s was set back: going on from there", self._positions.consumer)
            except psycopg.OperationalError as error:
                _log.warning(
                    "the database of %s failed, and is tried again: %s", self._positions.consumer, error
                )
                if not self._is_stopped.is_set():  # while it applied: nothing was cancelled
                    await self._backoff.wait()

    async def _follow(self) -> None:
        """Apply what follows the committed position, until the database fails."""
        position, last = await self._positions.load(self._feed.filter)
        if self._is_stopped.is_set():  # a query of psycopg before 3.3 may end well although it was cancelled
            return
        async with aclosing(self._feed.follow(position, last)) as batches:
            async for batch in batches:
                for part in batch.split(self._batch_items_max):
                    self._is_applying = True
                    try:
                        await self._apply(part)
                    finally:
                        self._is_applying = False
                    self._backoff.reset()
                    if self._is_stopped.is_set():
                        return

    async def _apply(self, batch: Batch) -> None:
        """One transaction. The locked position decides: what another instance has applied is left out."""
        async with self._positions.lock(self._feed.filter) as (conn, position):
            for item in batch.list_after(position):
                try:
                    await self._handler(conn, item)
                except Exception as error:
                    error.add_note(f"while handling position {item.position}; its batch was rolled back")
                    raise
            if batch.position > position:
                await self._positions.move(conn, batch)
