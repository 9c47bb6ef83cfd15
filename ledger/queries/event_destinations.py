"""Queries on event destinations (contract §10.5): all webhook endpoints, those that API v1 has made too.

When one was changed last, and why it is disabled, is in its events alone: an answer reads them for the few
destinations that it shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.event import DomainEvent
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.objects import DESTINATION_NOUN, get_destination
from ledger.postgres.connections import fetch_one
from ledger.queries.context import QueryContext
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult
from ledger.queries.v2_pages import Parameters, list_page
from ledger.wire.event_destinations import (
    PATH,
    PING_TYPE,
    render_destination,
    render_ping,
    render_retrieved_ping,
)
from ledger.wire.json_values import Json

# A ping is in no feed: its delivery is all there is of it.
_SELECT_PING = """
SELECT endpoint, created FROM webhooks.deliveries
WHERE event = %(event)s AND type = %(type)s AND account = %(account)s AND livemode = %(livemode)s
"""
DESTINATIONS = ListQuery.of("webhook_endpoints", noun=DESTINATION_NOUN, where="AND NOT deleted")


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v2/core/event_destinations/{id}`"""
    state = await get_destination(call, context.get)
    events = await _read_events(context, [state])
    include = call.parameters.get("include", ())
    return QueryResult(render_destination(state, events[state.id], include=include))


async def list_destinations(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v2/core/event_destinations`, newest first."""

    async def render_rows(rows: Sequence[TupleRow], parameters: Parameters) -> list[Json]:
        states = await context.read_states(rows, lambda row: WebhookEndpoint)
        events = await _read_events(context, states)
        include = parameters.get("include", ())
        return [render_destination(state, events[state.id], include=include) for state in states]

    return await list_page(
        call,
        context,
        DESTINATIONS,
        PATH,
        make_filters=lambda parameters: {},
        get_cursor=lambda row: str(row[1]),
        render_rows=render_rows,
    )


async def find_ping(call: Call, context: QueryContext) -> Json | None:
    """The event that pinged a destination of the caller, if the call's target is the id of one. Raises
    Unavailable."""
    parameters = {
        "event": call.target, "type": PING_TYPE, "account": call.account, "livemode": call.livemode
    }  # fmt: skip
    row = await context.pool.run_idempotent(lambda conn: fetch_one(conn, _SELECT_PING, parameters))
    if row is None:
        return None
    endpoint, created = row
    ping = render_ping(call.target, created, endpoint, livemode=call.livemode)
    return render_retrieved_ping(ping, context=call.connected_account)


async def _read_events(
    context: QueryContext, states: Sequence[WebhookEndpoint]
) -> dict[str, list[DomainEvent]]:
    """The events of each as of the version that is shown, by id. Raises Unavailable."""
    versions = {state.id: state.version for state in states}
    events: dict[str, list[DomainEvent]] = defaultdict(list)
    for event in await context.store.streams.read_events(list(versions)) if versions else ():
        if event.originator_version <= versions[event.originator_id]:
            events[event.originator_id].append(event)
    return events
