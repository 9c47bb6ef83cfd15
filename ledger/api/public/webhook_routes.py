"""The operations on webhook endpoints, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.commands import webhook_endpoints
from ledger.domain.money import Terms
from ledger.queries.webhook_endpoints import WebhookEndpointQueries, WebhookSecrets
from ledger.wire import tables


def webhook_endpoint_operations(
    reads: WebhookEndpointQueries, secrets: WebhookSecrets, terms: Terms
) -> list[Operation]:
    """All are of one permission, `webhook` (contract §1.2)."""
    endpoint = partial(Operation, resource="webhook", expandable="webhook_endpoint")
    return [
        endpoint(
            method="POST",
            path="/v1/webhook_endpoints",
            summary="Create a webhook endpoint",
            table=tables.webhook_endpoints.CREATE,
            decide=webhook_endpoints.create(secrets.derive, terms),
        ),
        endpoint(
            method="GET",
            path="/v1/webhook_endpoints",
            summary="List webhook endpoints, newest first",
            table=tables.webhook_endpoints.LIST,
            read=reads.list,
        ),
        endpoint(
            method="GET",
            path="/v1/webhook_endpoints/{webhook_endpoint}",
            summary="Retrieve a webhook endpoint",
            table=tables.webhook_endpoints.RETRIEVE,
            read=reads.retrieve,
        ),
        endpoint(
            method="POST",
            path="/v1/webhook_endpoints/{webhook_endpoint}",
            summary="Update, disable or enable a webhook endpoint",
            table=tables.webhook_endpoints.UPDATE,
            decide=webhook_endpoints.update,
        ),
        endpoint(
            method="DELETE",
            path="/v1/webhook_endpoints/{webhook_endpoint}",
            summary="Delete a webhook endpoint",
            table=tables.webhook_endpoints.DELETE,
            decide=webhook_endpoints.delete,
        ),
    ]
