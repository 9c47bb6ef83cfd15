"""Which endpoints are owed which Events, as of the position of each Event, and the deliveries that follow.

An endpoint that cannot be read as of an Event is owed nothing now: `late` makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg.rows import TupleRow

from ledger.domain import imported_event
from ledger.domain.aggregate import State
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD, WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.ids import new_id
from ledger.postgres.connections import Conn
from ledger.postgres.pipelines import BoundStatement, bind, fetch_together
from ledger.postgres.statements import parse_statement
from ledger.store.codec import Codec
from ledger.store.log import decode_states, read_states_at
from ledger.webhooks.schedule import order
from ledger.wire.thin_events import to_snapshot_type, to_thin_type

RANGE_EVENTS_MAX = 1000
"""Positions of the log that one step goes through."""
_IMPORTED_EVENT_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

# Endpoints of the account itself and of the platform it is connected to.
_CANDIDATES = """
SELECT o.account, o.livemode, w.id
FROM ({owners}) AS o
LEFT JOIN ledger.accounts a ON a.id = o.account
JOIN projections.webhook_endpoints w
    ON w.generation = %(endpoints)s AND w.account = ANY (ARRAY[o.account, a.platform])
    AND w.livemode = o.livemode
"""
_OF_OWNER = parse_statement(
    _CANDIDATES.format(owners="SELECT %(account)s::text AS account, %(livemode)s::boolean AS livemode")
)
_OF_RANGE = _CANDIDATES.format(
    owners="""
SELECT DISTINCT e.account, e.livemode FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s"""
)
_ENDPOINT_EVENTS_OF_RANGE = f"""
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM (SELECT DISTINCT id FROM ({_OF_RANGE}) AS candidates) AS wanted
JOIN ledger.events e ON e.originator_id = wanted.id AND e.notification_id <= %(after)s
ORDER BY e.originator_id, e.originator_version
"""  # noqa: S608 (a constant)
# Joined from the log, which has an index by position; the feed has one by account, time and position. Without
# ORDER BY, a plan that is made while the feed, or a day of it, is empty reads all of it for each Event.
# Imported past events are excluded: they occurred before this ledger had endpoints.
_EVENTS = """
SELECT f.id, f.account, f.livemode, f.type, f.created, f.position, f.ordinal, e.originator_id
FROM ledger.events e
CROSS JOIN LATERAL (
    SELECT f.id, f.account, f.livemode, f.type, f.created, f.position, f.ordinal FROM projections.feed f
    WHERE f.generation = %(feed)s AND f.account = e.account AND f.livemode = e.livemode
      AND hash_record_extended(ROW (f.account, f.livemode), 0)
          = hash_record_extended(ROW (e.account, e.livemode), 0)
      AND f.created = floor(extract(epoch FROM e.recorded_at))::bigint AND f.position = e.notification_id
    ORDER BY f.ordinal
) AS f
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic <> ALL (%(past)s::text[])
"""
_OF_ACCOUNTS = parse_statement(
    _EVENTS + "AND e.account = ANY (%(accounts)s::text[]) ORDER BY f.position, f.ordinal"
)
_EVENTS_OF_RANGE = f"""{_EVENTS}
AND e.account = ANY (ARRAY(SELECT DISTINCT account FROM ({_OF_RANGE}) AS candidates))
ORDER BY f.position, f.ordinal
"""  # noqa: S608 (a constant)
_OF_STREAM = parse_statement(_EVENTS + "AND e.originator_id = %(stream)s ORDER BY f.position, f.ordinal")
_INSERT_DELIVERIES = parse_statement("""
WITH inserted AS (
    INSERT INTO webhooks.deliveries
        (id, event, endpoint, account, livemode, created, position, ordinal, type, object, due_at)
    SELECT id, event, endpoint, account, livemode, created, position, ordinal, type, nullif(object, ''),
           to_timestamp(%(now)s)
    FROM unnest(
        %(ids)s::text[], %(events)s::text[], %(endpoints)s::text[], %(accounts)s::text[],
        %(modes)s::boolean[], %(created)s::bigint[], %(positions)s::bigint[], %(ordinals)s::smallint[],
        %(types)s::text[], %(objects)s::text[])
        AS d(id, event, endpoint, account, livemode, created, position, ordinal, type, object)
    ON CONFLICT ON CONSTRAINT deliveries_once DO NOTHING RETURNING 1
)
SELECT count(*) FROM inserted
""")

Owner = tuple[str, bool]
"""Account and mode."""


class FeedEvent(NamedTuple):
    """A row of the feed without its data. `stream` is the object's in the log, where it was asked for."""

    id: str
    account: str
    livemode: bool
    type: str
    created: int
    position: int
    ordinal: int
    stream: str = ""


Match = tuple[FeedEvent, WebhookEndpoint]
"""An Event, and an endpoint that is owed it."""


async def load_events_of_accounts(
    conn: Conn, feed_generation: int, accounts: Iterable[str], *, after: int, upto: int
) -> list[FeedEvent]:
    """The Events of these accounts after one position of the log and up to another, in order."""
    bindings = {
        "past": _IMPORTED_EVENT_TOPICS, "feed": feed_generation, "accounts": list(accounts),
        "after": after, "upto": upto,
    }  # fmt: skip
    [rows] = await fetch_together(conn, [bind(_OF_ACCOUNTS, bindings)])
    return [FeedEvent(*row) for row in rows]


async def load_events_of_stream(
    conn: Conn, feed_generation: int, stream: str, *, after: int, upto: int
) -> list[FeedEvent]:
    """The Events of one stream after one position of the log and up to another, in order."""
    bindings = {
        "past": _IMPORTED_EVENT_TOPICS, "feed": feed_generation, "stream": stream, "after": after,
        "upto": upto,
    }  # fmt: skip
    [rows] = await fetch_together(conn, [bind(_OF_STREAM, bindings)])
    return [FeedEvent(*row) for row in rows]


def build_range_queries(
    feed_generation: int, endpoints_generation: int, *, after: int, upto: int
) -> list[BoundStatement]:
    """The statements for what happened after one position of the log and up to another: the endpoints that
    may be subscribed to it, their events up to `after`, and the Events. `match_range` takes their rows."""
    bindings = {
        "past": _IMPORTED_EVENT_TOPICS, "feed": feed_generation, "endpoints": endpoints_generation,
        "after": after, "upto": upto,
    }  # fmt: skip
    return [
        bind(parse_statement(query), bindings)
        for query in (_OF_RANGE, _ENDPOINT_EVENTS_OF_RANGE, _EVENTS_OF_RANGE)
    ]


async def match_range(
    conn: Conn,
    codec: Codec,
    candidate_rows: Sequence[TupleRow],
    endpoint_event_rows: Sequence[TupleRow],
    event_rows: Sequence[TupleRow],
) -> tuple[list[Match], dict[str, UnreadableRecord]]:
    """What is owed of the rows of `build_range_queries`, and why endpoints cannot be read, by id."""
    candidates = _group_candidates(candidate_rows)
    codec = await codec.prepare(conn, endpoint_event_rows)
    endpoints, failures = _keep_endpoints(*decode_states(codec, endpoint_event_rows))
    events = [FeedEvent(*row) for row in event_rows]
    return [found for event in events for found in match(event, candidates, endpoints)], failures


async def find_candidates(conn: Conn, owner: Owner, endpoints_generation: int) -> dict[Owner, list[str]]:
    """The ids of the endpoints that may be subscribed to the Events of this account and mode, by it."""
    bindings = {"account": owner[0], "livemode": owner[1], "endpoints": endpoints_generation}
    [rows] = await fetch_together(conn, [bind(_OF_OWNER, bindings)])
    return _group_candidates(rows)


async def read_endpoints(
    conn: Conn, codec: Codec, candidates: Mapping[Owner, Sequence[str]], position: int
) -> tuple[dict[str, WebhookEndpoint], dict[str, UnreadableRecord]]:
    """The endpoints as of `position`, and why others cannot be read; both by id. One that did not exist yet
    is absent."""
    endpoint_ids = sorted({endpoint for ids in candidates.values() for endpoint in ids})
    return _keep_endpoints(*await read_states_at(conn, codec, endpoint_ids, position))


def match(
    event: FeedEvent, candidates: Mapping[Owner, Sequence[str]], endpoints: Mapping[str, WebhookEndpoint]
) -> list[Match]:
    """The endpoints that are owed the Event."""
    return [
        (event, state)
        for endpoint in candidates.get((event.account, event.livemode), ())
        if (state := endpoints.get(endpoint)) is not None and is_subscribed(state, event.account, event.type)
    ]


def build_insert(matches: Sequence[Match], now: float) -> list[BoundStatement]:
    """The statements that insert the deliveries, due at `now` (unix seconds) or on hold (`order`), in a
    transaction. The first one's row tells how many are new; none for no matches."""
    if not matches:
        return []
    # In order of their Events: lists of deliveries are in order of ids.
    ids = sorted(new_id("dlv", now) for _ in matches)
    bindings = {
        "now": now,
        "ids": ids,
        "events": [event.id for event, _ in matches],
        "endpoints": [endpoint.id for _, endpoint in matches],
        "accounts": [event.account for event, _ in matches],
        "modes": [str(event.livemode) for event, _ in matches],
        "created": [str(event.created) for event, _ in matches],
        "positions": [str(event.position) for event, _ in matches],
        "ordinals": [str(event.ordinal) for event, _ in matches],
        "types": [event.type for event, _ in matches],
        "objects": [event.stream if endpoint.dispatch.ordered else "" for event, endpoint in matches],
    }
    ordered = [id_ for id_, (_, endpoint) in zip(ids, matches, strict=True) if endpoint.dispatch.ordered]
    insert = bind(_INSERT_DELIVERIES, bindings)
    return [insert, order.build_hold(ordered)] if ordered else [insert]


async def insert_deliveries(conn: Conn, matches: Sequence[Match], now: float) -> int:
    """Run the statements of `build_insert`, in a transaction; returns how many deliveries are new."""
    results = await fetch_together(conn, build_insert(matches, now)) if matches else []
    return int(results[0][0][0]) if results else 0


def is_subscribed(endpoint: WebhookEndpoint, account: str, event_type: str) -> bool:
    """Whether `endpoint` gets an Event of `account`, which is the endpoint's account or one connected to it,
    in its mode (contract §5.3). `event_type` is that of the snapshot."""
    name = to_thin_type(event_type) if endpoint.is_thin else event_type
    return (
        not endpoint.deleted
        and not endpoint.disabled
        and endpoint.gets_events_of(account)
        and (name in endpoint.enabled_events or EVENT_TYPE_WILDCARD in endpoint.enabled_events)
    )


def list_snapshot_types(endpoint: WebhookEndpoint) -> list[str]:
    """The types that it is subscribed to, as snapshots have them; without the wildcard."""
    if not endpoint.is_thin:
        return [name for name in endpoint.enabled_events if name != EVENT_TYPE_WILDCARD]
    return [name for thin in endpoint.enabled_events if (name := to_snapshot_type(thin)) is not None]


def _group_candidates(rows: Iterable[TupleRow]) -> dict[Owner, list[str]]:
    """By account and mode: the ids of the endpoints that may be subscribed to its Events."""
    by_owner: dict[Owner, list[str]] = {}
    for account, livemode, endpoint in rows:
        by_owner.setdefault((account, livemode), []).append(endpoint)
    return by_owner


def _keep_endpoints(
    states: Mapping[str, State], failures: dict[str, UnreadableRecord]
) -> tuple[dict[str, WebhookEndpoint], dict[str, UnreadableRecord]]:
    endpoints = {
        endpoint_id: state for endpoint_id, state in states.items() if isinstance(state, WebhookEndpoint)
    }
    return endpoints, failures
