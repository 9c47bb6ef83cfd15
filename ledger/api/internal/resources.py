"""The routes by which other services publish their resources to the Event feed (scope publish)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ledger.api.internal.callers import Caller, Callers, build_response, run_command
from ledger.api.public.protocol import STATUS_OK
from ledger.commands import resources
from ledger.commands.execution import Decide, Execution
from ledger.commands.models import Id, PublishBody, UnpublishBody
from ledger.commands.resources import Publications

ResourceType = Annotated[
    str, Path(alias="type", max_length=100, pattern=r"^[a-z][a-z0-9_.]*$", examples=["invoice"])
]
ResourceId = Annotated[Id, Path(alias="id", examples=["in_1NXWPnCo6bFb1KQto6C8OWvE"])]


def resource_routes(callers: Callers, execution: Execution, publications: Publications) -> APIRouter:
    """Each takes an Idempotency-Key, and answers with the Event as the public API shows it."""
    router = APIRouter(prefix="/resources", tags=["resources"])
    publish_caller = callers.require_scopes("publish")

    async def publish_and_respond(
        request: Request,
        caller: Caller,
        parameters: dict[str, Any],
        decide: Decide,
        resource_type: str,
        resource_id: str,
    ) -> Response:
        caller = await callers.switch_account(caller, parameters.pop("account", None))
        request.state.exchange.account = caller.account
        result = await run_command(
            execution, caller, request, decide, {"type": resource_type, **parameters}, target=resource_id
        )
        if result.status == STATUS_OK:
            event = await publications.fetch_event(result.body)
            result = result._replace(body=execution.encode(event)[1])
        return build_response(result, caller, request)

    @router.put("/{type}/{id}", summary="Publish a resource as it is now")
    async def publish(
        request: Request,
        resource_type: ResourceType,
        resource_id: ResourceId,
        body: PublishBody,
        caller: Caller = publish_caller,
    ) -> Response:
        """Makes an Event of it. On `*.updated` it tells what changed since the resource was published last
        (`diff_attributes`; empty when it never was). The same object again, as an update or as the type
        it was published as the last time, makes no Event: the last one of the resource is the answer. A
        resource that was deleted begins anew."""
        return await publish_and_respond(
            request, caller, body.to_params(), resources.publish, resource_type, resource_id
        )

    @router.delete("/{type}/{id}", summary="Publish that a resource is deleted")
    async def unpublish(
        request: Request,
        resource_type: ResourceType,
        resource_id: ResourceId,
        body: UnpublishBody | None = None,
        caller: Caller = publish_caller,
    ) -> Response:
        """Makes an Event with the resource as it was published last. 404 when it is not there."""
        parameters = {} if body is None else body.to_params()
        return await publish_and_respond(
            request, caller, parameters, resources.unpublish, resource_type, resource_id
        )

    return router
