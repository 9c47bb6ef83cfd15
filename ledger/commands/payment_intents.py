"""Commands on payment intents (contract §2.12), and what changes of their charges mean for them.

An intent and its charge are changed in one append, which checks the versions of both: of two concurrent
confirmations one charges, and the other is decided again and refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.disputes import open_test_card_disputes
from ledger.commands.execution import Decision, render_changed
from ledger.commands.usable_objects import get_usable, get_usable_param
from ledger.domain import charge_decisions, payment_intent_decisions
from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.errors import InvalidIntentState
from ledger.objects import render_object
from ledger.store.journal import Change, fold_changes


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/payment_intents`. With `confirm` it also does what `confirm` does, in the same append."""
    params = call.parameters
    events = payment_intent_decisions.create(
        intent_id=context.new_id("pi"),
        account=call.account,
        livemode=call.livemode,
        params=params,
        card=await _find_card(call, context, params.get("customer")),
        now=now,
    )
    changes = fold_changes(events)
    if params.get("confirm"):
        return await _confirm(call, context, now, None, changes)
    return await _answer(call, context, now, None, changes)


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/payment_intents/{id}`"""
    state = await get_usable(call, PaymentIntent, context.get)
    changes = await _change(call, context, now, state)
    return await _answer(call, context, now, state, changes)


async def confirm(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/payment_intents/{id}/confirm`. A declined card leaves a failed charge, and the request is
    refused. In test mode a card may open disputes in the same append, as in `charges.create`."""
    state = await get_usable(call, PaymentIntent, context.get)
    changes: list[Change] = []
    if not state.is_confirmed:
        changes = await _change(call, context, now, state)
        if state.customer is not None:
            await get_usable_param(call, Customer, "customer", state.customer, context.get)
    return await _confirm(call, context, now, state, changes)


async def capture(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/payment_intents/{id}/capture`. A test card that opens a dispute opens it now."""
    state = await get_usable(call, PaymentIntent, context.get)
    authorized = await _get_newest_charge(state, context)
    with _add_intent_to_refusal(state, now):
        events = payment_intent_decisions.capture(
            state, authorized, call.parameters, txn_id=context.new_id("txn"), now=now
        )
    return await _answer(call, context, now, state, fold_changes(events, state, authorized))


async def cancel(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/payment_intents/{id}/cancel`. It also releases an authorization that awaits capture."""
    state = await get_usable(call, PaymentIntent, context.get)
    newest = await _get_newest_charge(state, context)
    with _add_intent_to_refusal(state, now):
        events = payment_intent_decisions.cancel(state, newest, call.parameters, now=now)
    return await _answer(call, context, now, state, fold_changes(events, state, newest))


async def follow_charge(context: DecisionContext, changed: Charge, now: int) -> list[Change]:
    """What follows from a change of the charge `changed` for its payment intent, to be appended together with
    that change. [] for the charge of an intent that another service keeps."""
    intent = None if changed.payment_intent is None else await context.get(changed.payment_intent)
    if not isinstance(intent, PaymentIntent):
        return []
    return fold_changes(payment_intent_decisions.follow_charge(intent, changed, now=now), intent)


async def _confirm(
    call: Call, context: DecisionContext, now: int, stored: PaymentIntent | None, earlier: Sequence[Change]
) -> Decision:
    """The decision that charges the intent, after the changes `earlier` of the same request. `stored` is the
    intent before the request, None for a new one."""
    state = _get_last_state(stored, earlier)
    with _add_intent_to_refusal(stored, now):
        events = payment_intent_decisions.confirm(
            state, charge_id=context.new_id("ch"), txn_id=context.new_id("txn"), now=now
        )
    charge_change, intent_change = changes = fold_changes(events, state)
    assert isinstance(charge_change.state, Charge)
    if charge_change.state.status == "failed":
        refusal = charge_decisions.make_card_error(charge_change.state)
        refusal.payment_intent = render_object(intent_change.state, now)
        return Decision([*earlier, *changes], refusal=refusal)
    return await _answer(call, context, now, stored, [*earlier, *changes])


async def _answer(
    call: Call,
    context: DecisionContext,
    now: int,
    stored: PaymentIntent | None,
    changes: Sequence[Change],
) -> Decision:
    """The decision that appends `changes` and the disputes that follow from a captured test card, and answers
    with the intent after `changes`, before those disputes. `stored` is the intent before the request."""
    state = _get_last_state(stored, changes)
    answer = await render_changed(call, context, now, state, changes)
    answer["client_secret"] = secret = context.environment.derive_secret(state)
    disputes = [
        dispute
        for change in changes
        if isinstance(change.state, Charge)
        for dispute in open_test_card_disputes(change, context, now)
    ]
    return Decision([*changes, *disputes], answer, secret=secret, secret_of=state.id)


def _get_last_state(stored: PaymentIntent | None, changes: Sequence[Change]) -> PaymentIntent:
    """The intent after `changes`, before which it was `stored`."""
    for change in changes:
        stored = change.state if isinstance(change.state, PaymentIntent) else stored
    assert stored is not None
    return stored


async def _change(call: Call, context: DecisionContext, now: int, state: PaymentIntent) -> list[Change]:
    """The changes that the call's parameters ask for."""
    card = await _find_card(call, context, call.parameters.get("customer", state.customer))
    with _add_intent_to_refusal(state, now):
        events = payment_intent_decisions.update(state, call.parameters, card=card, now=now)
    return fold_changes(events, state)


async def _find_card(call: Call, context: DecisionContext, customer_id: str | None) -> SourceCard | None:
    """The card that the parameter `payment_method` names, of the customer or of test mode; None without the
    parameter. Raises UnknownReference for either."""
    params = call.parameters
    customer = None
    if customer_id is not None and ("customer" in params or "payment_method" in params):
        customer = await get_usable_param(call, Customer, "customer", customer_id, context.get)
    return payment_intent_decisions.resolve_card(
        params, customer, card_id=context.new_id("pm"), livemode=call.livemode
    )


async def _get_newest_charge(state: PaymentIntent, context: DecisionContext) -> Charge | None:
    if state.latest_charge is None:
        return None
    newest = await context.get(state.latest_charge)
    assert isinstance(newest, Charge), "a charge is appended together with the intent's event that names it"
    return newest


@contextmanager
def _add_intent_to_refusal(state: PaymentIntent | None, now: int) -> Iterator[None]:
    """Puts the intent, if there is one, into an InvalidIntentState that is raised inside."""
    try:
        yield
    except InvalidIntentState as refusal:
        if state is not None:
            refusal.payment_intent = render_object(state, now)
        raise
