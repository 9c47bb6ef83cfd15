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


def render_webhook_endpoint_quota(state: WebhookEndpointQuota) -> Json:
    """A quota, for audit: no route of the public API returns it."""
    return {
        "id": state.id,
        "object": "webhook_roster",
        "endpoints": state.endpoints,
        "livemode": state.livemode,
    }
