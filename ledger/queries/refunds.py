"""Queries on refunds (contract §2.7)."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.refund import Refund
from ledger.objects import get_target
from ledger.queries.charges import check_filters
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

REFUNDS = ListQuery.of(
    "refunds",
    noun="refund",
    filters={
        "charge": "AND charge = %(charge)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
    },
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/refunds/{id}`"""
    return await retrieve_object(call, context, Refund)


async def list_refunds(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/refunds`"""
    await check_filters(call, context)
    return await list_objects(call, context, REFUNDS, Refund)


async def list_refunds_of_charge(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/charges/{id}/refunds`"""
    state = await get_target(call, Charge, context.get)
    charge_call = call.replace(parameters={**call.parameters, "charge": state.id})
    url = f"/v1/charges/{state.id}/refunds"
    return await list_objects(charge_call, context, REFUNDS, Refund, url=url)
