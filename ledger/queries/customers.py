"""Queries on customers (contract §2.5)."""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.customer import Customer
from ledger.errors import UnknownObject
from ledger.objects import get_target
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

EMAIL_FILTERS = {"email": "AND email = ANY (%(email)s::text[])"}
"""Those of `list_email_forms`."""
CUSTOMERS = ListQuery.of(
    "customers",
    noun="customer",
    where="AND NOT deleted",
    filters=EMAIL_FILTERS,
    hashed=("email",),
    in_forms=("email",),
)


def list_email_forms(context: QueryContext, account: str, livemode: bool, email: str) -> list[str]:
    """What a row of a customer with this e-mail address has in its place: its hash, and the address itself in
    rows of older releases."""
    return [context.blind_index.hash_as_text(account, livemode, "email", email), email]


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}`; a deleted one is a stub."""
    return await retrieve_object(call, context, Customer)


async def get_customer(call: Call, context: QueryContext) -> Customer:
    """The customer in the path, for what is listed below it. Raises UnknownObject, also for a deleted one."""
    state = await get_target(call, Customer, context.get)
    if state.deleted:
        raise UnknownObject("customer", state.id)
    return state


async def list_customers(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers`"""
    filters = {}
    if (email := call.parameters.get("email")) is not None:
        filters["email"] = list_email_forms(context, call.account, call.livemode, email)
    return await list_objects(call, context, CUSTOMERS, Customer, filters=filters)
