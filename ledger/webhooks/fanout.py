"""From the feed to deliveries: which endpoints are owed which Events, each once.

Follows the live feed under a checkpoint of its own. A step is one transaction under the checkpoint's lock:
the rows and the checkpoint, or nothing; any number of processes may offer. An endpoint gets the Events of
its account, mode and types made while it existed and was enabled: it is folded as of each one's position.
Neither a rebuilt feed nor another generation of it sends anything again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.domain import imported_event, webhook_endpoint
from ledger.domain.webhook_endpoint import EVERY_TYPE, WebhookEndpoint, WebhookEndpointDeleted
from ledger.ids import new_id
from ledger.postgres.connections import Link
from ledger.store.codec import Codec
from ledger.store.log import PLANS, states_at
from ledger.store.store import Store

RANGE_MAX = 1000
HEALED_MAX = 16
# A process that hangs in a step loses the checkpoint to another one.
_OPTIONS = f"{PLANS} -c idle_in_transaction_session_timeout=10s -c statement_timeout=60s"
_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]
_PAST = [event.TOPIC for event in imported_event.EVENTS]

_LOCK = "SELECT position FROM webhooks.checkpoint FOR UPDATE SKIP LOCKED"
_STANDING = """
SELECT h.position, f.generation, f.position, e.generation, e.position,
       EXISTS (SELECT FROM projections.webhook_endpoints w WHERE w.generation = e.generation),
       EXISTS (SELECT FROM webhooks.late)
FROM ledger.head h
JOIN projections.live lf ON lf.projection = 'feed'
JOIN projections.checkpoints f ON f.projection = lf.projection AND f.generation = lf.generation
JOIN projections.live le ON le.projection = 'webhook_endpoints'
JOIN projections.checkpoints e ON e.projection = le.projection AND e.generation = le.generation
"""
_LIVE = """
SELECT feed.generation, endpoints.generation FROM projections.live feed, projections.live endpoints
WHERE feed.projection = 'feed' AND endpoints.projection = 'webhook_endpoints'
"""
_MOVE = "UPDATE webhooks.checkpoint SET position = %(upto)s"

_NEXT_CHANGE = """
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
# By way of the log, which finds a position at once: the feed is kept by account and time. Events that came
# about elsewhere, before this ledger, happened before any endpoint here was there.
_EVENTS = """
SELECT f.id, f.account, f.livemode, f.type, f.created, f.position, f.ordinal
FROM ledger.events e
JOIN projections.feed f
    ON f.generation = %(feed)s AND f.account = e.account AND f.livemode = e.livemode
    AND f.created = floor(extract(epoch FROM e.recorded_at))::bigint AND f.position = e.notification_id
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic <> ALL (%(past)s::text[])
"""
_OF_ACCOUNTS = "AND e.account = ANY (%(accounts)s::text[]) ORDER BY f.position, f.ordinal"
_OF_STREAM = "AND e.originator_id = %(stream)s ORDER BY f.position, f.ordinal"
_OWE = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
SELECT *, to_timestamp(%(now)s) FROM unnest(
    %(ids)s::text[], %(events)s::text[], %(endpoints)s::text[], %(accounts)s::text[], %(modes)s::boolean[],
    %(created)s::bigint[], %(positions)s::bigint[], %(ordinals)s::smallint[], %(types)s::text[])
ON CONFLICT ON CONSTRAINT deliveries_once DO NOTHING
"""
_DROP = """
UPDATE webhooks.deliveries SET state = 'dropped'
WHERE endpoint = %(endpoint)s AND state IN ('pending', 'failed')
"""
_REMEMBER = """
INSERT INTO webhooks.late (stream, position)
SELECT p.stream, p.position FROM projections.parked p
WHERE p.projection = 'feed' AND p.generation = %(feed)s AND p.position <= %(upto)s
  AND NOT EXISTS (SELECT FROM webhooks.late l WHERE l.stream = p.stream)
"""
_HEALED = """
SELECT l.stream, l.position FROM webhooks.late l
WHERE NOT EXISTS (SELECT FROM projections.parked p
                  WHERE p.projection = 'feed' AND p.generation = %(feed)s AND p.stream = l.stream)
ORDER BY l.position LIMIT %(limit)s
"""
_FORGET = "DELETE FROM webhooks.late WHERE stream = %(stream)s"

Owner = tuple[str, bool]
"""Account and mode."""


class Step(NamedTuple):
    """What came of one step.

    owed    deliveries that are new
    moved   the checkpoint did
    more    there is more to do at once
    behind  the feed has not reached the head of the log
    nobody  no account has had an endpoint yet
    head    the log's, as last seen
    """

    owed: int = 0
    moved: bool = False
    more: bool = False
    behind: bool = False
    nobody: bool = False
    head: int = 0


class _Standing(NamedTuple):
    head: int
    feed: int
    feed_position: int
    endpoints: int
    endpoints_position: int
    anybody: bool
    late: bool


class _Event(NamedTuple):
    """A row of the feed, without what it says."""

    id: str
    account: str
    livemode: bool
    type: str
    created: int
    position: int
    ordinal: int


class Fanout:
    """One runner. Steps follow each other: they share a connection."""

    def __init__(self, store: Store) -> None:
        self._codec: Codec = store.codec
        self._clock: Clock = store.clock
        self._link = Link(store.dsn, "ledger_api", name="webhooks fan-out", options=_OPTIONS)

    async def close(self) -> None:
        await self._link.drop()

    async def step(self) -> Step:
        """Go on by a range of the log at most. Raises psycopg.Error, and what an endpoint that cannot be
        folded raises; then nothing has changed."""
        step = Step()
        async with self._link as conn:
            await self._clock.refresh(conn)
            async with conn.transaction():
                after = await _position(conn)
                standing = await _standing(conn)
                if after is None or standing is None:
                    return step
                step = await self._go_on(conn, after, standing)
                # A generation that is no longer live may have lost its rows while they were read.
                if await _live(conn) != (standing.feed, standing.endpoints):
                    step = Step(more=True)
                    raise psycopg.Rollback
        return step

    async def _go_on(self, conn: AsyncConnection[TupleRow], after: int, standing: _Standing) -> Step:
        reached = min(standing.feed_position, standing.endpoints_position)
        step = Step(behind=reached < standing.head, nobody=not standing.anybody, head=standing.head)
        if standing.late and after <= standing.feed_position:
            step = step._replace(owed=await self._heal(conn, after, standing))
        if reached <= after:
            return step
        upto, owed = reached, step.owed
        if standing.anybody:
            upto = min(reached, after + RANGE_MAX)
            change = await _first(conn, _NEXT_CHANGE, {"after": after, "upto": upto, "topics": _TOPICS})
            # Up to and with a change of an endpoint, which makes no Event, all are as they were before.
            if change is not None:
                upto = change[0]
            # Before rows are read: a stream that is healed in between is caught up once too often, not never.
            await conn.execute(_REMEMBER, {"feed": standing.feed, "upto": upto})
            owed += await self._range(conn, after, upto, standing)
            if change is not None and change[2] == WebhookEndpointDeleted.TOPIC:
                await conn.execute(_DROP, {"endpoint": change[1]})
        await conn.execute(_MOVE, {"upto": upto})
        return step._replace(owed=owed, moved=True, more=upto < reached)

    async def _range(
        self, conn: AsyncConnection[TupleRow], after: int, upto: int, standing: _Standing
    ) -> int:
        """The Events after `after` and up to `upto`, a range in which no endpoint changes."""
        place = {"after": after, "upto": upto}
        owners = await (await conn.execute(_OWNERS, place)).fetchall()
        candidates = await _candidates(conn, owners, standing.endpoints)
        if not candidates:
            return 0
        endpoints = await self._folded(conn, candidates, after)
        accounts = sorted({account for account, _ in candidates})
        rows = await conn.execute(
            _EVENTS + _OF_ACCOUNTS, {**place, "past": _PAST, "feed": standing.feed, "accounts": accounts}
        )
        events = [_Event(*row) for row in await rows.fetchall()]
        return await self._owe(conn, [(event, candidates, endpoints) for event in events])

    async def _heal(self, conn: AsyncConnection[TupleRow], upto: int, standing: _Standing) -> int:
        """What the feed left out of streams when the checkpoint went past, and now has."""
        healed = await conn.execute(_HEALED, {"feed": standing.feed, "limit": HEALED_MAX})
        owed = 0
        for stream, position in await healed.fetchall():
            owner = await _first(conn, _OWNER_OF_STREAM, {"stream": stream})
            assert owner is not None, "it was parked at an event"
            candidates = await _candidates(conn, [owner], standing.endpoints)
            place = {"feed": standing.feed, "after": position - 1, "upto": upto}
            rows = await conn.execute(_EVENTS + _OF_STREAM, {**place, "past": _PAST, "stream": stream})
            events = [_Event(*row) for row in await rows.fetchall()]
            if candidates:
                folded = [await self._folded(conn, candidates, event.position) for event in events]
                matched = [(event, candidates, then) for event, then in zip(events, folded, strict=True)]
                owed += await self._owe(conn, matched)
            await conn.execute(_FORGET, {"stream": stream})
        return owed

    async def _folded(
        self, conn: AsyncConnection[TupleRow], candidates: Mapping[Owner, Sequence[str]], position: int
    ) -> dict[str, WebhookEndpoint]:
        """The endpoints as of a position; one that was not there yet is absent."""
        wanted = sorted({endpoint for found in candidates.values() for endpoint in found})
        states = await states_at(conn, self._codec, wanted, position)
        return {each: state for each, state in states.items() if isinstance(state, WebhookEndpoint)}

    async def _owe(
        self,
        conn: AsyncConnection[TupleRow],
        events: Iterable[tuple[_Event, Mapping[Owner, Sequence[str]], Mapping[str, WebhookEndpoint]]],
    ) -> int:
        matched = [
            (event, endpoint)
            for event, candidates, endpoints in events
            for endpoint in candidates.get((event.account, event.livemode), ())
            if (state := endpoints.get(endpoint)) is not None and wants(state, event.account, event.type)
        ]
        if not matched:
            return 0
        now = self._clock.now()
        inserted = await conn.execute(
            _OWE,
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
        return inserted.rowcount


def wants(endpoint: WebhookEndpoint, account: str, event_type: str) -> bool:
    """Whether an endpoint, as it stood then, gets an Event of `account`, which is its own or one connected
    to it, in its mode (CONTRACT 5.3)."""
    return (
        not endpoint.deleted
        and not endpoint.disabled
        and endpoint.connect == (endpoint.account != account)
        and (event_type in endpoint.enabled_events or EVERY_TYPE in endpoint.enabled_events)
    )


async def _position(conn: AsyncConnection[TupleRow]) -> int | None:
    """Where the checkpoint stands, now ours until the transaction ends; None when another process has it."""
    row = await _first(conn, _LOCK, {})
    return None if row is None else int(row[0])


async def _standing(conn: AsyncConnection[TupleRow]) -> _Standing | None:
    """None while the projections that are followed are not there yet."""
    row = await _first(conn, _STANDING, {})
    return None if row is None else _Standing(*row)


async def _live(conn: AsyncConnection[TupleRow]) -> TupleRow | None:
    return await _first(conn, _LIVE, {})


async def _candidates(
    conn: AsyncConnection[TupleRow], owners: Sequence[TupleRow], generation: int
) -> dict[Owner, list[str]]:
    """By account and mode: the endpoints that may want its Events."""
    told = msgspec.json.encode([{"account": account, "livemode": mode} for account, mode in owners]).decode()
    found: dict[Owner, list[str]] = {}
    rows = await conn.execute(_CANDIDATES, {"owners": told, "endpoints": generation})
    for account, livemode, endpoint in await rows.fetchall():
        found.setdefault((account, livemode), []).append(endpoint)
    return found


async def _first(
    conn: AsyncConnection[TupleRow], query: str, parameters: Mapping[str, Any]
) -> TupleRow | None:
    return await (await conn.execute(query.encode(), parameters)).fetchone()
