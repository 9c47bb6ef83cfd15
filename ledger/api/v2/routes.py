"""Every operation of /v2, in one table, as `ledger.api.public.routes` has those of /v1."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.api.v2.destination_routes import EVENT_DESTINATIONS
from ledger.queries import thin_events
from ledger.wire import tables

_event = partial(Operation, resource="event", expandable="thin_event")

EVENTS = (
    _event(
        method="GET",
        path="/v2/core/events",
        summary="List thin events of the last 30 days, newest first",
        table=tables.v2_events.LIST,
        read=thin_events.list_thin_events,
    ),
    _event(
        method="GET",
        path="/v2/core/events/{event}",
        summary="Retrieve a thin event of the last 30 days",
        table=tables.v2_events.RETRIEVE,
        read=thin_events.retrieve,
    ),
)
V2_OPERATIONS: tuple[Operation, ...] = (*EVENTS, *EVENT_DESTINATIONS)
