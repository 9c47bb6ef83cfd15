"""Queries on Events (contract §4): both retrieve and list read the feed, which holds 30 days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.errors import UnknownObject
from ledger.objects import other_mode_hint
from ledger.queries.context import QueryContext
from ledger.queries.feed_events import FeedEvent, open_events
from ledger.queries.list_query import ListQuery, in_live_generation
from ledger.queries.pages import QueryResult, render_list
from ledger.wire import events
from ledger.wire.event_types import EVENT_TYPES, matches
from ledger.wire.thin_events import to_snapshot_id

# The feed is as new as the fan-out: only after the fan-out is it known to how many endpoints each Event is
# owed. While the fan-out is behind the log, an account without endpoints does not wait for it: no deliveries
# are owed to that one. That it has no endpoints is known up to the checkpoint of the projection of endpoints.
_FANNED_OUT_POSITION = """
least(c.position, (
    SELECT CASE WHEN fanout.position >= (SELECT position FROM ledger.head) THEN fanout.position
    WHEN EXISTS (
        SELECT FROM projections.webhook_endpoints w, projections.live live_endpoints
        WHERE live_endpoints.projection = 'webhook_endpoints'
        AND w.generation = live_endpoints.generation AND w.livemode = %(livemode)s AND w.account = ANY (ARRAY[
            %(account)s, (SELECT a.platform FROM ledger.accounts a WHERE a.id = %(account)s)])
    ) THEN fanout.position
    ELSE (
        SELECT endpoints.position FROM projections.live live_endpoints
        JOIN projections.checkpoints endpoints
            ON endpoints.projection = live_endpoints.projection
            AND endpoints.generation = live_endpoints.generation
        WHERE live_endpoints.projection = 'webhook_endpoints'
    ) END
    FROM webhooks.checkpoint fanout))
"""
_LIVE = in_live_generation("feed")
# Not in WHERE: the planner may read all that is owed to anybody, along its index, for each Event.
COUNT_OWED = """
(SELECT count(*) FILTER (WHERE d.state IN ('pending', 'failed'))
 FROM webhooks.deliveries d WHERE d.event = {event})
"""
"""To how many endpoints the Event with the id `event`, an expression, is owed: its `pending_webhooks`."""
# Looks once whether anything is owed to the account at all, before it looks for each Event.
_PENDING_WEBHOOKS = f"""
CASE WHEN EXISTS (
    SELECT FROM webhooks.deliveries o
    WHERE o.account = %(account)s AND o.livemode = %(livemode)s AND o.state IN ('pending', 'failed')
) THEN {COUNT_OWED.format(event="feed.id")} ELSE 0 END
"""
EVENTS = ListQuery(
    projection="feed",
    noun="event",
    url="/v1/events",
    select=f"""
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data,
       {_PENDING_WEBHOOKS} AS pending_webhooks, position, ordinal
FROM projections.feed
WHERE {_LIVE}
AND account = %(account)s AND livemode = %(livemode)s AND created > %(since)s AND created <= %(until)s
""",  # noqa: S608 (a constant)
    cursor_select=f"""
SELECT created, position, ordinal FROM projections.feed
WHERE {_LIVE}
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
AND created > %(since)s AND created <= %(until)s
""",  # noqa: S608
    filters={
        "id": "AND id = %(id)s",
        "type": "AND type = %(type)s",
        "types": "AND type = ANY(%(types)s)",
        "object": "AND object_id = %(object)s",
        "delivered": """
AND NOT EXISTS (SELECT FROM webhooks.deliveries d
                WHERE d.event = feed.id AND d.state IN ('pending', 'failed'))
""",
    },
    hashed=frozenset({"type"}),
    by_ordinal=True,
    partitioned_by_day=True,
    recorded_at_select="""
SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.events
WHERE originator_id = %(id)s AND originator_version = 1
""",
    applied_position=_FANNED_OUT_POSITION,
)
# Reads the deliveries, of which few are pending or failed: a search of the feed for them could take long. An
# Event that is owed to several endpoints is listed once.
UNDELIVERED_EVENTS = replace(
    EVENTS,
    hashed=None,
    select=f"""
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data, pending_webhooks,
       position, ordinal
FROM (
    SELECT d.event AS id, d.livemode, d.created, d.type, f.api_version, f.request_id, f.idempotency_key,
           f.data, (SELECT count(*) FROM webhooks.deliveries o
                    WHERE o.event = d.event AND o.state IN ('pending', 'failed')) AS pending_webhooks,
           d.position, d.ordinal
    FROM webhooks.deliveries d
    JOIN projections.feed f ON f.{_LIVE} AND f.id = d.event AND f.created = d.created
    WHERE d.account = %(account)s AND d.livemode = %(livemode)s AND d.state IN ('pending', 'failed')
    AND d.created > %(since)s AND d.created <= %(until)s
    AND NOT EXISTS (SELECT FROM webhooks.deliveries o
                    WHERE o.event = d.event AND o.state IN ('pending', 'failed') AND o.endpoint < d.endpoint)
) AS undelivered WHERE true
""",  # noqa: S608
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/events/{id}`, for 30 days from `created` (contract §4.4)."""
    event, _, _ = await fetch_event(call, context)
    return QueryResult(_render(event, call))


async def fetch_event(call: Call, context: QueryContext) -> tuple[FeedEvent, int, int]:
    """The Event that is the call's target, its position in the log and its place there. Raises
    UnknownObject."""
    found = await find_event(call, context, call.target)
    if found is None:
        hint = await find_mode_hint(call, context, call.target)
        if to_snapshot_id(call.target) is not None:
            hint = f"; a thin event is retrieved at /v2/core/events/{call.target[:80]}"
        raise UnknownObject("event", call.target, hint=hint)
    return found


async def find_event(call: Call, context: QueryContext, event_id: str) -> tuple[FeedEvent, int, int] | None:
    """The caller's Event of this id, its position in the log and its place there; or None."""
    row = await context.pages.fetch_by_id(call, EVENTS, event_id)
    if row is None:
        return None
    [event] = await open_rows(context, [row])
    *_, position, ordinal = row
    return event, position, ordinal


async def open_rows(context: QueryContext, rows: Sequence[TupleRow]) -> list[FeedEvent]:
    """The Events of rows of the list query. Raises Unavailable, UnreadableRecord."""
    return await open_events(context.pool.run_idempotent, context.store.codec, rows)


async def find_mode_hint(call: Call, context: QueryContext, event_id: str) -> str:
    """What the error for an Event that is not there says if it is there in the other mode."""
    other_mode_call = call.replace(cause=call.cause._replace(livemode=not call.livemode))
    row = await context.pages.fetch_by_id(other_mode_call, EVENTS, event_id)
    return "" if row is None else other_mode_hint(call)


async def list_events(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/events`, newest first in the order of the log."""
    params = call.parameters
    filters: dict[str, Any] = {name: params[name] for name in ("type", "types") if name in params}
    if filters.get("type", "").endswith("*"):
        pattern = filters.pop("type")
        filters["types"] = [name for name in EVENT_TYPES if matches(pattern, name)]
    success = params.get("delivery_success")
    if success:
        filters["delivered"] = True
    return await fetch_events(call, context, filters, UNDELIVERED_EVENTS if success is False else EVENTS)


async def fetch_events(
    call: Call, context: QueryContext, filters: Mapping[str, Any], list_query: ListQuery = EVENTS
) -> QueryResult:
    """The page of Events that pass these filters of the list query, for the call's `limit`, `created` and
    cursors. Raises InvalidParameter, Unavailable."""
    page = await context.pages.fetch_page(call, list_query, filters)
    events = await open_rows(context, page.rows)
    return render_list(EVENTS, [_render(event, call) for event in events], page)


def render_event(event: FeedEvent, *, account: str | None, api_version: str | None = None) -> dict[str, Any]:
    """An Event as the API and webhooks show it. `account`: the connected account, shown only to a platform.
    `api_version`: the reader's, by default the Event's own."""
    return events.render_event(
        event_id=event.id,
        event_type=event.type,
        created=event.created,
        livemode=event.livemode,
        api_version=api_version or event.api_version,
        data=msgspec.Raw(event.data),
        request_id=event.request_id,
        idempotency_key=event.idempotency_key,
        pending_webhooks=event.pending_webhooks,
        account=account,
    )


def _render(event: FeedEvent, call: Call) -> dict[str, Any]:
    return render_event(event, account=call.connected_account)
