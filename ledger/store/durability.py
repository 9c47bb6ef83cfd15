"""Knows what is replicated, for what leaves the process: answers, rows that others follow, signatures.

Where Postgres waits for standbys, it may show all the same what none of them has: after an operator has ended
a commit's wait, after the primary restarted from a crash, after a commit that does not wait. A failover would
take that back. So whatever did not itself commit and wait is confirmed here first (README, invariant 3), by a
barrier: a commit without data that waits for the standbys. The log of Postgres has one order, so everything
that was visible before it is then replicated, too. Without synchronous standbys it waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from weakref import WeakSet

import psycopg

from ledger.errors import FailedOver, Unavailable
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_one, first_line
from ledger.postgres.sessions import LOST, NotReplicated, Role
from ledger.store.notifications import HeadNotifier
from ledger.time_limits import Attempts, get_request_deadline

CONFIRM_SECONDS_MAX = 6.0
FOLLOWER_SECONDS_MAX = 1.0
"""How long what follows the log waits before it goes on with what it knows to be replicated."""
BARRIER_SECONDS_MAX = 4.0
"""Less than the limit of a request, so that one that hangs leaves time for another, on another server."""
CANCEL_SECONDS_MAX = 0.5

WAITS_FOR_STANDBYS = "current_setting('synchronous_standby_names') <> ''"
"""SQL: whether commits wait for standbys. To be read by a statement that is run anyway."""

_NOT_CONFIRMED = "no synchronous standby has confirmed in time what was committed"
# A message to nobody: what only has a transaction id, or notifies, does not wait for the standbys.
_BARRIER = f"""
SELECT h.position,
       CASE WHEN {WAITS_FOR_STANDBYS} THEN pg_logical_emit_message(true, 'ledger', '') END
FROM ledger.head h
"""  # noqa: S608 (a constant)

# Changes when a standby becomes the primary, and when a backup is restored.
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"


class Durability:
    """What one process knows to be replicated, and the barriers of those who must know more. All who wait at
    one time share a barrier. `notifier` is the caller's; None for a command that runs once.

    on_failover  is called after a failover: what was read before may be lost
    """

    def __init__(self, dsn: str, role: Role, notifier: HeadNotifier | None = None) -> None:
        self._notifier = notifier or HeadNotifier(dsn, role)
        self._connection = ReconnectingConnection(
            dsn, role, name="durability", answer_seconds=BARRIER_SECONDS_MAX + CANCEL_SECONDS_MAX
        )
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._known: WeakSet[Conn] = WeakSet()
        self._timeline: str | None = None
        self.failovers = 0
        """How many it has noticed. Who will `confirm` what it reads takes note of it before it reads."""
        self.on_failover: list[Callable[[], object]] = []

    async def close(self) -> None:
        """End the barriers under way, and close the connection."""
        tasks = [task for task in (self._next, self._current) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connection.drop()

    async def confirm(self, failovers: int | None = None) -> None:
        """Wait until everything that was visible when this was called is replicated; with `failovers`, which
        was read before, what was visible since then.

        Raises Unavailable at the limit of the request; outside of one after CONFIRM_SECONDS_MAX. Raises
        FailedOver when the server on which it was visible is lost.
        """
        attempts = Attempts(get_request_deadline(CONFIRM_SECONDS_MAX))
        failovers = self.failovers if failovers is None else failovers
        while True:
            try:
                if await self._wait_for_barrier(attempts.deadline - asyncio.get_running_loop().time()):
                    break
                failure = Unavailable(_NOT_CONFIRMED)
            except Unavailable as error:
                failure = error
            if not await attempts.pause(failure):
                raise failure
        if self.failovers != failovers:
            raise FailedOver("the database has failed over meanwhile")

    async def limit(self, head: int, *, waits_for_standbys: bool) -> int:
        """The last position up to `head` that is known to be replicated, for who follows the log. `head` was
        read from the database, and `waits_for_standbys` (WAITS_FOR_STANDBYS) with it.

        Waits for FOLLOWER_SECONDS_MAX at most if this process does not know enough.
        """
        if not waits_for_standbys:
            self._notifier.acknowledge(head)
        elif head > self._notifier.acknowledged_position:
            with suppress(Unavailable):
                await self._wait_for_barrier(FOLLOWER_SECONDS_MAX)
        return min(head, self._notifier.acknowledged_position)

    async def _wait_for_barrier(self, seconds: float) -> bool:
        """Wait for a barrier that begins after this call; False if it takes longer. Raises Unavailable."""
        if self._next is None:
            # In a context of its own: it is not the affair of the request that happens to begin it.
            self._next = asyncio.create_task(
                self._run_after(self._current), name="durability", context=Context()
            )
            self._next.add_done_callback(_observe)
        barrier = self._next
        await asyncio.wait({barrier}, timeout=seconds)
        if not barrier.done():
            return False
        barrier.result()
        return True

    async def _run_after(self, previous: asyncio.Task[None] | None) -> None:
        """Run a barrier once the previous one has ended, which may have begun too early for who waits."""
        if previous is not None:
            await asyncio.wait({previous})
        self._current, self._next = self._next, None
        try:
            async with self._connection as conn:
                await self.note_failover(conn)
                self._notifier.acknowledge(await run_barrier(conn))
        except LOST as error:
            raise Unavailable(first_line(error)) from error

    async def note_failover(self, conn: Conn) -> None:
        """Find out whether `conn` leads to a server with a later history than the one before. What this
        process has seen there may never have been replicated. To be called before a connection is used by
        whoever keeps what it reads; costs nothing from the second time on. Raises psycopg.Error."""
        if conn in self._known:
            return
        row = await fetch_one(conn, _TIMELINE)
        assert row is not None
        before = self._timeline
        if before is None or row[0] > before:
            self._timeline = row[0]
            if before is not None:
                self.failovers += 1
                for forget in self.on_failover:
                    forget()
        self._known.add(conn)


async def run_barrier(conn: Conn) -> int:
    """The log's last position, once that and everything else that was visible is replicated. `conn` must not
    be one with LOCAL_COMMITS. Raises psycopg.Error, after BARRIER_SECONDS_MAX at the latest."""
    statement = asyncio.ensure_future(fetch_one(conn, _BARRIER))
    try:
        await asyncio.wait({statement}, timeout=BARRIER_SECONDS_MAX)
        if not statement.done():
            raise NotReplicated(_NOT_CONFIRMED)
        row = statement.result()
    finally:
        if not statement.done():
            # Only here a wait may be ended: the commit has no data that anybody could see. If the connection
            # were abandoned, its backend would wait until the standby is back, and one after another (of
            # commands, too, which end with their barrier) would take all connections of the server.
            with suppress(psycopg.Error):
                await conn.cancel_safe(timeout=CANCEL_SECONDS_MAX)
        statement.cancel()
        await asyncio.gather(statement, return_exceptions=True)
    assert row is not None, "the log has a head"
    position: int = row[0]
    return position


def _observe(task: asyncio.Task[None]) -> None:
    """Take note of the error of a barrier that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
