"""Decisions on payment intents (contract §2.12): create, update, confirm, capture, cancel.

A decision that charges returns the events of the charge and of the intent, to be appended together. Other
routes can change the charge of an intent too; whoever appends such a change also appends what `follow_charge`
returns, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain import cards, charge, charge_decisions, merge_patch
from ledger.domain.aggregate import next_header
from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.domain.payment_intent import (
    REQUIRES_CAPTURE,
    REQUIRES_CONFIRMATION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
    PaymentError,
    PaymentIntent,
    PaymentIntentAuthorized,
    PaymentIntentCanceled,
    PaymentIntentCreated,
    PaymentIntentFailed,
    PaymentIntentSucceeded,
    PaymentIntentUpdated,
    evolve,
)
from ledger.errors import InvalidIntentState, InvalidParameter, InvalidState

CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
CANCELLATION_REASONS = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")
EXPIRED = "expired"
"""The reason of a cancellation because the authorization was not captured in time."""

_DEFAULT_CAPTURE_METHOD = "automatic_async"
_DEFAULT_CONFIRMATION_METHOD = "automatic"
_DEFAULT_PAYMENT_METHODS: dict[str, Any] = {"allow_redirects": "always", "enabled": True}
_TYPES_PARAMS = ("payment_method_types", "allowed_payment_method_types")
_TEXT_FIELDS = (
    "description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group",
)  # fmt: skip
_UPDATE_FIELDS = (*_TEXT_FIELDS, "customer", "amount", "capture_method")
# What may change at any time; all else only until a confirmation has charged or authorized the amount.
_FREE_PARAMS = frozenset({"description", "metadata"})
_CHARGE_FIELDS = ("amount", "currency", "customer", "metadata", "shipping", *_TEXT_FIELDS)
_CAPTURE_FIELDS = ("statement_descriptor", "statement_descriptor_suffix")
_UNCONFIRMED = (REQUIRES_PAYMENT_METHOD, REQUIRES_CONFIRMATION)


def resolve_card(
    params: Mapping[str, Any], customer: Customer | None, *, card_id: str, livemode: bool
) -> SourceCard | None:
    """The card that `params["payment_method"]` names: one of the customer's cards, or a test card
    `pm_card_…`, which gets the id `card_id`. None without the parameter. Raises UnknownReference."""
    payment_method: str | None = params.get("payment_method")
    if payment_method is None:
        return None
    customer_card = customer.find_source(payment_method) if customer else None
    return customer_card or cards.make_payment_method_card(payment_method, card_id=card_id, livemode=livemode)


def create(
    *,
    intent_id: str,
    account: str,
    livemode: bool,
    params: Mapping[str, Any],
    card: SourceCard | None,
    now: int,
) -> list[DomainEvent]:
    """PaymentIntentCreated. `params` are the parameters of `POST /v1/payment_intents`.

    Raises InvalidParameter for an amount or currency that cannot be charged, metadata beyond its limits, and
    payment method types beside enabled automatic payment methods.
    """
    amount, currency = params["amount"], params["currency"].lower()
    charge_decisions.check_amount(amount, currency)
    return [
        PaymentIntentCreated(
            originator_id=intent_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            amount=amount,
            currency=currency,
            capture_method=params.get("capture_method") or _DEFAULT_CAPTURE_METHOD,
            confirmation_method=params.get("confirmation_method") or _DEFAULT_CONFIRMATION_METHOD,
            automatic_payment_methods=_choose_payment_methods(params),
            customer=params.get("customer"),
            card=card,
            metadata=merge_patch.merge_metadata({}, params.get("metadata")),
            shipping=merge_patch.merge_shipping(None, params.get("shipping"), with_carrier=True),
            **{name: params.get(name) for name in _TEXT_FIELDS},
        )
    ]


def _choose_payment_methods(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The setting that the intent shows: automatic unless types are named. Raises InvalidParameter if both
    are."""
    automatic: dict[str, Any] | None = params.get("automatic_payment_methods")
    types_param = next((name for name in _TYPES_PARAMS if name in params), None)
    if automatic is None:
        return _DEFAULT_PAYMENT_METHODS if types_param is None else None
    if not automatic["enabled"]:
        return None
    if types_param is not None:
        raise InvalidParameter(
            f"You may only specify one of these parameters: automatic_payment_methods, {types_param}.",
            param=types_param,
        )
    return _DEFAULT_PAYMENT_METHODS | automatic


def update(
    state: PaymentIntent, params: Mapping[str, Any], *, card: SourceCard | None, now: int
) -> list[DomainEvent]:
    """Changes the fields named in `params`: absent ones keep their values, None unsets, hashes are merged.
    `card` is what `params["payment_method"]` names. [] if nothing changes.

    Raises InvalidIntentState for what can no longer change, InvalidParameter as `create` does, and
    InvalidState for another customer while a payment method of the present one is set.
    """
    after: dict[str, Any] = {name: params[name] for name in _UPDATE_FIELDS if name in params}
    if "currency" in params:
        after["currency"] = params["currency"].lower()
    if "shipping" in params:
        after["shipping"] = merge_patch.merge_shipping(state.shipping, params["shipping"], with_carrier=True)
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    if card is not None:
        after["card"] = card
    changes = merge_patch.find_changes(state, after)
    _check_changeable(state, changes)
    if "amount" in changes or "currency" in changes:
        charge_decisions.check_amount(
            changes.get("amount", state.amount), changes.get("currency", state.currency)
        )
    if "customer" in changes and state.customer and state.card and card is None:
        text = (
            "To change the customer, also pass a payment_method: the present one may be the old customer's."
        )
        raise InvalidState(text, param="customer")
    return [PaymentIntentUpdated(**next_header(state, now), changes=changes)] if changes else []


def confirm(state: PaymentIntent, *, charge_id: str, txn_id: str, now: int) -> list[DomainEvent]:
    """Charges the intent's card: ChargeSucceeded or ChargeFailed on the stream `charge_id`, and the intent's
    PaymentIntentSucceeded, PaymentIntentAuthorized (capture method manual) or PaymentIntentFailed.

    Raises InvalidIntentState if it is confirmed already, is canceled or has no payment method.
    """
    if state.is_confirmed:
        reason = (
            "it has already succeeded after being previously confirmed"
            if state.status == SUCCEEDED
            else f"it has a status of {state.status}. Only a PaymentIntent with one of the following "
            f"statuses may be confirmed: {', '.join(_UNCONFIRMED)}"
        )
        raise InvalidIntentState(f"You cannot confirm this PaymentIntent because {reason}.")
    if state.card is None:
        raise InvalidIntentState(
            "You cannot confirm this PaymentIntent because it's missing a payment method. Pass "
            "payment_method when you confirm it, or update it with one before."
        )
    params = {name: getattr(state, name) for name in _CHARGE_FIELDS}
    (charge_event,) = charge_decisions.create(
        charge_id=charge_id,
        account=state.account,
        livemode=state.livemode,
        params=params | {"payment_intent": state.id, "capture": state.capture_method != "manual"},
        card=state.card,
        txn_id=txn_id,
        now=now,
    )
    return [charge_event, _decide_outcome(state, charge.evolve(None, charge_event), now)]


def _decide_outcome(state: PaymentIntent, new_charge: Charge, now: int) -> DomainEvent:
    header = next_header(state, now)
    if new_charge.status == "failed":
        error = charge_decisions.make_card_error(new_charge)
        return PaymentIntentFailed(
            **header,
            error=PaymentError(
                charge=new_charge.id,
                code=error.code or "card_declined",
                decline_code=error.decline_code,
                message=error.message,
                param=error.param,
            ),
        )
    if not new_charge.captured:
        return PaymentIntentAuthorized(**header, charge=new_charge.id)
    return PaymentIntentSucceeded(**header, charge=new_charge.id, amount_received=new_charge.amount_captured)


def capture(
    state: PaymentIntent, authorized: Charge | None, params: Mapping[str, Any], *, txn_id: str, now: int
) -> list[DomainEvent]:
    """Captures `params["amount_to_capture"]` (minor units; all if absent) of `authorized`, the intent's
    newest charge: ChargeCaptured on its stream, and the intent's PaymentIntentSucceeded.

    Raises InvalidIntentState unless the intent awaits capture, InvalidState, param `amount_to_capture`, for
    an amount that cannot be captured, InvalidParameter for metadata beyond its limits.
    """
    if state.status != REQUIRES_CAPTURE or authorized is None:
        raise InvalidIntentState(
            f"This PaymentIntent could not be captured because it has a status of {state.status}. Only a "
            f"PaymentIntent with one of the following statuses may be captured: {REQUIRES_CAPTURE}."
        )
    texts = {name: params[name] for name in _CAPTURE_FIELDS if name in params}
    after = dict(texts)
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = merge_patch.find_changes(state, after)
    events: list[DomainEvent] = []
    if changes:
        events.append(PaymentIntentUpdated(**next_header(state, now), changes=changes))
        state = evolve(state, events[-1])
    try:
        (captured,) = charge_decisions.capture(
            authorized, texts | {"amount": params.get("amount_to_capture")}, txn_id=txn_id, now=now
        )
    except (InvalidParameter, InvalidState) as refusal:
        refusal.param = refusal.param and "amount_to_capture"
        raise
    return [*events, captured, *follow_charge(state, charge.evolve(authorized, captured), now=now)]


def cancel(
    state: PaymentIntent, newest: Charge | None, params: Mapping[str, Any], *, now: int
) -> list[DomainEvent]:
    """PaymentIntentCanceled, after ChargeReleased on the stream of `newest`, the intent's newest charge, if
    that awaits capture. Raises InvalidIntentState for an intent that succeeded or is canceled."""
    if state.status not in (*_UNCONFIRMED, REQUIRES_CAPTURE):
        raise InvalidIntentState(
            f"You cannot cancel this PaymentIntent because it has a status of {state.status}. Only a "
            "PaymentIntent with one of the following statuses may be canceled: requires_payment_method, "
            "requires_confirmation, requires_capture."
        )
    events = charge_decisions.release_authorization(newest, now=now) if newest is not None else []
    reason = params.get("cancellation_reason")
    return [*events, PaymentIntentCanceled(**next_header(state, now), reason=reason)]


def follow_charge(state: PaymentIntent, changed: Charge, *, now: int) -> list[DomainEvent]:
    """What follows for the intent from a change of the charge `changed`; [] unless that is its newest one.

    A capture makes it succeed, the end of the authorization cancels it, a customer that the charge was given
    is the intent's too.
    """
    if changed.id != state.latest_charge or not state.is_confirmed:
        return []
    if state.status == REQUIRES_CAPTURE and changed.captured:
        return [
            PaymentIntentSucceeded(
                **next_header(state, now), charge=changed.id, amount_received=changed.amount_captured
            )
        ]
    if state.status == REQUIRES_CAPTURE and changed.expired:
        return [PaymentIntentCanceled(**next_header(state, now), reason=EXPIRED)]
    if changed.customer != state.customer:
        return [PaymentIntentUpdated(**next_header(state, now), changes={"customer": changed.customer})]
    return []


def _check_changeable(state: PaymentIntent, changes: Mapping[str, Any]) -> None:
    """Raises InvalidIntentState if one of the `changes` may no longer be made."""
    for name in changes:
        if state.is_confirmed and name not in _FREE_PARAMS:
            param = "payment_method" if name == "card" else name
            raise InvalidIntentState(
                f"This PaymentIntent's {param} could not be updated because it has a status of "
                f"{state.status}. You may only update the {param} of a PaymentIntent with one of the "
                f"following statuses: {', '.join(_UNCONFIRMED)}.",
                param=param,
            )
