"""Commands on customers (CONTRACT 2.5)."""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.execution import Decided, Reading, answering
from ledger.domain import customer
from ledger.domain.customer import Customer
from ledger.objects import addressed


async def create(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/customers`"""
    events = customer.create(
        customer_id=reading.new_id("cus"),
        account=call.account,
        livemode=call.livemode,
        given=call.parameters,
        card_id=_card_id(call, reading),
        now=now,
    )
    return await answering(call, reading, now, None, events)


async def update(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/customers/{id}`"""
    state = await addressed(call, Customer, reading.state)
    events = customer.update(state, call.parameters, card_id=_card_id(call, reading), now=now)
    return await answering(call, reading, now, state, events)


async def delete(call: Call, reading: Reading, now: int) -> Decided:
    """`DELETE /v1/customers/{id}`"""
    state = await addressed(call, Customer, reading.state)
    return await answering(call, reading, now, state, customer.delete(state, now=now))


def _card_id(call: Call, reading: Reading) -> str:
    return reading.new_id("card") if "source" in call.parameters else ""
