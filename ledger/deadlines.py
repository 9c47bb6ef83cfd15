"""Deadlines: record the events of due dates that have passed. These events have no API request.

A sweep finds what is due by the ledger's clock in the projection `deadlines`, but decides on the object as
the log has it, and its append checks the object's version. So any number of processes may sweep, a crash
loses nothing, and nothing expires twice: what a sweep leaves undone is due at the next one. A copy of the
database does not decide what the original decides: there nothing is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.call import Cause
from ledger.domain import charge_decisions, dispute_decisions, payment_intent_decisions
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.money import DAY_SECONDS
from ledger.domain.payment_intent import PaymentIntent
from ledger.errors import UnreadableRecord
from ledger.ids import new_id
from ledger.lru import LruCache
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, ReconnectingConnection, fetch_one
from ledger.store.journal import Append, Change, VersionConflict, fold_changes
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store

TIMEOUT_SECONDS = dispute_decisions.TIMEOUT_SECONDS | {"capture": charge_decisions.CAPTURE_DAYS * DAY_SECONDS}
"""By kind: the seconds from the `moment` of a row until it is due (contract §3.2, §4.2)."""
PAGE_SIZE_MAX = 256
LOGGED_MAX = 1000
CLOCK_CAUSATION = "clock"

# Due rows are found along their index, which other indexes would only be read in addition to.
SETTINGS = PLANNER_SETTINGS | {"enable_bitmapscan": "off"}

log = structlog.get_logger()

# Each page begins after the last row of the page before, so a row that remains due (that of a parked stream)
# never hides the rows after it.
_SELECT_DUE = """
SELECT d.id, d.moment
FROM projections.live l JOIN projections.deadlines d ON d.generation = l.generation
WHERE l.projection = 'deadlines' AND d.kind = %(kind)s AND d.moment <= %(upto)s
  AND (d.moment, d.id) > (%(moment)s, %(id)s) AND (SELECT ledger.is_active_database())
ORDER BY d.moment, d.id LIMIT %(limit)s
"""
_SELECT_OLDEST_DUE = """
SELECT d.moment
FROM projections.live l JOIN projections.deadlines d ON d.generation = l.generation
WHERE l.projection = 'deadlines' AND d.kind = %(kind)s AND d.moment <= %(upto)s
ORDER BY d.moment LIMIT 1
"""


class SweepResult(NamedTuple):
    """How many objects were due, and how many of them this sweep made expire."""

    due_count: int
    expired_count: int


async def read_overdue_seconds(conn: Conn, now: float) -> dict[str, float]:
    """By kind: for how many seconds the oldest due object is overdue at `now` (unix seconds); 0 for none."""
    overdue = {}
    for kind, timeout_seconds in TIMEOUT_SECONDS.items():
        upto = int(now) - timeout_seconds
        row = await fetch_one(conn, _SELECT_OLDEST_DUE, {"kind": kind, "upto": upto})
        overdue[kind] = 0.0 if row is None else float(upto - row[0])
    return overdue


class DeadlineSweeper:
    """Sweeps every `poll_ms` from `start` to `close`. An object that cannot be read is passed over and logged
    once; it remains due."""

    def __init__(self, store: Store, *, poll_ms: int) -> None:
        self._store = store
        self._poll_seconds = poll_ms / 1000
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="deadlines",
            settings=SETTINGS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._logged: LruCache[str, str] = LruCache(LOGGED_MAX)
        self._loop = BackgroundLoop(
            "deadlines", self._sweep_step, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Begin with a first sweep."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the page of the sweep under way."""
        await self._loop.close()
        await self._connection.drop()

    async def sweep(self) -> SweepResult:
        """Make every object expire that is due now by the ledger's clock. Raises psycopg.Error and
        LedgerError; objects that expired before the error remain expired."""
        due_count = expired_count = 0
        for kind, timeout_seconds in TIMEOUT_SECONDS.items():
            last_moment, last_id = -(2**62), ""
            while not self._loop.step_should_end:
                async with self._connection as conn:
                    await self._store.clock.refresh(conn)
                    upto = int(self._store.clock.now()) - timeout_seconds
                    page_start = {"moment": last_moment, "id": last_id, "limit": PAGE_SIZE_MAX}
                    cur = await conn.execute(_SELECT_DUE, {"kind": kind, "upto": upto, **page_start})
                    rows = await cur.fetchall()
                results = await asyncio.gather(*(self.expire(row[0]) for row in rows))
                due_count, expired_count = due_count + len(rows), expired_count + sum(results)
                if len(rows) < PAGE_SIZE_MAX:
                    break
                last_id, last_moment = rows[-1]
        return SweepResult(due_count, expired_count)

    async def expire(self, stream: str) -> bool:
        """Make the object expire if its deadline has passed, and return whether it did: not when another
        process was first, a command changed the object meanwhile, or what it needs cannot be read."""
        erasures = self._store.watch.epoch
        try:
            state = await self._store.streams.read(stream)
            events, expected_versions = await self._decide(state)
            changes = fold_changes(events, state, causation=CLOCK_CAUSATION)
            if changes:
                changes += await self._follow_charge(changes[-1].state)
        except UnreadableRecord as error:
            if self._logged.get(stream) != str(error):
                log.error("record_unreadable", loop="deadlines", **error.to_log())
                self._logged.put(stream, str(error))
            return False
        if state is None or not changes:
            return False
        cause = Cause(state.account, state.livemode, None, None, None)
        try:
            await self._store.journal.append(
                Append(cause, changes, expected_versions=expected_versions, erasures=erasures)
            )
        except VersionConflict:
            return False
        return True

    async def _sweep_step(self) -> float:
        await self.sweep()
        return self._poll_seconds

    async def _follow_charge(self, state: State) -> list[Change]:
        """What follows for the payment intent if `state` is its charge, which has just expired."""
        if not isinstance(state, Charge) or state.payment_intent is None:
            return []
        intent = await self._store.streams.read(state.payment_intent)
        if not isinstance(intent, PaymentIntent):
            return []
        events = payment_intent_decisions.follow_charge(intent, state, now=int(self._store.clock.now()))
        return fold_changes(events, intent, causation=CLOCK_CAUSATION)

    async def _decide(self, state: State | None) -> tuple[Sequence[DomainEvent], dict[str, int]]:
        """The events that the deadline makes, and the versions of other streams that they rely on."""
        now = int(self._store.clock.now())
        match state:
            case Charge():
                return charge_decisions.expire(state, now=now), {}
            case Dispute():
                paid = await self._read_paid_charge(state)
                versions = {each.id: each.version for each in (paid.charge, *paid.disputes)}
                txn_id = new_id("txn", now)
                events = dispute_decisions.expire(state, paid=paid, txn_id=txn_id, now=now)
                return events, versions
        return (), {}

    async def _read_paid_charge(self, state: Dispute) -> PaidCharge:
        charge = await self._store.streams.read(state.charge)
        assert isinstance(charge, Charge), "a dispute is appended together with its ChargeDisputed"
        disputes = await asyncio.gather(*map(self._store.streams.read, charge.disputes))
        return PaidCharge(charge=charge, disputes=[each for each in disputes if isinstance(each, Dispute)])
