"""Routes for what a webhook endpoint has besides Stripe's: its secret replaced, order, a second signature."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response, run_command
from ledger.api.internal.webhooks.endpoints import EndpointId
from ledger.api.openapi.answers import answers_with
from ledger.call import Call
from ledger.commands import webhook_endpoints
from ledger.commands.execution import Execution
from ledger.commands.models import Body
from ledger.domain.webhook_endpoint_decisions import OVERLAP_SECONDS_DEFAULT, OVERLAP_SECONDS_MAX
from ledger.queries.context import QueryContext
from ledger.queries.webhook_endpoints import retrieve_settings


class SettingsBody(Body):
    """Settings to change; the others stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ordered": True}]})

    ordered: bool | None = Field(
        None, description="Whether the Events of one object are sent one after another, in order."
    )
    standard_webhooks: bool | None = Field(
        None, description="Whether the headers of Standard Webhooks are sent beside Stripe-Signature."
    )


class RotationBody(Body):
    """How to replace the signing secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": OVERLAP_SECONDS_DEFAULT}]})

    overlap_seconds: Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_MAX)] = Field(
        OVERLAP_SECONDS_DEFAULT, description="For how long the previous secret signs, too."
    )


def endpoint_settings_routes(callers: Callers, execution: Execution, queries: QueryContext) -> APIRouter:
    """More routes under `/webhooks/endpoints`."""
    router = APIRouter(prefix="/endpoints")
    webhooks_scope = callers.require_scopes("webhooks")

    @router.get(
        "/{id}", summary="The settings of an endpoint", responses=answers_with("webhook_endpoint_settings")
    )
    async def read_endpoint_settings(endpoint: EndpointId, exchange: Exchange = webhooks_scope) -> Response:
        """How Events are sent to it. Never its secret."""
        call = Call(exchange.build_cause(), endpoint, {}, as_platform=exchange.as_platform)
        return JSONResponse(await retrieve_settings(call, queries))

    @router.post(
        "/{id}",
        summary="Change the settings of an endpoint",
        responses=answers_with("webhook_endpoint_settings"),
    )
    async def configure_endpoint(
        body: SettingsBody, endpoint: EndpointId, exchange: Exchange = webhooks_scope
    ) -> Response:
        """They hold for Events recorded from now on; the headers, for all attempts from now on."""
        result = await run_command(
            execution, exchange, webhook_endpoints.configure, body.to_params(), target=endpoint
        )
        return build_response(result, exchange)

    @router.post(
        "/{id}/rotate_secret",
        summary="Replace the signing secret of an endpoint",
        responses=answers_with("rotated_webhook_secret"),
    )
    async def rotate_endpoint_secret(
        body: RotationBody, endpoint: EndpointId, exchange: Exchange = webhooks_scope
    ) -> Response:
        """The response shows the new secret: no other one does. Deliveries are signed by it from now on, and
        by the previous one, too, during the overlap. While that lasts, another rotation is refused (409
        `webhook_state`) unless its own overlap is 0, which ends all earlier secrets at once."""
        result = await run_command(
            execution, exchange, webhook_endpoints.rotate_secret, body.to_params(), target=endpoint
        )
        return build_response(result, exchange)

    return router
