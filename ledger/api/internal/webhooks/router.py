"""The router of the routes under /internal/v1/webhooks."""

from __future__ import annotations

from fastapi import APIRouter

from ledger.api.internal.callers import Callers
from ledger.api.internal.webhooks.deliveries import delivery_routes
from ledger.api.internal.webhooks.endpoints import endpoint_routes
from ledger.api.internal.webhooks.replays import replay_routes
from ledger.api.internal.webhooks.retries import retry_routes
from ledger.api.internal.webhooks.settings import endpoint_settings_routes
from ledger.commands.execution import Execution
from ledger.queries.context import QueryContext


def webhook_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """All of them. A delivery, endpoint, replay or retry of another account or mode does not exist."""
    router = APIRouter(prefix="/webhooks", tags=["webhooks"])
    router.include_router(delivery_routes(callers, execution, queries))
    router.include_router(endpoint_routes(callers, queries))
    router.include_router(endpoint_settings_routes(callers, execution, queries))
    router.include_router(replay_routes(callers, execution, queries))
    router.include_router(retry_routes(callers, execution, queries))
    return router
