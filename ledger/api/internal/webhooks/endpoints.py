"""Routes about webhook endpoints and how deliveries to them go, for operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.api.internal.webhooks.deliveries import ID_LENGTH_MAX, get_owner
from ledger.api.openapi.answers import answers_with
from ledger.commands.models import StorableText
from ledger.queries.context import QueryContext
from ledger.webhooks.history.endpoint_list import list_endpoints
from ledger.webhooks.history.endpoint_report import read_endpoint_report

EndpointId = Annotated[StorableText, Path(alias="id", max_length=ID_LENGTH_MAX)]


def endpoint_routes(callers: Callers, queries: QueryContext) -> APIRouter:
    """The routes under `/webhooks/endpoints`."""
    router = APIRouter(prefix="/endpoints")
    webhooks_scope = callers.require_scopes("webhooks")

    @router.get(
        "",
        summary="List webhook endpoints with their health",
        responses=answers_with("webhook_endpoint_summary_list"),
    )
    async def list_endpoint_summaries(
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        starting_after: Annotated[
            StorableText | None,
            Query(max_length=ID_LENGTH_MAX, description="An endpoint's id: return those after it."),
        ] = None,
        exchange: Exchange = webhooks_scope,
    ) -> Response:
        """Those of the account and mode, by id: whether each is enabled, fails, is paused by its breaker, and
        what waits for it."""
        store, owner = queries.store, get_owner(exchange)
        page, has_more = await queries.pool.run_idempotent(
            lambda conn: list_endpoints(
                conn,
                store.codec,
                owner,
                limit=limit,
                starting_after=starting_after,
                now=store.clock.now(),
            )
        )
        return JSONResponse({"data": [summary.to_json(owner) for summary in page], "has_more": has_more})

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
