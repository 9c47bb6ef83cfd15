"""Routes by which other services report what happened elsewhere: customers, charges, disputes and network
decisions (scopes catalog, network; internal API §1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, build_response, run_command
from ledger.api.openapi.answers import answers_with
from ledger.commands import external_facts
from ledger.commands.execution import Execution
from ledger.commands.external_facts import Ingest
from ledger.commands.models import Body, ChargeBody, CustomerBody, DisputeBody, FactBody


def external_fact_routes(callers: Callers, execution: Execution) -> APIRouter:
    """Each route takes an Idempotency-Key, and answers with the object as the public API renders it."""
    router = APIRouter(tags=["catalogue"])
    catalog_scope, network_scope = callers.require_scopes("catalog"), callers.require_scopes("network")

    async def ingest_and_respond(
        exchange: Exchange, body: Body, ingest: Ingest, target: str = ""
    ) -> Response:
        decide = external_facts.answer_with_object(ingest)
        result = await run_command(execution, exchange, decide, body.to_params(), target=target)
        return build_response(result, exchange)

    @router.post("/customers", summary="Record a customer", responses=answers_with("customer"))
    async def record_customer(body: CustomerBody, exchange: Exchange = catalog_scope) -> Response:
        """Creates the customer, under the given id if there is one. Repeating id and content returns the
        customer that exists; 409 `resource_already_exists` for the id with other content."""
        return await ingest_and_respond(exchange, body, external_facts.ingest_customer)

    @router.post("/charges", summary="Record a charge made elsewhere", responses=answers_with("charge"))
    async def record_charge(body: ChargeBody, exchange: Exchange = catalog_scope) -> Response:
        """No card is charged. Repeating id and content returns the charge that exists; 409
        `resource_already_exists` for the id with other content."""
        return await ingest_and_respond(exchange, body, external_facts.ingest_charge)

    @router.post(
        "/disputes", summary="Record a dispute opened by the card network", responses=answers_with("dispute")
    )
    async def record_dispute(body: DisputeBody, exchange: Exchange = network_scope) -> Response:
        """Withdraws the money if the kind of dispute requires it. Repeating the id, or the reference on the
        same charge, with the same content returns the dispute that exists; 409 `resource_already_exists` with
        other content. 409 `dispute_state` if the charge was not paid."""
        return await ingest_and_respond(exchange, body, external_facts.ingest_dispute)

    @router.post(
        "/disputes/{id}/facts",
        summary="Record a network decision on a dispute",
        responses=answers_with("dispute"),
    )
    async def record_dispute_fact(
        body: FactBody,
        dispute: Annotated[str, Path(alias="id", max_length=255)],
        exchange: Exchange = network_scope,
    ) -> Response:
        """Repeating reference and content returns the same answer and changes nothing; 409
        `resource_already_exists` for the reference with other content. 409 `dispute_state` for a fact that
        the dispute's status does not allow; nothing changes."""
        return await ingest_and_respond(exchange, body, external_facts.ingest_dispute_fact, dispute)

    return router
