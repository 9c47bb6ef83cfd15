"""Queries on webhook endpoints (contract §5.1). No query returns a signing secret."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_decisions import check_gets_snapshots, check_not_deleted
from ledger.objects import get_target
from ledger.queries.context import QueryContext, list_objects, render
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult
from ledger.wire.json_values import Json
from ledger.wire.webhook_endpoints import render_settings

# Rows of releases that had no thin events have NULL.
WEBHOOK_ENDPOINTS = ListQuery.of(
    "webhook_endpoints", noun="webhook endpoint", where="AND NOT deleted AND thin IS NOT TRUE"
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/webhook_endpoints/{id}`. Raises UnknownObject, also for a deleted one."""
    state = await get_target(call, WebhookEndpoint, context.get)
    check_not_deleted(state)
    check_gets_snapshots(state)
    return QueryResult(await render(call, context, state, context.now()))


async def retrieve_settings(call: Call, context: QueryContext) -> Json:
    """`GET /internal/v1/webhooks/endpoints/{id}`. Raises UnknownObject, also for a deleted one."""
    state = await get_target(call, WebhookEndpoint, context.get)
    check_not_deleted(state)
    return render_settings(state, context.now())


async def list_webhook_endpoints(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/webhook_endpoints`"""
    return await list_objects(call, context, WEBHOOK_ENDPOINTS, WebhookEndpoint)
