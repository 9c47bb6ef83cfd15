"""Fan out the feed's Events: create one delivery per Event and subscribed endpoint, exactly once.

Reads the live generation of the projection `feed` behind a checkpoint of its own. A step is one transaction
that locks the checkpoint, inserts deliveries and moves the checkpoint; so any number of processes may run
steps. An endpoint gets the Events of its account, mode and types that occurred while it existed and was
enabled: it is folded as of each Event's position. A rebuild or promotion of the feed sends nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.domain import imported_event, webhook_endpoint
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD, WebhookEndpoint, WebhookEndpointDeleted
from ledger.ids import new_id
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_OPTIONS, read_states_at
from ledger.store.store import Store

RANGE_EVENTS_MAX = 1000
RECOVERED_STREAMS_MAX = 16
# A process that hangs in a step must lose the lock of the checkpoint, so that another one can continue.
_OPTIONS = f"{PLANNER_OPTIONS} -c idle_in_transaction_session_timeout=10s -c statement_timeout=60s"
_ENDPOINT_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]
_IMPORTED_EVENT_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

_LOCK_CHECKPOINT = "SELECT position FROM webhooks.checkpoint FOR UPDATE SKIP LOCKED"
_PROGRESS = """
SELECT h.position, f.generation, f.position, e.generation, e.position,
       EXISTS (SELECT FROM projections.webhook_endpoints w WHERE w.generation = e.generation),
       EXISTS (SELECT FROM webhooks.late)
FROM ledger.head h
JOIN projections.live lf ON lf.projection = 'feed'
JOIN projections.checkpoints f ON f.projection = lf.projection AND f.generation = lf.generation
JOIN projections.live le ON le.projection = 'webhook_endpoints'
JOIN projections.checkpoints e ON e.projection = le.projection AND e.generation = le.generation
"""
_LIVE_GENERATIONS = """
SELECT feed.generation, endpoints.generation FROM projections.live feed, projections.live endpoints
WHERE feed.projection = 'feed' AND endpoints.projection = 'webhook_endpoints'
"""
_MOVE_CHECKPOINT = "UPDATE webhooks.checkpoint SET position = %(upto)s"

_NEXT_ENDPOINT_CHANGE = """
SELECT e.notification_id, e.originator_id, e.topic FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic = ANY (%(topics)s::text[])
ORDER BY e.notification_id LIMIT 1
"""
_OWNERS = """
SELECT DISTINCT e.account, e.livemode FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s
"""
_OWNER_OF_STREAM = "SELECT account, livemode FROM ledger.events WHERE originator_id = %(stream)s LIMIT 1"
# Endpoints of the account itself and of the platform it is connected to.
_CANDIDATES = """
SELECT o.account, o.livemode, w.id
FROM json_to_recordset(%(owners)s::json) AS o(account text, livemode boolean)
LEFT JOIN ledger.accounts a ON a.id = o.account
JOIN projections.webhook_endpoints w
    ON w.generation = %(endpoints)s AND w.account = ANY (ARRAY[o.account, a.platform])
    AND w.livemode = o.livemode
"""
# Joined from the log, which has an index by position; the feed has one by account and time. Imported past
# events are excluded: they occurred before this ledger had endpoints.
_EVENTS = """
SELECT f.id, f.account, f.livemode, f.type, f.created, f.position, f.ordinal
FROM ledger.events e
JOIN projections.feed f
    ON f.generation = %(feed)s AND f.account = e.account AND f.livemode = e.livemode
    AND f.created = floor(extract(epoch FROM e.recorded_at))::bigint AND f.position = e.notification_id
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic <> ALL (%(past)s::text[])
"""
_FOR_ACCOUNTS = "AND e.account = ANY (%(accounts)s::text[]) ORDER BY f.position, f.ordinal"
_FOR_STREAM = "AND e.originator_id = %(stream)s ORDER BY f.position, f.ordinal"
_INSERT_DELIVERIES = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
SELECT *, to_timestamp(%(now)s) FROM unnest(
    %(ids)s::text[], %(events)s::text[], %(endpoints)s::text[], %(accounts)s::text[], %(modes)s::boolean[],
    %(created)s::bigint[], %(positions)s::bigint[], %(ordinals)s::smallint[], %(types)s::text[])
ON CONFLICT ON CONSTRAINT deliveries_once DO NOTHING
"""
_DROP_DELIVERIES = """
UPDATE webhooks.deliveries SET state = 'dropped'
WHERE endpoint = %(endpoint)s AND state IN ('pending', 'failed')
"""
_RECORD_PARKED_STREAMS = """
INSERT INTO webhooks.late (stream, position)
SELECT p.stream, p.position FROM projections.parked p
WHERE p.projection = 'feed' AND p.generation = %(feed)s AND p.position <= %(upto)s
  AND NOT EXISTS (SELECT FROM webhooks.late l WHERE l.stream = p.stream)
"""
_RECOVERED_STREAMS = """
SELECT l.stream, l.position FROM webhooks.late l
WHERE NOT EXISTS (SELECT FROM projections.parked p
                  WHERE p.projection = 'feed' AND p.generation = %(feed)s AND p.stream = l.stream)
ORDER BY l.position LIMIT %(limit)s
"""
_DELETE_LATE_STREAM = "DELETE FROM webhooks.late WHERE stream = %(stream)s"

Owner = tuple[str, bool]
"""Account and mode."""


class FanoutResult(NamedTuple):
    """The result of one step.

    new_deliveries    how many deliveries the step created
    checkpoint_moved  whether the step moved the checkpoint
    has_more          whether the next step already has work
    feed_behind       whether the feed, or the projection of endpoints, is behind the log
    no_endpoints      whether no account has had an endpoint yet
    head              the log's last position, as this step saw it
    """

    new_deliveries: int = 0
    checkpoint_moved: bool = False
    has_more: bool = False
    feed_behind: bool = False
    no_endpoints: bool = False
    head: int = 0


class _Progress(NamedTuple):
    head: int
    feed_generation: int
    feed_position: int
    endpoints_generation: int
    endpoints_position: int
    any_endpoints: bool
    any_late_streams: bool


class _Event(NamedTuple):
    """A row of the feed without its data."""

    id: str
    account: str
    livemode: bool
    type: str
    created: int
    position: int
    ordinal: int


class Fanout:
    """Fans out for one process. Its steps must not run concurrently: they share a connection."""

    def __init__(self, store: Store) -> None:
        self._codec: Codec = store.codec
        self._clock: Clock = store.clock
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="webhooks fan-out", options=_OPTIONS
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def advance(self) -> FanoutResult:
        """One step: advance by RANGE_EVENTS_MAX positions of the log at most. Does nothing while another
        process has the checkpoint. Raises psycopg.Error, and the errors of folding an endpoint; then nothing
        has changed."""
        result = FanoutResult()
        async with self._connection as conn:
            await self._clock.refresh(conn)
            async with conn.transaction():
                checkpoint = await _lock_checkpoint(conn)
                progress = await _read_progress(conn)
                if checkpoint is None or progress is None:
                    return result
                result = await self._advance_range(conn, checkpoint, progress)
                # A generation that was retired meanwhile may have lost rows while they were read.
                if await _read_live_generations(conn) != (
                    progress.feed_generation,
                    progress.endpoints_generation,
                ):
                    result = FanoutResult(has_more=True)
                    raise psycopg.Rollback
        return result

    async def _advance_range(self, conn: Conn, checkpoint: int, progress: _Progress) -> FanoutResult:
        projected_position = min(progress.feed_position, progress.endpoints_position)
        result = FanoutResult(
            feed_behind=projected_position < progress.head,
            no_endpoints=not progress.any_endpoints,
            head=progress.head,
        )
        if progress.any_late_streams and checkpoint <= progress.feed_position:
            result = result._replace(
                new_deliveries=await self._fan_out_recovered_streams(conn, checkpoint, progress)
            )
        if projected_position <= checkpoint:
            return result
        upto, new_deliveries = projected_position, result.new_deliveries
        if progress.any_endpoints:
            upto = min(projected_position, checkpoint + RANGE_EVENTS_MAX)
            change = await _fetch_one(
                conn, _NEXT_ENDPOINT_CHANGE, {"after": checkpoint, "upto": upto, "topics": _ENDPOINT_TOPICS}
            )
            # A range ends at the next change of an endpoint, so all its Events see the same endpoints: the
            # change itself makes no Event.
            if change is not None:
                upto = change[0]
            # Before the rows are read: a stream that recovers in between is then fanned out twice instead of
            # never, and the second time inserts nothing.
            await conn.execute(_RECORD_PARKED_STREAMS, {"feed": progress.feed_generation, "upto": upto})
            new_deliveries += await self._fan_out_range(conn, checkpoint, upto, progress)
            if change is not None and change[2] == WebhookEndpointDeleted.TOPIC:
                await conn.execute(_DROP_DELIVERIES, {"endpoint": change[1]})
        await conn.execute(_MOVE_CHECKPOINT, {"upto": upto})
        return result._replace(
            new_deliveries=new_deliveries, checkpoint_moved=True, has_more=upto < projected_position
        )

    async def _fan_out_range(self, conn: Conn, after: int, upto: int, progress: _Progress) -> int:
        """Fan out the Events after `after` and up to `upto`, a range in which no endpoint changes; returns
        how many deliveries are new."""
        bounds = {"after": after, "upto": upto}
        owners = await fetch_all(conn, _OWNERS, bounds)
        candidates = await _find_candidates(conn, owners, progress.endpoints_generation)
        if not candidates:
            return 0
        endpoints = await self._fold_endpoints(conn, candidates, after)
        accounts = sorted({account for account, _ in candidates})
        rows = await conn.execute(
            _EVENTS + _FOR_ACCOUNTS,
            {
                **bounds,
                "past": _IMPORTED_EVENT_TOPICS,
                "feed": progress.feed_generation,
                "accounts": accounts,
            },
        )
        events = [_Event(*row) for row in await rows.fetchall()]
        return await self._insert_deliveries(conn, [(event, candidates, endpoints) for event in events])

    async def _fan_out_recovered_streams(self, conn: Conn, upto: int, progress: _Progress) -> int:
        """Fan out the Events of streams that were parked when the checkpoint passed them, and have recovered
        since; returns how many deliveries are new."""
        cur = await conn.execute(
            _RECOVERED_STREAMS, {"feed": progress.feed_generation, "limit": RECOVERED_STREAMS_MAX}
        )
        new_deliveries = 0
        for stream, position in await cur.fetchall():
            owner = await _fetch_one(conn, _OWNER_OF_STREAM, {"stream": stream})
            assert owner is not None, "a parked stream has at least the event it was parked at"
            candidates = await _find_candidates(conn, [owner], progress.endpoints_generation)
            bounds = {"feed": progress.feed_generation, "after": position - 1, "upto": upto}
            rows = await conn.execute(
                _EVENTS + _FOR_STREAM, {**bounds, "past": _IMPORTED_EVENT_TOPICS, "stream": stream}
            )
            events = [_Event(*row) for row in await rows.fetchall()]
            if candidates:
                endpoints_by_event = [
                    await self._fold_endpoints(conn, candidates, event.position) for event in events
                ]
                matched = [
                    (event, candidates, endpoints)
                    for event, endpoints in zip(events, endpoints_by_event, strict=True)
                ]
                new_deliveries += await self._insert_deliveries(conn, matched)
            await conn.execute(_DELETE_LATE_STREAM, {"stream": stream})
        return new_deliveries

    async def _fold_endpoints(
        self, conn: Conn, candidates: Mapping[Owner, Sequence[str]], position: int
    ) -> dict[str, WebhookEndpoint]:
        """By id: the endpoints as of `position`; one that did not exist yet is absent."""
        endpoint_ids = sorted({endpoint for ids in candidates.values() for endpoint in ids})
        states = await read_states_at(conn, self._codec, endpoint_ids, position)
        return {
            endpoint_id: state for endpoint_id, state in states.items() if isinstance(state, WebhookEndpoint)
        }

    async def _insert_deliveries(
        self,
        conn: Conn,
        events: Iterable[tuple[_Event, Mapping[Owner, Sequence[str]], Mapping[str, WebhookEndpoint]]],
    ) -> int:
        matched = [
            (event, endpoint)
            for event, candidates, endpoints in events
            for endpoint in candidates.get((event.account, event.livemode), ())
            if (state := endpoints.get(endpoint)) is not None
            and is_subscribed(state, event.account, event.type)
        ]
        if not matched:
            return 0
        now = self._clock.now()
        cur = await conn.execute(
            _INSERT_DELIVERIES,
            {
                "now": now,
                "ids": [new_id("dlv", now) for _ in matched],
                "events": [event.id for event, _ in matched],
                "endpoints": [endpoint for _, endpoint in matched],
                "accounts": [event.account for event, _ in matched],
                "modes": [event.livemode for event, _ in matched],
                "created": [event.created for event, _ in matched],
                "positions": [event.position for event, _ in matched],
                "ordinals": [event.ordinal for event, _ in matched],
                "types": [event.type for event, _ in matched],
            },
        )
        return cur.rowcount


def is_subscribed(endpoint: WebhookEndpoint, account: str, event_type: str) -> bool:
    """Whether `endpoint` gets an Event of `account`, which is the endpoint's account or one connected to it,
    in its mode (contract §5.3)."""
    return (
        not endpoint.deleted
        and not endpoint.disabled
        and endpoint.connect == (endpoint.account != account)
        and (event_type in endpoint.enabled_events or EVENT_TYPE_WILDCARD in endpoint.enabled_events)
    )


async def _lock_checkpoint(conn: Conn) -> int | None:
    """The checkpoint's position, locked until the transaction ends; None when another process has it."""
    row = await _fetch_one(conn, _LOCK_CHECKPOINT, {})
    return None if row is None else int(row[0])


async def _read_progress(conn: Conn) -> _Progress | None:
    """None until the projections `feed` and `webhook_endpoints` exist."""
    row = await _fetch_one(conn, _PROGRESS, {})
    return None if row is None else _Progress(*row)


async def _read_live_generations(conn: Conn) -> TupleRow | None:
    return await _fetch_one(conn, _LIVE_GENERATIONS, {})


async def _find_candidates(conn: Conn, owners: Sequence[TupleRow], generation: int) -> dict[Owner, list[str]]:
    """By account and mode: the ids of the endpoints that may be subscribed to its Events."""
    owners_json = msgspec.json.encode(
        [{"account": account, "livemode": mode} for account, mode in owners]
    ).decode()
    by_owner: dict[Owner, list[str]] = {}
    rows = await conn.execute(_CANDIDATES, {"owners": owners_json, "endpoints": generation})
    for account, livemode, endpoint in await rows.fetchall():
        by_owner.setdefault((account, livemode), []).append(endpoint)
    return by_owner


async def _fetch_one(conn: Conn, query: str, parameters: Mapping[str, Any]) -> TupleRow | None:
    return await fetch_one(conn, query.encode(), parameters)
