"""Waking those who follow the log: at once in this process, by a best-effort NOTIFY in others.

A missed wake-up costs one poll interval and nothing else, so nothing here is in a transaction with an
append (a NOTIFY inside it would halve the throughput), and at most one is sent in `PAUSE_SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from ledger.postgres.connections import Link, Role

PAUSE_SECONDS = 0.02
RETRY_SECONDS = 1.0
CHANNEL = "ledger_head"

_NOTIFY = "SELECT pg_notify(%s, %s)"


class Wake:
    """The last position this process knows of, and who waits for the next."""

    def __init__(self, dsn: str, role: Role) -> None:
        self.position = 0
        self._moved = asyncio.Event()
        self._untold = asyncio.Event()
        self._telling = Link(dsn, role, name="notify")
        self._hearing = Link(dsn, role, name="listen")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._tell(), name="notify"),
            asyncio.create_task(self._hear(), name="listen"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._telling.drop()
        await self._hearing.drop()

    def advanced_to(self, position: int) -> None:
        """This process has appended up to `position`."""
        self._saw(position)
        self._untold.set()

    async def beyond(self, position: int, *, timeout_seconds: float) -> bool:
        """Wait until a later position than `position` is known of; False when none came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.position <= position:
                    await self._moved.wait()
        return self.position > position

    def _saw(self, position: int) -> None:
        if position > self.position:
            self.position = position
            self._moved.set()
            self._moved = asyncio.Event()

    async def _tell(self) -> None:
        while True:
            await self._untold.wait()
            self._untold.clear()
            try:
                conn = await self._telling.connection()
                await conn.execute(_NOTIFY, (CHANNEL, str(self.position)))
            except psycopg.Error:
                await self._telling.drop()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _hear(self) -> None:
        while True:
            try:
                conn = await self._hearing.connection()
                await conn.execute(f"LISTEN {CHANNEL}")
                async for notice in conn.notifies():
                    self._saw(int(notice.payload))
            except (psycopg.Error, ValueError):
                await self._hearing.drop()
            await asyncio.sleep(RETRY_SECONDS)
