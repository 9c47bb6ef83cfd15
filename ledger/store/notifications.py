"""Notify readers of the log that its head moved, readers of projections that these have applied it, and who
fills the projections that somebody waits for them: in this process at once, in others by NOTIFY.

All of them also poll, so a lost notification costs one poll interval and nothing else. Therefore no NOTIFY is
in the transaction of an append (it would halve the throughput), and a process sends at most one of the head
every `NOTIFY_INTERVAL_SECONDS`. A batch of the projections has it in its transaction: there is one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from psycopg.sql import SQL, Identifier

from ledger.background import BackgroundLoop
from ledger.postgres.connections import Conn, ReconnectingConnection
from ledger.postgres.sessions import Role

NOTIFY_INTERVAL_SECONDS = 0.02
LISTEN_SECONDS = 5.0
QUIET_POLL_SECONDS = 1.0
"""How often to look for what notifications announce, while they arrive."""
CHANNEL = "ledger_head"
APPLIED_CHANNEL = "ledger_applied"
WANTED_CHANNEL = "ledger_wanted"
WANTED_SECONDS = 0.05
"""For how long the projections are wanted after a reader began to wait for them."""
WANTED_NOTIFY_SECONDS = 0.025
"""A process tells others so at most this often: readers that wait one after another cost little."""

_NOTIFY = "SELECT pg_notify(%s, %s)"
_LISTEN = f"LISTEN {CHANNEL}; LISTEN {APPLIED_CHANNEL}; LISTEN {WANTED_CHANNEL}"


class HeadNotifier:
    """Holds the last position of the log that this process knows of, the last one that was acknowledged to
    somebody, and the last one that it knows to be applied by projections; wakes callers who wait for the next
    one. Knows whether somebody, in any process, waits for projections."""

    def __init__(self, dsn: str, role: Role) -> None:
        self._head = _Position()
        self._acknowledged = _Position()
        self._applied = _Position()
        self._notified_position = 0
        self._wanted = asyncio.Event()
        self._wanted_until = 0.0
        self._wakes: dict[str, Callable[[], None]] = {}
        self._listening = False
        self.on_listen: list[Callable[[Conn], Awaitable[None]]] = []
        """Called every LISTEN_SECONDS with the connection that listens, which the process keeps."""
        self._notify_connection = ReconnectingConnection(dsn, role, name="notify")
        self._listen_connection = ReconnectingConnection(dsn, role, name="listen")
        # Both end immediately: a poll finds whatever a lost notification would have announced.
        self._notify_loop = BackgroundLoop("notify", self._notify, close_timeout_seconds=0)
        self._notify_wanted_loop = BackgroundLoop("want", self._notify_wanted, close_timeout_seconds=0)
        self._listen_loop = BackgroundLoop("listen", self._listen, close_timeout_seconds=0)

    @property
    def position(self) -> int:
        """The last position of the log that this process knows of."""
        return self._head.value

    @property
    def acknowledged_position(self) -> int:
        """The last position of the log that this process knows to be durable, on the standbys too
        (`ledger.store.durability`)."""
        return self._acknowledged.value

    @property
    def applied_position(self) -> int:
        """The last position that this process knows to be applied by some projection."""
        return self._applied.value

    def subscribe(self, channel: str, wake: Callable[[], None]) -> None:
        """Call `wake` for each notification on another channel. Before `start`."""
        self._wakes[channel] = wake

    async def start(self) -> None:
        """Begin to notify other processes and to listen to them."""
        await self._notify_loop.start()
        await self._notify_wanted_loop.start()
        await self._listen_loop.start()

    async def close(self) -> None:
        """Stop notifying and listening."""
        await self._notify_loop.close()
        await self._notify_wanted_loop.close()
        await self._listen_loop.close()
        await self._notify_connection.drop()
        await self._listen_connection.drop()

    def advance(self, position: int) -> None:
        """Notify this process and the others that events up to `position` were appended and acknowledged."""
        self._head.advance(position)
        self._acknowledged.advance(position)
        self._notify_loop.wake()

    def acknowledge(self, position: int) -> None:
        """Notify this process that the log is durable up to `position`."""
        self._head.advance(position)
        self._acknowledged.advance(position)

    def advance_applied(self, position: int) -> None:
        """Notify this process that projections have applied the log up to `position`. Others are notified by
        the transaction that did it, on APPLIED_CHANNEL."""
        self._applied.advance(position)

    def want_applied(self, position: int) -> None:
        """Notify who fills the projections, here and in other processes, that somebody waits until the log is
        applied up to `position`."""
        self._head.advance(position)
        self._begin_wanted()
        self._notify_wanted_loop.wake()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody, here or in another process, has waited for projections a moment ago."""
        return asyncio.get_running_loop().time() < self._wanted_until

    async def wait_wanted(self, *, timeout_seconds: float) -> None:
        """Wait until somebody waits for projections, or until the timeout."""
        if not self.is_wanted:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._wanted.wait()

    async def wait_past(self, position: int, *, timeout_seconds: float) -> bool:
        """Wait until the log is known to have a later position than `position`; False after the timeout."""
        return await self._head.wait_for(position + 1, timeout_seconds)

    async def wait_applied(self, position: int, *, timeout_seconds: float) -> bool:
        """Wait until some projection is known to have applied the log up to `position`; False after the
        timeout. It may have been another projection than the caller's: who is woken looks again."""
        return await self._applied.wait_for(position, timeout_seconds)

    def get_poll_seconds(self, poll_seconds: float) -> float:
        """How long to wait for a notification before looking for what it would announce: `poll_seconds`, or
        longer while this process listens."""
        return max(poll_seconds, QUIET_POLL_SECONDS) if self._listening else poll_seconds

    async def _notify(self) -> None:
        """Notify other processes of what was acknowledged, unless they were notified of it already, then
        pause."""
        position = (
            self._acknowledged.value
        )  # the head may be what no standby has: those who listen rely on it
        if position == self._notified_position:
            return
        async with self._notify_connection as conn:
            await conn.execute(_NOTIFY, (CHANNEL, str(position)))
        self._notified_position = position
        await asyncio.sleep(NOTIFY_INTERVAL_SECONDS)

    async def _notify_wanted(self) -> None:
        """Notify other processes that the projections are wanted, and of the head, then pause."""
        if not self.is_wanted:
            return
        async with self._notify_connection as conn:
            await conn.execute(_NOTIFY, (WANTED_CHANNEL, str(self.position)))
        await asyncio.sleep(WANTED_NOTIFY_SECONDS)

    def _begin_wanted(self) -> None:
        self._wanted_until = asyncio.get_running_loop().time() + WANTED_SECONDS
        self._wanted.set()
        self._wanted = asyncio.Event()

    async def _listen(self) -> float:
        """Receive the positions that other processes announce, for LISTEN_SECONDS. A step has an end so that
        the loop can log a recovery."""
        advance = {
            CHANNEL: self.acknowledge,
            WANTED_CHANNEL: self._head.advance,
            APPLIED_CHANNEL: self._applied.advance,
        }
        try:
            async with self._listen_connection as conn:
                for act in self.on_listen:
                    await act(conn)
                await conn.execute(_LISTEN, prepare=False)
                for channel in self._wakes:
                    await conn.execute(SQL("LISTEN {}").format(Identifier(channel)), prepare=False)
                self._listening = True
                async for notification in conn.notifies(timeout=LISTEN_SECONDS):
                    if wake := self._wakes.get(notification.channel):
                        wake()
                    elif notification.payload.isdecimal():
                        advance[notification.channel](int(notification.payload))
                    if notification.channel == WANTED_CHANNEL:
                        self._begin_wanted()
        except BaseException:
            self._listening = False
            raise
        return 0


class _Position:
    """A position that only grows, and who waits for it."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = asyncio.Event()

    def advance(self, position: int) -> None:
        if position > self.value:
            self.value = position
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait_for(self, position: int, timeout_seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.value < position:
                    await self._changed.wait()
        return self.value >= position
