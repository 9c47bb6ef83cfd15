"""What time does: turns due dates that have passed into events, as nobody's request.

A sweep looks for what is due by the one clock and decides on the object itself, exactly read; its append
checks the version. So any number of processes may sweep, a crash loses nothing, and nothing ends twice:
what is left undone is due at the next sweep. Overdue seconds are in the metrics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import psycopg
import structlog

from ledger.call import Cause
from ledger.domain import charge_decisions, dispute_decisions
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import DAY_SECONDS, Terms
from ledger.errors import LedgerError
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_one
from ledger.store.codec import State
from ledger.store.journal import Append, VersionConflict, fold_changes
from ledger.store.store import Store

KINDS = ("response", "inquiry", "capture")
PAGE_SIZE_MAX = 256
RETRY_SECONDS = 5.0
CLOCK_CAUSATION = "clock"

log = structlog.get_logger()

# By key, so that what is left behind (a row of a parked stream) never hides what comes after it.
_SELECT_DUE = """
SELECT d.id, d.moment
FROM projections.live l JOIN projections.deadlines d ON d.generation = l.generation
WHERE l.projection = 'deadlines' AND d.kind = %(kind)s AND d.moment <= %(upto)s
  AND (d.moment, d.id) > (%(moment)s, %(id)s)
ORDER BY d.moment, d.id LIMIT %(limit)s
"""
_SELECT_OLDEST_DUE = """
SELECT d.moment
FROM projections.live l JOIN projections.deadlines d ON d.generation = l.generation
WHERE l.projection = 'deadlines' AND d.kind = %(kind)s AND d.moment <= %(upto)s
ORDER BY d.moment LIMIT 1
"""


class SweepResult(NamedTuple):
    """What a sweep came to: objects looked at, and events recorded."""

    due_count: int
    expired_count: int


def timeout_seconds(kind: str, terms: Terms) -> int:
    """Seconds from a row's moment to its end."""
    return (
        charge_decisions.CAPTURE_DAYS * DAY_SECONDS
        if kind == "capture"
        else dispute_decisions.timeout_seconds(kind, terms)
    )


async def read_overdue_seconds(conn: Conn, terms: Terms, now: float) -> dict[str, float]:
    """By kind: how long ago the oldest thing still waiting should have ended; 0 when there is none."""
    overdue = {}
    for kind in KINDS:
        upto = int(now) - timeout_seconds(kind, terms)
        row = await fetch_one(conn, _SELECT_OLDEST_DUE, {"kind": kind, "upto": upto})
        overdue[kind] = 0.0 if row is None else float(upto - row[0])
    return overdue


class DeadlineSweeper:
    """Sweeps every `poll_ms`, from start to an orderly end."""

    def __init__(self, store: Store, terms: Terms, *, poll_ms: int) -> None:
        self._store = store
        self._terms = terms
        self._poll_seconds = poll_ms / 1000
        self._connection = ReconnectingConnection(store.dsn, "ledger_api", name="deadlines")
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="deadlines")

    async def close(self) -> None:
        """Finish the sweep under way, then stop."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self._connection.drop()

    async def sweep(self) -> SweepResult:
        """End what is due now, by the clock. Raises psycopg.Error, LedgerError; what ended stays so."""
        due_count = expired_count = 0
        for kind in KINDS:
            last_starts_at, last_id = -(2**62), ""
            while not self._stopping.is_set():
                async with self._connection as conn:
                    await self._store.clock.refresh(conn)
                    upto = int(self._store.clock.now()) - timeout_seconds(kind, self._terms)
                    page_start = {"moment": last_starts_at, "id": last_id, "limit": PAGE_SIZE_MAX}
                    cur = await conn.execute(_SELECT_DUE, {"kind": kind, "upto": upto, **page_start})
                    rows = await cur.fetchall()
                results = await asyncio.gather(*(self._expire(row[0]) for row in rows))
                due_count, expired_count = due_count + len(rows), expired_count + sum(results)
                if len(rows) < PAGE_SIZE_MAX:
                    break
                last_id, last_starts_at = rows[-1]
        return SweepResult(due_count, expired_count)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._poll_seconds
            try:
                await self.sweep()
            except (psycopg.Error, LedgerError) as error:
                log.warning("deadlines_delayed", reason=type(error).__name__)
                pause = RETRY_SECONDS
            except Exception as error:  # the edge: told, waited out, tried again
                log.error("fault", exc_info=error)
                pause = RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _expire(self, stream: str) -> bool:
        """Whether this ended it, and not another process or what happened meanwhile."""
        state = await self._store.streams.read(stream)
        events = self._decide(state)
        if state is None or not events:
            return False
        changes = fold_changes(events, state, causation=CLOCK_CAUSATION)
        cause = Cause(state.account, state.livemode, None, None, None)
        try:
            await self._store.journal.append(Append(cause, changes))
        except VersionConflict:
            return False
        return True

    def _decide(self, state: State | None) -> Sequence[DomainEvent]:
        now = int(self._store.clock.now())
        match state:
            case Dispute():
                return dispute_decisions.expire(state, terms=self._terms, now=now)
            case Charge():
                return charge_decisions.expire(state, now=now)
        return ()
