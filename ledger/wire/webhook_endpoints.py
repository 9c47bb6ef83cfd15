"""The JSON of webhook endpoints (contract §5.1). The secret is no part of it: a create's answer adds it."""

from __future__ import annotations

from typing import Any

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota


def render_webhook_endpoint(state: WebhookEndpoint) -> dict[str, Any]:
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


def render_deleted_webhook_endpoint(endpoint_id: str) -> dict[str, Any]:
    """What is left to show of it."""
    return {"id": endpoint_id, "object": "webhook_endpoint", "deleted": True}


def render_webhook_endpoint_quota(state: WebhookEndpointQuota) -> dict[str, Any]:
    """Of no public resource: for those who look into the log."""
    return {
        "id": state.id,
        "object": "webhook_roster",
        "endpoints": state.endpoints,
        "livemode": state.livemode,
    }
