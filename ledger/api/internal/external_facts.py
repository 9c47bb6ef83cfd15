"""The routes of the catalogue: what happened elsewhere, told by those who know (scopes catalog, network)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ledger.api.internal.callers import Caller, Callers, build_response, run_command
from ledger.commands import external_facts
from ledger.commands.execution import Execution
from ledger.commands.external_facts import Ingest
from ledger.commands.models import Body, ChargeBody, CustomerBody, DisputeBody, FactBody


def external_fact_routes(callers: Callers, execution: Execution) -> APIRouter:
    """Each takes an Idempotency-Key, and answers with the object as the public API shows it."""
    router = APIRouter(tags=["catalogue"])
    catalog_caller, network_caller = callers.require_scopes("catalog"), callers.require_scopes("network")

    async def ingest_and_respond(
        request: Request, caller: Caller, body: Body, ingest: Ingest, target: str = ""
    ) -> Response:
        decide = external_facts.answer_with_object(ingest)
        result = await run_command(execution, caller, request, decide, body.to_params(), target=target)
        return build_response(result, caller, request)

    @router.post("/customers", summary="Tell of a customer")
    async def customers(request: Request, body: CustomerBody, caller: Caller = catalog_caller) -> Response:
        """Makes it, under its own id if one is given. The same id again is answered with what is there."""
        return await ingest_and_respond(request, caller, body, external_facts.ingest_customer)

    @router.post("/charges", summary="Tell of a charge made elsewhere")
    async def charges(request: Request, body: ChargeBody, caller: Caller = catalog_caller) -> Response:
        """No card is charged. The same id again is answered with what is there."""
        return await ingest_and_respond(request, caller, body, external_facts.ingest_charge)

    @router.post("/disputes", summary="Tell of a dispute the network opened")
    async def disputes(request: Request, body: DisputeBody, caller: Caller = network_caller) -> Response:
        """Withdraws the money where the kind says so. The same reference again on the charge, or the same
        id, is answered with the dispute there is; 409 `dispute_state` for a charge that was not paid."""
        return await ingest_and_respond(request, caller, body, external_facts.ingest_dispute)

    @router.post("/disputes/{id}/facts", summary="Tell what the network says of a dispute")
    async def facts(
        request: Request,
        body: FactBody,
        dispute: Annotated[str, Path(alias="id", max_length=255)],
        caller: Caller = network_caller,
    ) -> Response:
        """The same reference again gets the same answer and nothing happens. A fact that cannot follow on
        the dispute's status: 409 `dispute_state`, and nothing changes."""
        return await ingest_and_respond(request, caller, body, external_facts.ingest_dispute_fact, dispute)

    return router
