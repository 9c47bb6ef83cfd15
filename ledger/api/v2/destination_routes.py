"""The operations on event destinations, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.api.v2.json_body import NO_BODY, JsonBody
from ledger.commands import event_destinations
from ledger.commands.event_destination_models import DestinationCreation, DestinationUpdate
from ledger.queries import event_destinations as destination_queries
from ledger.webhooks import pings
from ledger.wire import tables

_destination = partial(Operation, resource="webhook", expandable="event_destination")

EVENT_DESTINATIONS = (
    _destination(
        method="POST",
        path="/v2/core/event_destinations",
        summary="Create an event destination",
        table=JsonBody(DestinationCreation),
        decide=event_destinations.create,
    ),
    _destination(
        method="GET",
        path="/v2/core/event_destinations",
        summary="List event destinations, newest first",
        table=tables.v2_event_destinations.LIST,
        read=destination_queries.list_destinations,
    ),
    _destination(
        method="GET",
        path="/v2/core/event_destinations/{event_destination}",
        summary="Retrieve an event destination",
        table=tables.v2_event_destinations.RETRIEVE,
        read=destination_queries.retrieve,
    ),
    _destination(
        method="POST",
        path="/v2/core/event_destinations/{event_destination}",
        summary="Update an event destination",
        table=JsonBody(DestinationUpdate),
        decide=event_destinations.update,
    ),
    _destination(
        method="DELETE",
        path="/v2/core/event_destinations/{event_destination}",
        summary="Delete an event destination",
        table=tables.v2_event_destinations.DELETE,
        decide=event_destinations.delete,
    ),
    _destination(
        method="POST",
        path="/v2/core/event_destinations/{event_destination}/enable",
        summary="Enable an event destination",
        table=NO_BODY,
        decide=event_destinations.enable,
    ),
    _destination(
        method="POST",
        path="/v2/core/event_destinations/{event_destination}/disable",
        summary="Disable an event destination",
        table=NO_BODY,
        decide=event_destinations.disable,
    ),
    _destination(
        method="POST",
        path="/v2/core/event_destinations/{event_destination}/ping",
        summary="Send an event destination a ping",
        table=NO_BODY,
        change=pings.ping,
    ),
)
