"""Commands on customers (contract §2.5)."""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render
from ledger.commands.usable_objects import get_usable
from ledger.domain import customer
from ledger.domain.customer import Customer


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/customers`"""
    events = customer.create(
        customer_id=context.new_id("cus"),
        account=call.account,
        livemode=call.livemode,
        params=call.parameters,
        card_id=_new_card_id(call, context),
        now=now,
    )
    return await apply_and_render(call, context, now, None, events)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/customers/{id}`"""
    state = await get_usable(call, Customer, context.get)
    events = customer.update(state, call.parameters, card_id=_new_card_id(call, context), now=now)
    return await apply_and_render(call, context, now, state, events)


async def delete(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /v1/customers/{id}`"""
    state = await get_usable(call, Customer, context.get)
    return await apply_and_render(call, context, now, state, customer.delete(state, now=now))


def _new_card_id(call: Call, context: DecisionContext) -> str:
    return context.new_id("card") if "source" in call.parameters else ""
