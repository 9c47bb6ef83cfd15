"""Notify readers of the log that its head moved: in this process at once, in others by NOTIFY.

Readers also poll, so a lost notification costs one poll interval and nothing else. Therefore no NOTIFY is in
the transaction of an append (it would halve the throughput), and a process sends at most one every
`NOTIFY_INTERVAL_SECONDS`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ledger.background import BackgroundLoop
from ledger.postgres.connections import ReconnectingConnection, Role

NOTIFY_INTERVAL_SECONDS = 0.02
LISTEN_SECONDS = 5.0
CHANNEL = "ledger_head"

_NOTIFY = "SELECT pg_notify(%s, %s)"


class HeadNotifier:
    """Holds the last position of the log that this process knows of, and wakes callers who wait for the next
    one."""

    def __init__(self, dsn: str, role: Role) -> None:
        self.position = 0
        self._notified_position = 0
        self._position_changed = asyncio.Event()
        self._notify_connection = ReconnectingConnection(dsn, role, name="notify")
        self._listen_connection = ReconnectingConnection(dsn, role, name="listen")
        # Both end immediately: a poll finds whatever a lost notification would have announced.
        self._notify_loop = BackgroundLoop("notify", self._notify, close_timeout_seconds=0)
        self._listen_loop = BackgroundLoop("listen", self._listen, close_timeout_seconds=0)

    async def start(self) -> None:
        """Begin to notify other processes and to listen to them."""
        await self._notify_loop.start()
        await self._listen_loop.start()

    async def close(self) -> None:
        """Stop notifying and listening."""
        await self._notify_loop.close()
        await self._listen_loop.close()
        await self._notify_connection.drop()
        await self._listen_connection.drop()

    def advance(self, position: int) -> None:
        """Notify this process and the others that the log has events up to `position`."""
        self._update_position(position)
        self._notify_loop.wake()

    async def wait_past(self, position: int, *, timeout_seconds: float) -> bool:
        """Wait until the log is known to have a later position than `position`; False after the timeout."""
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
        """Notify other processes of the position, unless they were notified of it already, then pause."""
        position = self.position
        if position == self._notified_position:
            return
        async with self._notify_connection as conn:
            await conn.execute(_NOTIFY, (CHANNEL, str(position)))
        self._notified_position = position
        await asyncio.sleep(NOTIFY_INTERVAL_SECONDS)

    async def _listen(self) -> float:
        """Receive the positions that other processes announce, for LISTEN_SECONDS. A step has an end so that
        the loop can log a recovery."""
        async with self._listen_connection as conn:
            await conn.execute(f"LISTEN {CHANNEL}")
            async for notification in conn.notifies(timeout=LISTEN_SECONDS):
                if notification.payload.isdecimal():
                    self._update_position(int(notification.payload))
        return 0
