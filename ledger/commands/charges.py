"""Commands on charges (contract §2.6), and what a test card's charge brings after it (§3.4)."""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.disputes import open_test_card_disputes
from ledger.commands.execution import Decide, Decision, DecisionContext, apply_and_render
from ledger.domain import charge, charge_decisions
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.money import Terms
from ledger.objects import expand, get_param, get_target, render_object
from ledger.store.journal import Change


def create(terms: Terms) -> Decide:
    """`POST /v1/charges`. A declined card leaves a failed charge and is refused; in test mode the tokens of
    contract §3.4 open their disputes in the same transaction, as facts nobody asked for."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        params = call.parameters
        customer = None
        if "customer" in params:
            customer = await get_param(call, Customer, "customer", params["customer"], context.get)
        card = charge_decisions.resolve_card(
            params, customer, card_id=context.new_id("card"), livemode=call.livemode
        )
        (event,) = charge_decisions.create(
            charge_id=context.new_id("ch"),
            account=call.account,
            livemode=call.livemode,
            params=params,
            card=card,
            txn_id=context.new_id("txn"),
            now=now,
        )
        state = charge.evolve(None, event)
        change = Change(event, state)
        if state.status == "failed":
            return Decision([change], refusal=charge_decisions.make_card_error(state))
        answer = render_object(state, now)
        if call.expand:
            await expand(state, answer, call.expand, now, context.get)
        return Decision([change, *open_test_card_disputes(change, context, terms, now)], answer)

    return decide


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges/{id}`"""
    state = await get_target(call, Charge, context.get)
    if call.parameters.get("customer") is not None:
        await get_param(call, Customer, "customer", call.parameters["customer"], context.get)
    return await apply_and_render(
        call, context, now, state, charge_decisions.update(state, call.parameters, now=now)
    )


def capture(terms: Terms) -> Decide:
    """`POST /v1/charges/{id}/capture`; a test card that brings a dispute brings it now."""

    async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
        state = await get_target(call, Charge, context.get)
        events = charge_decisions.capture(state, call.parameters, txn_id=context.new_id("txn"), now=now)
        decision = await apply_and_render(call, context, now, state, events)
        dispute_changes = open_test_card_disputes(decision.changes[-1], context, terms, now)
        return Decision([*decision.changes, *dispute_changes], decision.answer)

    return decide
