"""Queries on charges (contract §2.6)."""

from __future__ import annotations

import msgspec

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.errors import UnknownReference
from ledger.objects import get_filter
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

CHARGES = ListQuery.of(
    "charges",
    noun="charge",
    filters={
        "customer": "AND customer = %(customer)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
        "transfer_group": "AND transfer_group = %(transfer_group)s",
    },
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/charges/{id}`"""
    return await retrieve_object(call, context, Charge)


async def list_charges(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/charges`"""
    if "customer" in call.parameters:
        await get_filter(call, Customer, "customer", call.parameters["customer"], context.get)
    await check_filters(call, context)
    return await list_objects(call, context, CHARGES, Charge)


async def check_filters(call: Call, context: QueryContext) -> None:
    """Check that the charge and the payment intent by which a list is filtered exist. Raises
    UnknownReference."""
    if "charge" in call.parameters:
        await get_filter(call, Charge, "charge", call.parameters["charge"], context.get)
    if "payment_intent" in call.parameters:
        await find_charge_id(context, call, call.parameters["payment_intent"])


async def find_charge_id(context: QueryContext, call: Call, payment_intent: str) -> str:
    """The id of the newest charge of a payment intent.

    Payment intents are not stored here; one exists if a charge names it. Raises UnknownReference.
    """
    row = await context.pages.fetch_newest(call, CHARGES, {"payment_intent": payment_intent})
    if row is None:
        raise UnknownReference("payment_intent", payment_intent, param="payment_intent")
    return msgspec.json.decode(row[0], type=Charge).id
