"""Queries on thin events (contract §10.4): the Events of the feed, without their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.errors import UnknownObject
from ledger.queries.context import QueryContext
from ledger.queries.event_destinations import find_ping
from ledger.queries.events import EVENTS, find_event, find_mode_hint, open_rows
from ledger.queries.feed_events import FeedEvent
from ledger.queries.pages import QueryResult
from ledger.queries.v2_pages import Parameters, list_page
from ledger.wire.json_values import Json
from ledger.wire.thin_events import (
    SNAPSHOT_ID_PREFIX,
    THIN_ID_PREFIX,
    render_notification,
    render_thin_event,
    to_snapshot_id,
    to_snapshot_type,
)

PATH = "/v2/core/events"
NOUN = "thin event"


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v2/core/events/{id}`, for 30 days."""
    snapshot_id = to_snapshot_id(call.target)
    if snapshot_id is None:
        hint = f"; the id of one begins with {THIN_ID_PREFIX}"
        if call.target.startswith(SNAPSHOT_ID_PREFIX) and not call.target.startswith(THIN_ID_PREFIX):
            hint += f", and that of a snapshot event is retrieved at /v1/events/{call.target[:80]}"
        raise UnknownObject(NOUN, call.target, hint=hint)
    found = await find_event(call, context, snapshot_id)
    if found is None:
        ping = await find_ping(call, context)
        if ping is not None:
            return QueryResult(ping)
        hint = await find_mode_hint(call, context, snapshot_id)
        raise UnknownObject(NOUN, call.target, hint=hint)
    return QueryResult(_render(found[0], call))


async def list_thin_events(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v2/core/events`, newest first in the order of the log."""

    async def render_rows(rows: Sequence[TupleRow], parameters: Parameters) -> list[Json]:
        return [_render(event, call) for event in await open_rows(context, rows)]

    return await list_page(
        call,
        context,
        EVENTS,
        PATH,
        make_filters=_make_filters,
        get_cursor=lambda row: str(row[0]),
        render_rows=render_rows,
    )


def render_event_notification(event: FeedEvent, *, account: str | None) -> Json:
    """What is pushed of the Event's thin twin. `account`: the connected account, only for a platform."""
    return render_notification(event, event.data, context=account)


def _make_filters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    if "object_id" in parameters:
        filters["object"] = parameters["object_id"]
    if "types" in parameters:
        types = [to_snapshot_type(name) for name in parameters["types"]]
        filters |= {"type": types[0]} if len(types) == 1 else {"types": types}
    return filters


def _render(event: FeedEvent, call: Call) -> Json:
    return render_thin_event(event, event.data, context=call.connected_account)
