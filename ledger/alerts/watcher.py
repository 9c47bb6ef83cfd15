"""The watcher: looks at the service every LOOK_SECONDS, and keeps the alerts as the rules say.

Every process runs one, and the one that holds the lease looks. What it has found is committed together with
the events and the notices for receivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psycopg

from ledger.alerts.lease import Lease
from ledger.alerts.readings import Look
from ledger.alerts.records import apply_transitions, delete_old, log_transitions, read_lasting
from ledger.alerts.rules import Limits, judge
from ledger.alerts.transitions import LastingAlert, decide_transitions
from ledger.background import BackgroundLoop
from ledger.clock import Clock
from ledger.postgres.connections import Conn, ReconnectingConnection

LOOK_SECONDS = 2.0
WAIT_SECONDS = 1.0
"""How often a process that does not hold the lease asks for it."""
STEP_SECONDS_MAX = 15.0
DELETE_PAUSE_SECONDS = 3600.0


class Watcher:
    """Watches for one process, from `start` to `close`. Calls `on_events` when receivers have something to be
    told."""

    def __init__(
        self,
        connection: ReconnectingConnection,
        clock: Clock,
        lease: Lease,
        look: Look,
        limits: Limits,
        on_events: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._lease = lease
        self._look = look
        self._limits = limits
        self._on_events = on_events
        self._has_looked = False
        self._delete_at = 0.0
        self._loop = BackgroundLoop(
            "alerts", self._step, backoff_seconds_max=LOOK_SECONDS, step_timeout_seconds=STEP_SECONDS_MAX
        )

    async def start(self) -> None:
        """Begin to ask for the lease."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop, and let another process watch at once."""
        await self._loop.close()
        if self._lease.is_held:
            with suppress(psycopg.Error):
                async with self._connection as conn:
                    await self._lease.release(conn)

    async def _step(self) -> float:
        async with self._connection as conn:
            was_held, has_looked = self._lease.is_held, self._has_looked
            self._has_looked = False
            if not await self._lease.hold(conn, has_looked=has_looked):
                return WAIT_SECONDS
            if not was_held:
                self._look.forget()
                self._on_events()  # what another process has left to be sent
            await self._clock.refresh(conn)
            await self._update_alerts(conn)
            self._has_looked = True
            if time.monotonic() >= self._delete_at:
                await delete_old(conn)
                self._delete_at = time.monotonic() + DELETE_PAUSE_SECONDS
        return LOOK_SECONDS

    async def _update_alerts(self, conn: Conn) -> None:
        lasting = await read_lasting(conn)
        readings = await self._look.read(conn, self._clock.now())
        judgement = judge(readings, self._limits, {alert.key for alert in lasting})
        transitions = decide_transitions(lasting, judgement)
        if not transitions:
            return
        async with conn.transaction():
            if not await self._lease.lock(conn):
                return
            # An operator may have cleared one since it was read: then the next look decides again.
            if _list_states(await read_lasting(conn)) != _list_states(lasting):
                return
            await apply_transitions(conn, transitions)
        log_transitions(transitions)
        self._on_events()


def _list_states(alerts: Iterable[LastingAlert]) -> list[tuple[str, str]]:
    return [(alert.id, alert.state) for alert in alerts]
