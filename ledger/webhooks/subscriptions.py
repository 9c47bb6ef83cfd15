"""Which endpoints are owed which Events, as of the position of each Event, and the deliveries that follow.

An endpoint that cannot be read as of an Event is owed nothing now: `late` makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ledger.domain import imported_event
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD, WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all
from ledger.store.codec import Codec
from ledger.store.log import read_states_at
from ledger.webhooks.schedule import order

RANGE_EVENTS_MAX = 1000
"""Positions of the log that one step goes through."""
_IMPORTED_EVENT_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

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
SELECT f.id, f.account, f.livemode, f.type, f.created, f.position, f.ordinal, e.originator_id
FROM ledger.events e
JOIN projections.feed f
    ON f.generation = %(feed)s AND f.account = e.account AND f.livemode = e.livemode
    AND hash_record_extended(ROW (f.account, f.livemode), 0)
        = hash_record_extended(ROW (e.account, e.livemode), 0)
    AND f.created = floor(extract(epoch FROM e.recorded_at))::bigint AND f.position = e.notification_id
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s AND e.topic <> ALL (%(past)s::text[])
"""
_FOR_ACCOUNTS = "AND e.account = ANY (%(accounts)s::text[]) ORDER BY f.position, f.ordinal"
_FOR_STREAM = "AND e.originator_id = %(stream)s ORDER BY f.position, f.ordinal"
_INSERT_DELIVERIES = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, object, due_at)
SELECT *, to_timestamp(%(now)s) FROM unnest(
    %(ids)s::text[], %(events)s::text[], %(endpoints)s::text[], %(accounts)s::text[], %(modes)s::boolean[],
    %(created)s::bigint[], %(positions)s::bigint[], %(ordinals)s::smallint[], %(types)s::text[],
    %(objects)s::text[])
ON CONFLICT ON CONSTRAINT deliveries_once DO NOTHING
"""

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
    parameters = {
        "past": _IMPORTED_EVENT_TOPICS, "feed": feed_generation, "accounts": list(accounts),
        "after": after, "upto": upto,
    }  # fmt: skip
    return [FeedEvent(*row) for row in await fetch_all(conn, _EVENTS + _FOR_ACCOUNTS, parameters)]


async def load_events_of_stream(
    conn: Conn, feed_generation: int, stream: str, *, after: int, upto: int
) -> list[FeedEvent]:
    """The Events of one stream after one position of the log and up to another, in order."""
    parameters = {
        "past": _IMPORTED_EVENT_TOPICS, "feed": feed_generation, "stream": stream, "after": after,
        "upto": upto,
    }  # fmt: skip
    return [FeedEvent(*row) for row in await fetch_all(conn, _EVENTS + _FOR_STREAM, parameters)]


async def find_candidates(
    conn: Conn, owners: Iterable[Sequence[object]], endpoints_generation: int
) -> dict[Owner, list[str]]:
    """By account and mode: the ids of the endpoints that may be subscribed to its Events."""
    owners_json = msgspec.json.encode(
        [{"account": account, "livemode": mode} for account, mode in owners]
    ).decode()
    by_owner: dict[Owner, list[str]] = {}
    parameters = {"owners": owners_json, "endpoints": endpoints_generation}
    for account, livemode, endpoint in await fetch_all(conn, _CANDIDATES, parameters):
        by_owner.setdefault((account, livemode), []).append(endpoint)
    return by_owner


async def read_endpoints(
    conn: Conn, codec: Codec, candidates: Mapping[Owner, Sequence[str]], position: int
) -> tuple[dict[str, WebhookEndpoint], dict[str, UnreadableRecord]]:
    """The endpoints as of `position`, and why others cannot be read; both by id. One that did not exist yet
    is absent."""
    endpoint_ids = sorted({endpoint for ids in candidates.values() for endpoint in ids})
    states, failures = await read_states_at(conn, codec, endpoint_ids, position)
    endpoints = {
        endpoint_id: state for endpoint_id, state in states.items() if isinstance(state, WebhookEndpoint)
    }
    return endpoints, failures


def match(
    event: FeedEvent, candidates: Mapping[Owner, Sequence[str]], endpoints: Mapping[str, WebhookEndpoint]
) -> list[Match]:
    """The endpoints that are owed the Event."""
    return [
        (event, state)
        for endpoint in candidates.get((event.account, event.livemode), ())
        if (state := endpoints.get(endpoint)) is not None and is_subscribed(state, event.account, event.type)
    ]


async def insert_deliveries(conn: Conn, matches: Sequence[Match], now: float) -> int:
    """Insert the deliveries, due at `now` (unix seconds) or on hold (`order`), in a transaction; returns how
    many are new."""
    if not matches:
        return 0
    # In order of their Events: lists of deliveries are in order of ids.
    ids = sorted(new_id("dlv", now) for _ in matches)
    cur = await conn.execute(
        _INSERT_DELIVERIES,
        {
            "now": now,
            "ids": ids,
            "events": [event.id for event, _ in matches],
            "endpoints": [endpoint.id for _, endpoint in matches],
            "accounts": [event.account for event, _ in matches],
            "modes": [event.livemode for event, _ in matches],
            "created": [event.created for event, _ in matches],
            "positions": [event.position for event, _ in matches],
            "ordinals": [event.ordinal for event, _ in matches],
            "types": [event.type for event, _ in matches],
            "objects": [event.stream if endpoint.dispatch.ordered else None for event, endpoint in matches],
        },
    )
    ordered = [id_ for id_, (_, endpoint) in zip(ids, matches, strict=True) if endpoint.dispatch.ordered]
    if ordered:
        await order.hold(conn, ordered)
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
