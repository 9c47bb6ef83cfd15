"""Commands on charges (contract §2.6), and the disputes that test cards open (§3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.disputes import open_test_card_disputes
from ledger.commands.execution import Decision, render_changed
from ledger.commands.payment_intents import follow_charge
from ledger.commands.usable_objects import get_usable, get_usable_param
from ledger.domain import charge, charge_decisions
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.store.journal import Change, fold_changes


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges`. A declined card leaves a failed charge, and the request is refused. In test mode
    the tokens of contract §3.4 open their disputes in the same append, as facts of the card network; the
    answer shows the charge before them."""
    params = call.parameters
    customer = None
    if "customer" in params:
        customer = await get_usable_param(call, Customer, "customer", params["customer"], context.get)
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
    answer = await render_changed(call, context, now, state, [change])
    return Decision([change, *open_test_card_disputes(change, context, now)], answer)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges/{id}`"""
    state = await get_usable(call, Charge, context.get)
    if call.parameters.get("customer") is not None:
        await get_usable_param(call, Customer, "customer", call.parameters["customer"], context.get)
    return await _apply(call, context, now, state, charge_decisions.update(state, call.parameters, now=now))


async def capture(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/charges/{id}/capture`. A test card that opens a dispute opens it now."""
    state = await get_usable(call, Charge, context.get)
    events = charge_decisions.capture(state, call.parameters, txn_id=context.new_id("txn"), now=now)
    decision = await _apply(call, context, now, state, events)
    dispute_changes = open_test_card_disputes(decision.changes[0], context, now)
    return Decision([*decision.changes, *dispute_changes], decision.answer)


async def _apply(
    call: Call, context: DecisionContext, now: int, state: Charge, events: Sequence[DomainEvent]
) -> Decision:
    """The decision that appends `events` to the charge's stream and what follows from them for its payment
    intent, and answers with the charge."""
    changes = fold_changes(events, state)
    for change in tuple(changes):
        assert isinstance(change.state, Charge)
        state = change.state
        changes += await follow_charge(context, state, now)
    return Decision(changes, await render_changed(call, context, now, state, changes))
