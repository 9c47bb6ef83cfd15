"""The JSON of webhook endpoints (contract §5.1). The response to a creation adds the `secret`."""

from __future__ import annotations

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.wire.json_values import Json


def render_webhook_endpoint(state: WebhookEndpoint) -> Json:
    """A webhook endpoint, without its secret."""
    return {
        "id": state.id,
        "object": "webhook_endpoint",
        "api_version": state.api_version,
        "application": None,
        "created": state.created,
        "description": state.description,
        "enabled_events": state.enabled_events,
        "livemode": state.livemode,
        "metadata": state.metadata,
        "status": "disabled" if state.disabled else "enabled",
        "url": state.url,
    }


def render_settings(state: WebhookEndpoint, now: int) -> Json:
    """How Events are sent to a webhook endpoint, as of `now`: for the internal API."""
    dispatch = state.dispatch
    valid_until = dispatch.previous_secret_valid_until
    return {
        "id": state.id,
        "object": "webhook_endpoint_settings",
        "event_payload": "thin" if state.is_thin else "snapshot",
        "livemode": state.livemode,
        "ordered": dispatch.ordered,
        "previous_secret_valid_until": valid_until if now < valid_until else None,
        "secret_version": dispatch.secret_version,
        "standard_webhooks": dispatch.standard_webhooks,
        "status": "disabled" if state.disabled else "enabled",
    }


def render_webhook_endpoint_quota(state: WebhookEndpointQuota) -> Json:
    """A quota, for audit: no route of the public API returns it."""
    return {
        "id": state.id,
        "object": "webhook_roster",
        "endpoints": state.endpoints,
        "livemode": state.livemode,
    }
