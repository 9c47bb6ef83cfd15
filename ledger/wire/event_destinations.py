"""The JSON of event destinations, and of the event that pings one (contract §10.5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import UNSET

from ledger.domain.event import DomainEvent
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD, WebhookEndpoint
from ledger.domain.webhook_endpoint_decisions import find_disabled_reason
from ledger.errors import InvalidParameter
from ledger.wire.event_types import EVENT_TYPES_DESCRIBED_IN, ORDERED_EVENT_TYPES
from ledger.wire.json_values import Json
from ledger.wire.rfc3339 import format_time
from ledger.wire.suggestions import list_alternatives
from ledger.wire.thin_events import OBJECT_TYPE as EVENT_OBJECT_TYPE
from ledger.wire.thin_events import ORDERED_THIN_TYPES

OBJECT_TYPE = "v2.core.event_destination"
PATH = "/v2/core/event_destinations"
PING_TYPE = "v2.core.event_destination.ping"
WEBHOOK_ENDPOINT = "webhook_endpoint"
"""The one type of destination here."""
INCLUDE_URL = "webhook_endpoint.url"
INCLUDE_SECRET = "webhook_endpoint.signing_secret"  # noqa: S105 (no secret)

_THIN_NAMES = (EVENT_TYPE_WILDCARD, *ORDERED_THIN_TYPES)
_SNAPSHOT_NAMES = (EVENT_TYPE_WILDCARD, *ORDERED_EVENT_TYPES)
ENABLED_EVENTS_MAX = len(_THIN_NAMES)


def check_enabled_events(names: Sequence[str], *, thin: bool) -> None:
    """Raises InvalidParameter for a type that is no type of thin events, or of snapshots."""
    known = _THIN_NAMES if thin else _SNAPSHOT_NAMES
    for index, name in enumerate(names):
        if name not in known:
            alternatives = list_alternatives(name, known, EVENT_TYPES_DESCRIBED_IN)
            payload = "thin" if thin else "snapshot"
            raise InvalidParameter(
                f"Invalid enabled_events[{index}]: with an event_payload of {payload} it must be one of "
                f"{alternatives}",
                param=f"enabled_events[{index}]",
            )


def render_destination(
    state: WebhookEndpoint,
    events: Sequence[DomainEvent],
    *,
    include: Collection[str] = (),
    secret: str | None = None,
) -> Json:
    """An event destination, which these domain events have made. `secret`: its signing secret, for the answer
    to its creation alone."""
    reason = find_disabled_reason(events)
    return {
        "id": state.id,
        "object": OBJECT_TYPE,
        "amazon_eventbridge": None,
        "azure_event_grid": None,
        "created": format_time(state.created),
        "description": state.description or "",
        "enabled_events": state.enabled_events,
        "event_payload": "thin" if state.is_thin else "snapshot",
        "events_from": state.destination.events_from,
        "livemode": state.livemode,
        "metadata": state.metadata,
        "name": state.name,
        "snapshot_api_version": state.api_version,
        "status": "disabled" if state.disabled else "enabled",
        "status_details": None if reason is None else {"disabled": {"reason": reason}},
        "type": WEBHOOK_ENDPOINT,
        "updated": format_time(events[-1].at),
        "webhook_endpoint": {
            "signing_secret": secret,
            "url": state.url if INCLUDE_URL in include else None,
        },
    }


def render_own_members(state: WebhookEndpoint) -> Json:
    """What v1 does not show of an endpoint that is an event destination; nothing of one that v1 has made."""
    if state.own_destination is UNSET:
        return {}
    return {
        "name": state.name,
        "event_payload": "thin" if state.is_thin else "snapshot",
        "events_from": state.destination.events_from,
    }


def render_deletion(destination_id: str) -> Json:
    """What is left of an event destination."""
    return {"id": destination_id, "object": OBJECT_TYPE}


def render_ping(ping_id: str, created: int, destination_id: str, *, livemode: bool) -> Json:
    """The event that pings a destination, as it is pushed. It has no snapshot. `created` in unix seconds."""
    return {
        "id": ping_id,
        "object": EVENT_OBJECT_TYPE,
        "context": None,
        "created": format_time(created),
        "livemode": livemode,
        "reason": None,
        "related_object": {
            "id": destination_id,
            "type": OBJECT_TYPE,
            "url": f"{PATH}/{destination_id}",
        },
        "type": PING_TYPE,
    }


def render_retrieved_ping(ping: Json) -> Json:
    """The same event as it is retrieved."""
    return {**ping, "changes": None, "snapshot_event": None}
