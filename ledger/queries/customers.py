"""Queries on customers (contract §2.5), and on their payment methods, of which none are stored here."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.customer import Customer
from ledger.errors import UnknownObject, UnknownReference
from ledger.objects import get_target
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

CUSTOMERS = ListQuery.of(
    "customers", noun="customer", where="AND NOT deleted", filters={"email": "AND email = %(email)s"}
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}`; a deleted one is a stub."""
    return await retrieve_object(call, context, Customer)


async def list_customers(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers`"""
    return await list_objects(call, context, CUSTOMERS, Customer)


async def list_payment_methods(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}/payment_methods`: always empty, so every cursor is unknown."""
    state = await get_target(call, Customer, context.get)
    if state.deleted:
        raise UnknownObject("customer", state.id)
    for param in ("starting_after", "ending_before"):
        if param in call.parameters:
            raise UnknownReference("payment_method", call.parameters[param], param=param)
    url = f"/v1/customers/{state.id}/payment_methods"
    return QueryResult({"object": "list", "data": [], "has_more": False, "url": url})
