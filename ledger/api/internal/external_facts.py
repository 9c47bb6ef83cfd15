"""The routes of the catalogue: what happened elsewhere, told by those who know (scopes catalog, network)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ledger.api.internal.callers import Caller, Callers, answer, carried_out
from ledger.commands import external_facts
from ledger.commands.execution import Execution
from ledger.commands.external_facts import Tell
from ledger.commands.models import Body, ChargeBody, CustomerBody, DisputeBody, FactBody
from ledger.domain.money import Terms


def catalogue_routes(callers: Callers, execution: Execution, terms: Terms) -> APIRouter:
    """Each takes an Idempotency-Key, and answers with the object as the public API shows it."""
    router = APIRouter(tags=["catalogue"])
    catalog, network = callers.scoped("catalog"), callers.scoped("network")
    dispute_opened, fact_reported = external_facts.dispute_opened(terms), external_facts.fact_reported(terms)

    async def told(request: Request, caller: Caller, body: Body, tell: Tell, target: str = "") -> Response:
        decide = external_facts.whole(tell)
        done = await carried_out(execution, caller, request, decide, body.given(), target=target)
        return answer(done, caller, request)

    @router.post("/customers", summary="Tell of a customer")
    async def customers(request: Request, body: CustomerBody, caller: Caller = catalog) -> Response:
        """Makes it, under its own id if one is given. The same id again is answered with what is there."""
        return await told(request, caller, body, external_facts.customer_made)

    @router.post("/charges", summary="Tell of a charge made elsewhere")
    async def charges(request: Request, body: ChargeBody, caller: Caller = catalog) -> Response:
        """No card is charged. The same id again is answered with what is there."""
        return await told(request, caller, body, external_facts.charge_made)

    @router.post("/disputes", summary="Tell of a dispute the network opened")
    async def disputes(request: Request, body: DisputeBody, caller: Caller = network) -> Response:
        """Withdraws the money where the kind says so. The same reference again on the charge, or the same
        id, is answered with the dispute there is; 409 `dispute_state` for a charge that was not paid."""
        return await told(request, caller, body, dispute_opened)

    @router.post("/disputes/{id}/facts", summary="Tell what the network says of a dispute")
    async def facts(
        request: Request,
        body: FactBody,
        dispute: Annotated[str, Path(alias="id", max_length=255)],
        caller: Caller = network,
    ) -> Response:
        """The same reference again gets the same answer and nothing happens. A fact that cannot follow on
        the dispute's status: 409 `dispute_state`, and nothing changes."""
        return await told(request, caller, body, fact_reported, dispute)

    return router
