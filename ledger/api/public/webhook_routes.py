"""The operations on webhook endpoints, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.commands import webhook_endpoints
from ledger.queries import webhook_endpoints as endpoint_queries
from ledger.wire import tables

_endpoint = partial(Operation, resource="webhook", expandable="webhook_endpoint")

WEBHOOK_ENDPOINTS = (
    _endpoint(
        method="POST",
        path="/v1/webhook_endpoints",
        summary="Create a webhook endpoint",
        table=tables.webhook_endpoints.CREATE,
        decide=webhook_endpoints.create,
    ),
    _endpoint(
        method="GET",
        path="/v1/webhook_endpoints",
        summary="List webhook endpoints, newest first",
        table=tables.webhook_endpoints.LIST,
        read=endpoint_queries.list_webhook_endpoints,
    ),
    _endpoint(
        method="GET",
        path="/v1/webhook_endpoints/{webhook_endpoint}",
        summary="Retrieve a webhook endpoint",
        table=tables.webhook_endpoints.RETRIEVE,
        read=endpoint_queries.retrieve,
    ),
    _endpoint(
        method="POST",
        path="/v1/webhook_endpoints/{webhook_endpoint}",
        summary="Update, disable or enable a webhook endpoint",
        table=tables.webhook_endpoints.UPDATE,
        decide=webhook_endpoints.update,
    ),
    _endpoint(
        method="DELETE",
        path="/v1/webhook_endpoints/{webhook_endpoint}",
        summary="Delete a webhook endpoint",
        table=tables.webhook_endpoints.DELETE,
        decide=webhook_endpoints.delete,
    ),
)
