"""The JSON of an object for auditors: as the public API shows it, and what of it API v2 alone shows."""

from __future__ import annotations

from ledger.domain.aggregate import State
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.objects import render_object
from ledger.wire.event_destinations import render_own_members
from ledger.wire.json_values import Json


def render_whole_object(state: State, now: int) -> Json:
    """The object at `now` (unix seconds)."""
    rendered = render_object(state, now)
    if isinstance(state, WebhookEndpoint) and not state.deleted:
        return rendered | render_own_members(state)
    return rendered
