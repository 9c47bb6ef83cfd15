"""Queries on charges (contract §2.6)."""

from __future__ import annotations

from typing import TypeGuard

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource
from ledger.errors import UnknownReference
from ledger.objects import fetch_own, get_filter, is_visible, mode_hint
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

ATTEMPTS_MAX = 100
"""Of how many newest charges of a payment intent the one that succeeded is found."""
CHARGES = ListQuery.of(
    "charges",
    noun="charge",
    filters={
        "customer": "AND customer = %(customer)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
        "transfer_group": "AND transfer_group = %(transfer_group)s",
    },
    hashed=("customer", "payment_intent", "transfer_group"),
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
        await _check_intent(call, context, call.parameters["payment_intent"])


async def find_charge_id(context: QueryContext, call: Call, payment_intent: str) -> str:
    """The id of the newest charge of a payment intent that another service keeps: of those that succeeded, if
    any did. Such an intent exists if a charge names it. Raises UnknownReference."""
    rows = await context.pages.fetch_newest(
        call, CHARGES, {"payment_intent": payment_intent}, limit=ATTEMPTS_MAX
    )
    charges = await context.read_states(rows, lambda row: Charge)
    if not charges:
        state = await context.get_expanded(payment_intent)
        hint = mode_hint(state, type(state), call) if _is_intent(state) else ""
        raise UnknownReference("payment_intent", payment_intent, param="payment_intent", hint=hint)
    return next((charge for charge in charges if charge.status == "succeeded"), charges[0]).id


async def _check_intent(call: Call, context: QueryContext, intent_id: str) -> None:
    """Check that a payment intent exists: here, published by another service, or named by a charge. Raises
    UnknownReference."""
    state = await fetch_own(call, intent_id, context.get)
    if not _is_intent(state) or not is_visible(state, call):
        await find_charge_id(context, call, intent_id)


def _is_intent(state: State | None) -> TypeGuard[PaymentIntent | Resource]:
    """Whether it is a payment intent of the ledger, or one that another service has published."""
    return isinstance(state, PaymentIntent) or (
        isinstance(state, Resource) and state.type == "payment_intent" and not state.deleted
    )
