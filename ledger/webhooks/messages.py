"""What is sent of an Event to an endpoint: the snapshot, or its thin twin."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.ids import parse_id_time
from ledger.queries.events import render_event
from ledger.queries.feed_events import FeedEvent
from ledger.queries.thin_events import render_event_notification
from ledger.wire.event_destinations import render_ping
from ledger.wire.thin_events import to_thin_id

CACHED_BODIES_MAX = 64


class Message(NamedTuple):
    """The id of the Event as the receiver knows it, and the body of the request."""

    id: str
    body: bytes


def make_message(event: FeedEvent, account: str, endpoint: WebhookEndpoint) -> Message:
    """The message for an Event of `account`, which is named if it is a connected one."""
    context = account if account != endpoint.account else None
    if endpoint.is_thin:
        return Message(to_thin_id(event.id), _render_thin(event, context))
    return Message(event.id, _render_snapshot(event, context, endpoint.api_version))


def make_ping(ping_id: str, endpoint: WebhookEndpoint) -> Message:
    """The message that pings the endpoint."""
    created = parse_id_time(ping_id)
    assert created is not None, "the id of a ping has its time"
    rendered = render_ping(ping_id, int(created), endpoint.id, livemode=endpoint.livemode)
    return Message(ping_id, msgspec.json.encode(rendered))


# The same for all endpoints that get an Event in the same form.
@lru_cache(CACHED_BODIES_MAX)
def _render_snapshot(event: FeedEvent, account: str | None, api_version: str | None) -> bytes:
    return msgspec.json.encode(render_event(event, account=account, api_version=api_version))


@lru_cache(CACHED_BODIES_MAX)
def _render_thin(event: FeedEvent, account: str | None) -> bytes:
    return msgspec.json.encode(render_event_notification(event, account=account))
