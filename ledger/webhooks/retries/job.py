"""Runs retries of many: makes their deliveries due, as fast as each endpoint takes them.

A step is one transaction that locks a part of a retry (its deliveries to one endpoint), makes its next ones
due and moves its place: any number of processes may run steps, and one that is killed has made each delivery
due once or not at all. A part has at most QUEUED_MAX deliveries that were not attempted, and PENDING_MAX that
are pending, as a replay has; so an endpoint that fails holds up its own part only. What is not of a job is
sent before them (`deliveries.claim`).
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.clock import Clock
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_all, fetch_one
from ledger.store.store import Store
from ledger.webhooks.replays.job import PENDING_MAX, QUEUED_MAX
from ledger.webhooks.replays.records import SYSTEM, Actor
from ledger.webhooks.retries.filters import RetryFilter
from ledger.webhooks.retries.preview import find_obstacle
from ledger.webhooks.retries.progress import (
    FILTER_COLUMNS,
    FILTER_COLUMNS_COUNT,
    Obstacle,
    PartWait,
    read_filter,
)
from ledger.webhooks.retries.records import end_retry
from ledger.webhooks.retries.selection import count_deliveries, take_deliveries
from ledger.webhooks.schedule import order
from ledger.webhooks.schedule.breaker import probe_now

PARTS_MAX = 200
"""So many parts one round goes through; the next one begins after them."""

# Parts that are not done, and of retries without any one row with no endpoint.
_UNDONE = """
SELECT r.id, p.endpoint FROM webhooks.retries r
LEFT JOIN webhooks.retry_parts p ON p.retry = r.id AND p.taken_id < r.before_id
WHERE r.ended IS NULL AND r.state = 'running'
AND (r.id > %(retry)s OR r.id = %(retry)s AND p.endpoint > %(endpoint)s)
ORDER BY r.id, p.endpoint LIMIT %(limit)s
"""
_LOCK_PART = f"""
SELECT {FILTER_COLUMNS}, p.counted_id, p.taken_id, p.waits_for, ledger.may_send_webhooks()
FROM webhooks.retries r JOIN webhooks.retry_parts p ON p.retry = r.id
WHERE r.id = %(retry)s AND p.endpoint = %(endpoint)s AND r.state = 'running' AND p.taken_id < r.before_id
FOR SHARE OF r SKIP LOCKED FOR UPDATE OF p SKIP LOCKED
"""  # noqa: S608 (a constant)
_COUNT_PENDING = """
SELECT count(*), count(*) FILTER (WHERE tries <= schedule_from)
FROM webhooks.deliveries WHERE replay = %(retry)s AND state = 'pending' AND endpoint = %(endpoint)s
"""
_MOVE_COUNT = """
UPDATE webhooks.retry_parts SET matched = matched + %(matched)s, counted_id = %(upto)s
WHERE retry = %(retry)s AND endpoint = %(endpoint)s
"""
# At the end `matched` is what was dealt with: some may have changed since they were counted.
_MOVE_PLACE = """
UPDATE webhooks.retry_parts p SET made_due = p.made_due + %(made_due)s,
    in_other_job = p.in_other_job + %(in_other_job)s, exhausted = p.exhausted + %(exhausted)s,
    unreachable = p.unreachable + %(unreachable)s, obstacle = coalesce(%(obstacle)s, p.obstacle),
    taken_id = %(upto)s,
    matched = CASE WHEN %(upto)s < %(before)s THEN p.matched
              ELSE p.made_due + p.in_other_job + p.exhausted + p.unreachable + %(made_due)s
                   + %(in_other_job)s + %(exhausted)s + %(unreachable)s END
WHERE p.retry = %(retry)s AND p.endpoint = %(endpoint)s
"""
_SET_WAIT = """
UPDATE webhooks.retry_parts SET waits_for = %(waits_for)s
WHERE retry = %(retry)s AND endpoint = %(endpoint)s
"""
# Done: no part has anything left, and nothing is pending of it.
_LOCK_DONE = """
SELECT FROM webhooks.retries r WHERE r.id = %(retry)s AND r.state = 'running'
AND NOT EXISTS (SELECT FROM webhooks.retry_parts p WHERE p.retry = r.id AND p.taken_id < r.before_id)
AND NOT EXISTS (SELECT FROM webhooks.deliveries d WHERE d.replay = r.id AND d.state = 'pending')
FOR UPDATE SKIP LOCKED
"""


class Round(NamedTuple):
    """What one round over all running retries did.

    made_due  deliveries that became due
    active    whether a retry runs
    has_more  whether the next round already has work
    """

    made_due: int = 0
    active: bool = False
    has_more: bool = False


class _LockedPart(NamedTuple):
    """A part that this process has locked, and how far it is."""

    retry: str
    endpoint: str
    chosen: RetryFilter
    counted_id: str
    taken_id: str
    waits_for: PartWait | None
    may_send: bool


class RetryJob:
    """Runs retries for one process, on this connection: no other use of it may run at the same time."""

    def __init__(self, store: Store, connection: ReconnectingConnection) -> None:
        self._clock: Clock = store.clock
        self._streams = store.streams
        self._round_after = ("", "")
        self._connection = connection

    async def advance(self) -> Round:
        """One step of each part of a running retry that no other process has locked. Raises psycopg.Error and
        Unavailable; what was committed stays."""
        async with self._connection as conn:
            retry, endpoint = self._round_after
            parameters = {"retry": retry, "endpoint": endpoint, "limit": PARTS_MAX}
            undone = await fetch_all(conn, _UNDONE, parameters)
            is_last = len(undone) < PARTS_MAX
            self._round_after = ("", "") if is_last else (undone[-1][0], undone[-1][1] or "")
            result = Round(active=bool(undone) or bool(retry))
            for retry_id, part in undone:
                await self._clock.refresh(conn)
                async with conn.transaction():
                    made_due, has_more = (
                        await self._end_if_done(conn, retry_id)
                        if part is None
                        else await self._step(conn, retry_id, part)
                    )
                result = Round(result.made_due + made_due, True, result.has_more or has_more)
        return result

    async def _end_if_done(self, conn: Conn, retry_id: str) -> tuple[int, bool]:
        if await fetch_one(conn, _LOCK_DONE, {"retry": retry_id}) is not None:
            await end_retry(conn, retry_id, "completed", Actor(SYSTEM), now=self._clock.now())
        return 0, False

    async def _step(self, conn: Conn, retry_id: str, endpoint_id: str) -> tuple[int, bool]:
        """How many deliveries became due, and whether the next step has work at once."""
        part = await _lock(conn, retry_id, endpoint_id)
        if part is None or not part.may_send:
            return 0, False
        endpoint: WebhookEndpoint | None = None
        waits_for: PartWait | None = None
        try:
            state = await self._streams.read(endpoint_id)
            assert isinstance(state, WebhookEndpoint)
            endpoint = state
        except UnreadableRecord:
            waits_for = "endpoint_unreadable"
        if waits_for != part.waits_for:
            await conn.execute(
                _SET_WAIT, {"retry": retry_id, "endpoint": endpoint_id, "waits_for": waits_for}
            )
        if endpoint is None:
            return 0, False
        if part.counted_id < part.chosen.before_id:
            await self._count(conn, part)
            return 0, True
        obstacle = find_obstacle(endpoint)
        if obstacle is not None:
            await self._leave_out(conn, part, obstacle)
            return 0, True
        return await self._take(conn, part, ordered=endpoint.dispatch.ordered)

    async def _count(self, conn: Conn, part: _LockedPart) -> None:
        """Count the next deliveries that match."""
        counted = await count_deliveries(
            conn, part.chosen, part.endpoint, part.counted_id, now=self._clock.now()
        )
        parameters = {
            "retry": part.retry, "endpoint": part.endpoint, "matched": counted.tally.matched,
            "upto": counted.upto or part.chosen.before_id,
        }  # fmt: skip
        await conn.execute(_MOVE_COUNT, parameters)

    async def _leave_out(self, conn: Conn, part: _LockedPart, obstacle: Obstacle) -> None:
        """Count the next deliveries that match as left out: nothing is sent to the endpoint."""
        counted = await count_deliveries(
            conn, part.chosen, part.endpoint, part.taken_id, now=self._clock.now()
        )
        await _move(conn, part, counted.upto, unreachable=counted.tally.matched, obstacle=obstacle)

    async def _take(self, conn: Conn, part: _LockedPart, *, ordered: bool) -> tuple[int, bool]:
        """Make the next deliveries due, as many as there is room for."""
        row = await fetch_one(conn, _COUNT_PENDING, {"retry": part.retry, "endpoint": part.endpoint})
        assert row is not None
        pending, unattempted = row
        room = min(QUEUED_MAX - unattempted, PENDING_MAX - pending)
        # Not for each delivery that was settled: a statement takes many at once.
        if room < min(QUEUED_MAX, PENDING_MAX) // 2:
            return 0, False
        now = self._clock.now()
        if not part.taken_id:  # as with a single retry: somebody says that it works again
            await probe_now(conn, part.endpoint, now)
        taken = await take_deliveries(
            conn, part.chosen, part.endpoint, part.taken_id, retry=part.retry, room=room, now=now
        )
        if ordered:
            await order.hold(conn, taken.renewed)
        made_due = len(taken.renewed)
        await _move(
            conn,
            part,
            taken.upto,
            made_due=made_due,
            in_other_job=taken.in_other_job,
            exhausted=taken.exhausted,
        )
        return made_due, True


async def _lock(conn: Conn, retry_id: str, endpoint: str) -> _LockedPart | None:
    """The part, locked until the transaction ends; None when another process has it, or it does not run."""
    row = await fetch_one(conn, _LOCK_PART.encode(), {"retry": retry_id, "endpoint": endpoint})
    if row is None:
        return None
    return _LockedPart(retry_id, endpoint, read_filter(row, [endpoint]), *row[FILTER_COLUMNS_COUNT:])


async def _move(
    conn: Conn,
    part: _LockedPart,
    upto: str | None,
    *,
    made_due: int = 0,
    in_other_job: int = 0,
    exhausted: int = 0,
    unreachable: int = 0,
    obstacle: Obstacle | None = None,
) -> None:
    """Move the place of a part to the delivery `upto`; None: to its end."""
    parameters = {
        "retry": part.retry, "endpoint": part.endpoint, "upto": upto or part.chosen.before_id,
        "before": part.chosen.before_id, "made_due": made_due, "in_other_job": in_other_job,
        "exhausted": exhausted, "unreachable": unreachable, "obstacle": obstacle,
    }  # fmt: skip
    await conn.execute(_MOVE_PLACE, parameters)
