"""Commands on legal holds, for operators (internal API §10)."""

from __future__ import annotations

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision, apply_and_render
from ledger.domain import legal_hold
from ledger.domain.aggregate import State
from ledger.domain.legal_hold import LegalHold, find_hold_id
from ledger.domain.redaction_roots import find_owner, get_root_type
from ledger.errors import InvalidParameter, UnknownReference
from ledger.objects import fetch_own, get_target, is_visible, mode_hint
from ledger.wire.aggregates import AGGREGATES_BY_STATE

HOLDABLE = (
    "What can be held is a customer, or a charge, a payment intent or a published object that belongs to no "
    "customer."
)


async def place(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /internal/v1/legal_holds`. `by`: who says so; without it, the key that calls."""
    params = call.parameters
    object_id = params["object"]
    state = await fetch_own(call, object_id, context.get)
    if state is None or not is_visible(state, call):
        hint = mode_hint(state, type(state), call) if state is not None else ""
        raise UnknownReference("object", object_id, param="object", hint=hint or f". {HOLDABLE}")
    object_type = get_root_type(state)
    if object_type is None:
        raise InvalidParameter(_explain_kind(state), param="object")
    owner = find_owner(state)
    if owner is not None:
        text = f"{object_id} belongs to the {owner.noun} {owner.id} and is erased with it: hold that one."
        raise InvalidParameter(text, param="object")
    hold = await context.get(find_hold_id(object_id))
    assert hold is None or isinstance(hold, LegalHold)
    events = legal_hold.place(
        hold,
        account=call.account,
        livemode=call.livemode,
        object_id=object_id,
        object_type=object_type,
        reason=params["reason"],
        by=_find_actor(call),
        now=now,
    )
    return await apply_and_render(call, context, now, hold, events)


async def release(call: Call, context: DecisionContext, now: int) -> Decision:
    """`POST /internal/v1/legal_holds/{id}/release`"""
    hold = await get_target(call, LegalHold, context.get)
    events = legal_hold.release(hold, reason=call.parameters["reason"], by=_find_actor(call), now=now)
    return await apply_and_render(call, context, now, hold, events)


def _explain_kind(state: State) -> str:
    """Why an object of this kind cannot be held, and what can be held instead."""
    text = f"{state.id} ({AGGREGATES_BY_STATE[type(state)].noun}) cannot be held by itself."
    customer = getattr(state, "customer", None)
    if customer is not None:
        return f"{text} It belongs to the customer {customer} and is erased with it: hold that one."
    return f"{text} {HOLDABLE}"


def _find_actor(call: Call) -> str:
    by: str = call.parameters.get("by") or call.cause.actor or ""
    return by
