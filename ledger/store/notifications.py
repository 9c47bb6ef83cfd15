"""Waking those who follow the log: at once in this process, by a best-effort NOTIFY in others.

A missed wake-up costs one poll interval and nothing else, so nothing here is in a transaction with an
append (a NOTIFY inside it would halve the throughput), and at most one is sent in `NOTIFY_INTERVAL_SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from ledger.postgres.connections import ReconnectingConnection, Role

NOTIFY_INTERVAL_SECONDS = 0.02
LISTEN_RETRY_SECONDS = 1.0
CHANNEL = "ledger_head"

_NOTIFY = "SELECT pg_notify(%s, %s)"


class HeadNotifier:
    """The last position this process knows of, and who waits for the next."""

    def __init__(self, dsn: str, role: Role) -> None:
        self.position = 0
        self._position_changed = asyncio.Event()
        self._notify_requested = asyncio.Event()
        self._notify_connection = ReconnectingConnection(dsn, role, name="notify")
        self._listen_connection = ReconnectingConnection(dsn, role, name="listen")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._notify(), name="notify"),
            asyncio.create_task(self._listen(), name="listen"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._notify_connection.drop()
        await self._listen_connection.drop()

    def advance(self, position: int) -> None:
        """This process has appended up to `position`."""
        self._update_position(position)
        self._notify_requested.set()

    async def wait_past(self, position: int, *, timeout_seconds: float) -> bool:
        """Wait until a later position than `position` is known of; False when none came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.position <= position:
                    await self._position_changed.wait()
        return self.position > position

    def _update_position(self, position: int) -> None:
        if position > self.position:
            self.position = position
            self._position_changed.set()
            self._position_changed = asyncio.Event()

    async def _notify(self) -> None:
        while True:
            await self._notify_requested.wait()
            self._notify_requested.clear()
            try:
                conn = await self._notify_connection.get()
                await conn.execute(_NOTIFY, (CHANNEL, str(self.position)))
            except psycopg.Error:
                await self._notify_connection.drop()
            await asyncio.sleep(NOTIFY_INTERVAL_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                conn = await self._listen_connection.get()
                await conn.execute(f"LISTEN {CHANNEL}")
                async for notification in conn.notifies():
                    self._update_position(int(notification.payload))
            except (psycopg.Error, ValueError):
                await self._listen_connection.drop()
            await asyncio.sleep(LISTEN_RETRY_SECONDS)
