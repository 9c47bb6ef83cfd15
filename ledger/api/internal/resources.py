"""Routes by which other services publish their resources as Events (scope publish; internal API §1)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path
from fastapi.responses import Response

from ledger.api.errors import STATUS_OK
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response, run_command
from ledger.api.openapi.answers import answers_with
from ledger.commands import resources
from ledger.commands.execution import Decide, Execution
from ledger.commands.models import Id, NewId, PublishBody, UnpublishBody
from ledger.commands.resources import Publications

ResourceType = Annotated[
    str, Path(alias="type", max_length=100, pattern=r"^[a-z][a-z0-9_.]*$", examples=["invoice"])
]
_RESOURCE_ID = Path(alias="id", examples=["in_1NXWPnCo6bFb1KQto6C8OWvE"])


def resource_routes(callers: Callers, execution: Execution, publications: Publications) -> APIRouter:
    """Each route takes an Idempotency-Key, and answers with the Event as the public API renders it."""
    router = APIRouter(prefix="/resources", tags=["resources"])
    publish_scope = callers.require_scopes("publish")

    async def publish_and_respond(
        exchange: Exchange,
        parameters: dict[str, Any],
        decide: Decide,
        resource_type: str,
        resource_id: str,
    ) -> Response:
        account = parameters.pop("account", None)
        if account is not None:
            await callers.check_account(exchange, account)
            exchange.account = account
        result = await run_command(
            execution, exchange, decide, {"type": resource_type, **parameters}, target=resource_id
        )
        if result.status == STATUS_OK:
            event = await publications.fetch_event(result.body)
            result = msgspec.structs.replace(result, body=execution.encode(event)[1])
        return build_response(result, exchange)

    @router.put("/{type}/{id}", summary="Publish a resource's present state", responses=answers_with("event"))
    async def publish_resource(
        resource_type: ResourceType,
        resource_id: Annotated[NewId, _RESOURCE_ID],
        body: PublishBody,
        exchange: Exchange = publish_scope,
    ) -> Response:
        """Creates an Event. Events of a type `*.updated` have `previous_attributes`: what changed since the
        resource was published last; empty if it never was. Publishing an unchanged object, as an update or
        with the type it was last published with, creates no Event and returns the resource's last one. A
        deleted resource can be published again, as a new one."""
        return await publish_and_respond(
            exchange, body.to_params(), resources.publish, resource_type, resource_id
        )

    @router.delete(
        "/{type}/{id}", summary="Publish that a resource is deleted", responses=answers_with("event")
    )
    async def delete_resource(
        resource_type: ResourceType,
        resource_id: Annotated[Id, _RESOURCE_ID],
        body: UnpublishBody | None = None,
        exchange: Exchange = publish_scope,
    ) -> Response:
        """Creates an Event with the resource as it was last published. 404 if it was never published, or is
        deleted already."""
        parameters = {} if body is None else body.to_params()
        return await publish_and_respond(
            exchange, parameters, resources.unpublish, resource_type, resource_id
        )

    return router
