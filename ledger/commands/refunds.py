"""Commands on refunds (contract §2.7), and the inquiries that a full refund closes (§3.2).

A refund, its ChargeRefunded and the inquiries it closes are one append: all of them are recorded, or none.
The append checks the versions of the charge and of its disputes, so two refunds never exceed the charge.
"""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.disputes import consequences, read_disputes
from ledger.commands.execution import Decision, apply_and_render, render_changed
from ledger.commands.usable_objects import get_usable
from ledger.domain import charge, refund, refund_decisions
from ledger.domain.aggregate import check_not_redacted
from ledger.domain.charge import Charge
from ledger.domain.payment_intent import SUCCEEDED, PaymentIntent
from ledger.domain.refund import Refund
from ledger.errors import InvalidState
from ledger.objects import fetch_own, get_target, is_visible
from ledger.store.journal import Change


async def create(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/refunds`. An unknown charge is refused with 404, as if it were in the path (contract §2.7,
    recorded)."""
    params = call.parameters
    charge_id = params["charge"] if "charge" in params else await _find_charge_id(call, context)
    paid_charge = await get_target(call.replace(target=charge_id), Charge, context.get)
    check_not_redacted(paid_charge, "charge" if "charge" in params else "payment_intent")
    state, changes = await decide_refund(call, context, now, paid_charge, context.new_id("re"))
    return Decision(changes, await render_changed(call, context, now, state, changes))


async def _find_charge_id(call: Call, context: DecisionContext) -> str:
    """The id of the charge that paid the payment intent of the call's parameters.

    Raises UnknownReference, and InvalidState for an intent that is not paid.
    """
    intent_id = call.parameters["payment_intent"]
    intent = await fetch_own(call, intent_id, context.get)
    if not isinstance(intent, PaymentIntent) or not is_visible(intent, call):
        return await context.environment.find_charge_id(call, intent_id)
    if intent.status != SUCCEEDED or intent.latest_charge is None:
        text = f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
        raise InvalidState(text, param="payment_intent")
    return intent.latest_charge


async def decide_refund(
    call: Call, context: DecisionContext, now: int, paid_charge: Charge, refund_id: str
) -> tuple[Refund, list[Change]]:
    """The refund that the call's parameters request, and all its changes. Raises what
    `refund_decisions.create` raises."""
    disputes = await read_disputes(paid_charge, context)
    created_event, refunded_event = refund_decisions.create(
        paid_charge,
        call.parameters,
        disputes=disputes,
        refund_id=refund_id,
        txn_id=context.new_id("txn"),
        now=now,
    )
    state = refund.evolve(None, created_event)
    refunded_charge = charge.evolve(paid_charge, refunded_event)
    charge_change = Change(refunded_event, refunded_charge)
    closing_events = refund_decisions.close_inquiries(refunded_charge, disputes, now=now)
    return state, [
        Change(created_event, state),
        charge_change,
        *consequences(charge_change, closing_events, disputes),
    ]


async def update(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/refunds/{id}`"""
    state = await get_usable(call, Refund, context.get)
    return await apply_and_render(
        call, context, now, state, refund_decisions.update(state, call.parameters, now=now)
    )


async def cancel(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /v1/refunds/{id}/cancel`"""
    raise refund_decisions.make_cancel_error(await get_target(call, Refund, context.get))
