"""Routes about one webhook endpoint, for operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, Response

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.internal.webhooks.deliveries import ID_LENGTH_MAX, get_owner
from ledger.api.openapi.answers import answers_with
from ledger.commands.models import StorableText
from ledger.queries.context import QueryContext
from ledger.webhooks.history.endpoint_report import read_endpoint_report

EndpointId = Annotated[StorableText, Path(alias="id", max_length=ID_LENGTH_MAX)]


def endpoint_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """The routes under `/webhooks/endpoints`."""
    router = APIRouter(prefix="/endpoints")
    webhooks_scope = callers.require_scopes("webhooks")

    @router.get(
        "/{id}/health",
        summary="How deliveries to an endpoint go",
        responses=answers_with("webhook_endpoint_health"),
    )
    async def read_endpoint_health(endpoint: EndpointId, exchange: Exchange = webhooks_scope) -> Response:
        """Whether it fails and since when, what waits for it, and how its last attempts went."""
        store = queries.store
        report = await queries.pool.run_idempotent(
            lambda conn: read_endpoint_report(
                conn, store.codec, endpoint, get_owner(exchange), store.clock.now()
            )
        )
        return JSONResponse(report.to_json())

    return router
