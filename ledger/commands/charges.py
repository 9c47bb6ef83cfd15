"""Commands on charges (CONTRACT 2.6), and what a test card's charge brings after it (3.4)."""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.disputes import opened_by_card
from ledger.commands.execution import Decide, Decided, Reading, answering
from ledger.domain import charge, charge_decisions
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.money import Terms
from ledger.objects import addressed, expanded, named, shown
from ledger.store.journal import Change


def create(terms: Terms) -> Decide:
    """`POST /v1/charges`. A declined card leaves a failed charge and is refused; in test mode the tokens of
    CONTRACT 3.4 open their disputes in the same transaction, as facts nobody asked for."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        given = call.parameters
        customer = None
        if "customer" in given:
            customer = await named(call, Customer, "customer", given["customer"], reading.state)
        card = charge_decisions.charged_card(
            given, customer, card_id=reading.new_id("card"), livemode=call.livemode
        )
        (event,) = charge_decisions.create(
            charge_id=reading.new_id("ch"),
            account=call.account,
            livemode=call.livemode,
            given=given,
            card=card,
            txn_id=reading.new_id("txn"),
            now=now,
        )
        state = charge.evolve(None, event)
        made = Change(event, state)
        if state.status == "failed":
            return Decided([made], refusal=charge_decisions.refusal(state))
        answer = shown(state, now)
        if call.expand:
            await expanded(state, answer, call.expand, now, reading.state)
        return Decided([made, *opened_by_card(made, reading, terms, now)], answer)

    return decide


async def update(call: Call, reading: Reading, now: int) -> Decided:
    """`POST /v1/charges/{id}`"""
    state = await addressed(call, Charge, reading.state)
    if call.parameters.get("customer") is not None:
        await named(call, Customer, "customer", call.parameters["customer"], reading.state)
    return await answering(
        call, reading, now, state, charge_decisions.update(state, call.parameters, now=now)
    )


def capture(terms: Terms) -> Decide:
    """`POST /v1/charges/{id}/capture`; a test card that brings a dispute brings it now."""

    async def decide(call: Call, reading: Reading, now: int) -> Decided:
        state = await addressed(call, Charge, reading.state)
        events = charge_decisions.capture(state, call.parameters, txn_id=reading.new_id("txn"), now=now)
        decided = await answering(call, reading, now, state, events)
        opened = opened_by_card(decided.changes[-1], reading, terms, now)
        return Decided([*decided.changes, *opened], decided.answer)

    return decide
