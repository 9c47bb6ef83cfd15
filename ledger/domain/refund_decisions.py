"""What may happen to a refund (contract §2.7): made, its metadata changed. None can be cancelled.

What a charge can still give back is its captured amount less all its refunds, decided on the charge's own
stream, so refunds made at once never come to more. A dispute that has the money refuses every refund; a
refund of all that is left closes the inquiries there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.domain import dispute_decisions, merge_patch
from ledger.domain.backdating import resolve_created_at
from ledger.domain.charge import Charge, ChargeRefunded
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement, format_amount
from ledger.domain.refund import Refund, RefundCreated, RefundUpdated
from ledger.errors import InvalidParameter, InvalidState

REASONS = ("duplicate", "fraudulent", "requested_by_customer")


def create(
    charge: Charge,
    params: Mapping[str, Any],
    *,
    disputes: Sequence[Dispute],
    refund_id: str,
    txn_id: str,
    now: int,
) -> list[DomainEvent]:
    """RefundCreated on the refund's stream and ChargeRefunded on the charge's, to be appended together,
    followed by what `close_inquiries` gives for the charge as it then is.

    `params` has `amount` (all that is left when absent), `reason`, `metadata`, and of one made elsewhere
    `created`; `disputes` are all of the charge's. Raises InvalidState where nothing can be refunded,
    and, param `amount`, for more than is left.
    """
    if charge.status != "succeeded" or not charge.captured:
        text = f"Charge {charge.id} has not been paid; it cannot be refunded."
        raise InvalidState(text, code="charge_not_refundable")
    remaining = charge.amount_captured - charge.amount_refunded
    if remaining <= 0:
        text = f"Charge {charge.id} has already been refunded."
        raise InvalidState(text, code="charge_already_refunded")
    if not all(dispute.refundable for dispute in disputes):
        text = f"Charge {charge.id} has been charged back; cannot issue a refund."
        raise InvalidState(text, code="charge_disputed")
    amount = remaining if params.get("amount") is None else params["amount"]
    if amount > remaining:
        requested_text, remaining_text = (
            format_amount(value, charge.currency) for value in (amount, remaining)
        )
        text = (
            f"Refund amount ({requested_text}) is greater than unrefunded amount on charge ({remaining_text})"
        )
        raise InvalidState(text, param="amount")
    if amount < 1:
        raise InvalidParameter("Refund amount must be at least 1.", param="amount")
    created_at = resolve_created_at(params, now)
    movement = Movement(
        id=txn_id,
        amount=-amount,
        fee=0,
        currency=charge.currency,
        created=created_at,
        available_on=created_at,
    )
    details = charge.payment_method_details or {}
    refund_created = RefundCreated(
        originator_id=refund_id,
        originator_version=1,
        at=now,
        account=charge.account,
        livemode=charge.livemode,
        created=created_at,
        charge=charge.id,
        customer=charge.customer,
        payment_intent=charge.payment_intent,
        payment_method=charge.card["id"] if charge.card else None,
        method="card" if charge.card else details.get("type"),
        amount=amount,
        currency=charge.currency,
        reason=params.get("reason"),
        metadata=merge_patch.merge_metadata({}, params.get("metadata")),
        charge_description=charge.description,
        moved=movement,
    )
    charge_refunded = ChargeRefunded(
        originator_id=charge.id,
        originator_version=charge.version + 1,
        at=now,
        refund=refund_id,
        movement=movement,
    )
    return [refund_created, charge_refunded]


def close_inquiries(charge: Charge, disputes: Sequence[Dispute], *, now: int) -> list[DomainEvent]:
    """What a refund of `charge`, as it left it, does to its `disputes`: InquiryClosed on the stream of
    each open inquiry once nothing is left of the charge; [] before."""
    if charge.amount_refunded < charge.amount_captured:
        return []
    return [
        event for dispute in disputes for event in dispute_decisions.close_refunded_inquiry(dispute, now=now)
    ]


def update(state: Refund, params: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Merges `params["metadata"]`. Raises InvalidParameter past its limits."""
    if "metadata" not in params:
        return []
    after = merge_patch.merge_metadata(state.metadata, params["metadata"])
    if after == state.metadata:
        return []
    changes = {"metadata": after}
    return [
        RefundUpdated(originator_id=state.id, originator_version=state.version + 1, at=now, changes=changes)
    ]


def make_cancel_error(state: Refund) -> InvalidState:
    """Why `state` is not cancelled: only a refund that waits for the customer could be, which none does."""
    text = f"Refund {state.id} cannot be canceled: its status is {state.status}, not requires_action."
    return InvalidState(text)
