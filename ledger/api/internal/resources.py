"""The routes by which other services publish their resources to the Event feed (scope publish)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ledger.api.internal.callers import Caller, Callers, answer, carried_out
from ledger.api.public.protocol import OK
from ledger.commands import resources
from ledger.commands.execution import Decide, Execution
from ledger.commands.models import Id, PublishBody, UnpublishBody
from ledger.commands.resources import Publications

Type = Annotated[str, Path(alias="type", max_length=100, pattern=r"^[a-z][a-z0-9_.]*$", examples=["invoice"])]
Named = Annotated[Id, Path(alias="id", examples=["in_1NXWPnCo6bFb1KQto6C8OWvE"])]


def resource_routes(callers: Callers, execution: Execution, publications: Publications) -> APIRouter:
    """Each takes an Idempotency-Key, and answers with the Event as the public API shows it."""
    router = APIRouter(prefix="/resources", tags=["resources"])
    publisher = callers.scoped("publish")

    async def done(
        request: Request, caller: Caller, given: dict[str, Any], decide: Decide, of_type: str, named: str
    ) -> Response:
        caller = await callers.acting_on(caller, given.pop("account", None))
        request.state.exchange.account = caller.account
        answered = await carried_out(
            execution, caller, request, decide, {"type": of_type, **given}, target=named
        )
        if answered.status == OK:
            event = await publications.event(answered.body)
            answered = answered._replace(body=execution.encode(event)[1])
        return answer(answered, caller, request)

    @router.put("/{type}/{id}", summary="Publish a resource as it is now")
    async def publish(
        request: Request, of_type: Type, named: Named, body: PublishBody, caller: Caller = publisher
    ) -> Response:
        """Makes an Event of it. On `*.updated` it tells what changed since the resource was published last
        (`previous_attributes`; empty when it never was). The same object again, as an update or as the type
        it was published as the last time, makes no Event: the last one of the resource is the answer. A
        resource that was deleted begins anew."""
        return await done(request, caller, body.given(), resources.publish, of_type, named)

    @router.delete("/{type}/{id}", summary="Publish that a resource is deleted")
    async def unpublish(
        request: Request,
        of_type: Type,
        named: Named,
        body: UnpublishBody | None = None,
        caller: Caller = publisher,
    ) -> Response:
        """Makes an Event with the resource as it was published last. 404 when it is not there."""
        given = {} if body is None else body.given()
        return await done(request, caller, given, resources.unpublish, of_type, named)

    return router
