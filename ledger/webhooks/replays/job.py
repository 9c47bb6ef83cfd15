"""Runs replays: makes deliveries of their Events, in the order of the log, as fast as the endpoint does.

A step is one transaction that locks the replay, makes deliveries of its next Events and moves its position:
any number of processes may run steps, and one that is killed has made each delivery once or not at all. A
replay has at most QUEUED_MAX deliveries that were not attempted, and PENDING_MAX that are pending; the others
of the endpoint are sent before them (`deliveries.claim`). A delivery is unique by Event and endpoint: one
that exists becomes pending again, with the whole schedule; one that is pending already, or belongs to a retry
of many that has not ended (`retries`), is left alone.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from ledger.clock import Clock
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.ids import new_id
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_all, fetch_one
from ledger.store.store import Store
from ledger.webhooks.history.retry import TRIES_MAX
from ledger.webhooks.replays.filters import ReplayFilter
from ledger.webhooks.replays.progress import WaitReason
from ledger.webhooks.replays.records import SYSTEM, Actor, end_replay
from ledger.webhooks.replays.selection import COUNT_POSITIONS_MAX, open_selector
from ledger.webhooks.schedule import order
from ledger.webhooks.subscriptions import FeedEvent

QUEUED_MAX = 200
PENDING_MAX = 1000
REPLAYS_MAX = 100
"""So many replays one round goes through; the next one begins after them."""
ACTIVE_POLL_SECONDS = 0.1
IDLE_POLL_SECONDS = 1.0

_RUNNING = """
SELECT id FROM webhooks.replays WHERE state = 'running' AND ended IS NULL AND id > %(after)s
ORDER BY id LIMIT %(limit)s
"""
_LOCK = """
SELECT id, endpoint, account, livemode, window_from, window_to, after, upto, types, only_failed, object,
       counted_position, queued_position, waits_for,
       ledger.may_send_webhooks(), (SELECT position FROM webhooks.checkpoint)
FROM webhooks.replays WHERE id = %(id)s AND state = 'running' FOR UPDATE SKIP LOCKED
"""
_COUNT_PENDING = """
SELECT count(*), count(*) FILTER (WHERE tries <= schedule_from)
FROM webhooks.deliveries WHERE replay = %(id)s AND state = 'pending'
"""
_MOVE_COUNT = """
UPDATE webhooks.replays SET total = total + %(total)s, counted_position = %(upto)s WHERE id = %(id)s
"""
_MOVE_QUEUE = """
UPDATE webhooks.replays SET queued = queued + %(queued)s, left_alone = left_alone + %(left_alone)s,
    unreadable = unreadable + %(unreadable)s, queued_position = %(upto)s
WHERE id = %(id)s
"""
_SET_WAIT = "UPDATE webhooks.replays SET waits_for = %(waits_for)s WHERE id = %(id)s"
# Due one after the other, so that they are sent in their order. A delivery whose last attempt is still under
# way begins its schedule after that one.
_QUEUE_DELIVERIES = f"""
INSERT INTO webhooks.deliveries AS d
    (id, event, endpoint, account, livemode, created, position, ordinal, type, object, due_at, replay)
SELECT n.id, n.event, %(endpoint)s, n.account, %(livemode)s, n.created, n.position, n.ordinal, n.type,
       n.object, to_timestamp(%(now)s) + n.number * interval '1 microsecond', %(replay)s
FROM unnest(%(ids)s::text[], %(events)s::text[], %(accounts)s::text[], %(created)s::bigint[],
            %(positions)s::bigint[], %(ordinals)s::smallint[], %(types)s::text[],
            %(objects)s::text[]) WITH ORDINALITY
    AS n (id, event, account, created, position, ordinal, type, object, number)
ORDER BY n.number
ON CONFLICT ON CONSTRAINT deliveries_once DO UPDATE
SET state = 'pending', due_at = excluded.due_at, replay = excluded.replay, object = excluded.object,
    schedule_from = d.tries + (d.leased_until > now())::integer
WHERE d.state <> 'pending' AND d.tries < {TRIES_MAX}
  AND NOT EXISTS (SELECT FROM webhooks.retries r WHERE r.id = d.replay AND r.ended IS NULL)
RETURNING d.id
"""  # noqa: S608 (a constant)

log = structlog.get_logger()


class Round(NamedTuple):
    """What one round over all running replays did.

    queued    deliveries that became due
    active    whether a replay runs
    has_more  whether the next round already has work
    """

    queued: int = 0
    active: bool = False
    has_more: bool = False


class _LockedReplay(NamedTuple):
    """A running replay as this process has locked it. Of its filter, `thin` and `events_from` are not known
    yet."""

    id: str
    chosen: ReplayFilter
    counted_position: int
    queued_position: int
    waits_for: WaitReason | None
    may_send: bool
    fanned_out: int


class ReplayJob:
    """Runs replays for one process, on this connection: no other use of it may run at the same time."""

    def __init__(self, store: Store, connection: ReconnectingConnection) -> None:
        self._codec = store.codec
        self._clock: Clock = store.clock
        self._streams = store.streams
        self._round_after = ""
        self._connection = connection

    async def advance(self) -> Round:
        """One step of each running replay that no other process has locked. Raises psycopg.Error and
        Unavailable; what was committed stays."""
        result = Round()
        async with self._connection as conn:
            parameters = {"after": self._round_after, "limit": REPLAYS_MAX}
            running = [row[0] for row in await fetch_all(conn, _RUNNING, parameters)]
            is_last = len(running) < REPLAYS_MAX
            self._round_after = "" if is_last else running[-1]
            result = Round(active=bool(parameters["after"]) or not is_last)
            for replay_id in running:
                await self._clock.refresh(conn)
                async with conn.transaction():
                    queued, has_more = await self._step(conn, replay_id)
                result = Round(result.queued + queued, True, result.has_more or has_more)
        return result

    async def _step(self, conn: Conn, replay_id: str) -> tuple[int, bool]:
        """How many deliveries became due, and whether the next step has work at once."""
        replay = await _lock(conn, replay_id)
        if replay is None or not replay.may_send:
            return 0, False
        waits_for: WaitReason | None
        try:
            endpoint = await self._streams.read(replay.chosen.endpoint)
        except UnreadableRecord:
            endpoint, waits_for = None, "endpoint_unreadable"
        else:
            assert isinstance(endpoint, WebhookEndpoint)
            if endpoint.deleted:
                actor = Actor(SYSTEM, "the endpoint was deleted")
                await end_replay(conn, replay.id, "cancelled", actor, now=self._clock.now())
                return 0, False
            waits_for = _find_wait(replay, endpoint)
        if waits_for != replay.waits_for:
            await conn.execute(_SET_WAIT, {"id": replay.id, "waits_for": waits_for})
        if endpoint is None or waits_for == "endpoint_disabled":
            return 0, False
        chosen = replay.chosen._replace(thin=endpoint.is_thin, events_from=endpoint.destination.events_from)
        if replay.counted_position < chosen.upto:
            await self._count(conn, replay, chosen)
            return 0, True
        return await self._queue(conn, replay, chosen, ordered=endpoint.dispatch.ordered)

    async def _count(self, conn: Conn, replay: _LockedReplay, chosen: ReplayFilter) -> None:
        """Count the Events of the next part of the window."""
        upto = min(chosen.upto, replay.counted_position + COUNT_POSITIONS_MAX)
        selector = await open_selector(conn, self._codec, chosen)
        tally = await selector.count(conn, replay.counted_position, upto)
        await conn.execute(_MOVE_COUNT, {"id": replay.id, "total": tally.total, "upto": upto})

    async def _queue(
        self, conn: Conn, replay: _LockedReplay, chosen: ReplayFilter, *, ordered: bool
    ) -> tuple[int, bool]:
        """Make deliveries of the next Events, as many as there is room for; end the replay when all are
        settled."""
        row = await fetch_one(conn, _COUNT_PENDING, {"id": replay.id})
        assert row is not None
        pending, unattempted = row
        if replay.queued_position >= chosen.upto:
            if not pending:
                await end_replay(conn, replay.id, "completed", Actor(SYSTEM), now=self._clock.now())
            return 0, False
        # What the fan-out has not dealt with yet may be owed to the endpoint anyway.
        reachable = min(chosen.upto, replay.fanned_out)
        room = min(QUEUED_MAX - unattempted, PENDING_MAX - pending)
        # Not for each delivery that was settled: a statement makes many at once.
        if replay.queued_position >= reachable or room < min(QUEUED_MAX, PENDING_MAX) // 2:
            return 0, False
        selector = await open_selector(conn, self._codec, chosen._replace(upto=reachable))
        selection = await selector.select(conn, replay.queued_position, room)
        queued = await self._make_deliveries(conn, replay, selection.events, ordered=ordered)
        await conn.execute(
            _MOVE_QUEUE,
            {
                "id": replay.id,
                "queued": queued,
                "left_alone": len(selection.events) - queued,
                "unreadable": selection.unreadable,
                "upto": selection.upto,
            },
        )
        return queued, True

    async def _make_deliveries(
        self, conn: Conn, replay: _LockedReplay, events: list[FeedEvent], *, ordered: bool
    ) -> int:
        if not events:
            return 0
        now = self._clock.now()
        parameters = {
            "now": now,
            "endpoint": replay.chosen.endpoint,
            "livemode": replay.chosen.livemode,
            "replay": replay.id,
            "ids": sorted(new_id("dlv", now) for _ in events),
            "events": [event.id for event in events],
            "accounts": [event.account for event in events],
            "created": [event.created for event in events],
            "positions": [event.position for event in events],
            "ordinals": [event.ordinal for event in events],
            "types": [event.type for event in events],
            "objects": [event.stream if ordered else None for event in events],
        }
        queued = [row[0] for row in await fetch_all(conn, _QUEUE_DELIVERIES.encode(), parameters)]
        if ordered:
            await order.hold(conn, queued)
        return len(queued)


async def _lock(conn: Conn, replay_id: str) -> _LockedReplay | None:
    """The replay, locked until the transaction ends; None when another process has it, or it stopped."""
    row = await fetch_one(conn, _LOCK, {"id": replay_id})
    if row is None:
        return None
    found_id, endpoint, account, livemode, began, ended, after, upto, types, only_failed, object_id = row[:11]
    wanted = None if types is None else frozenset(types)
    chosen = ReplayFilter(
        endpoint, account, livemode, False, (), began, ended, after, upto, wanted, only_failed, object_id
    )
    return _LockedReplay(found_id, chosen, *row[11:])


def _find_wait(replay: _LockedReplay, endpoint: WebhookEndpoint) -> WaitReason | None:
    if endpoint.disabled:
        return "endpoint_disabled"
    if replay.fanned_out <= replay.queued_position < replay.chosen.upto:
        return "fan_out"
    return None
