"""Decisions on refunds (contract §2.7): create one, change its metadata. None can be cancelled.

A charge can be refunded up to its captured amount minus earlier refunds. This is decided on the charge's own
stream, so concurrent refunds never exceed it. A dispute that has withdrawn the money prevents refunds; a
refund of all that remains closes open inquiries (contract §3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.domain import dispute_decisions, merge_patch
from ledger.domain.aggregate import next_header
from ledger.domain.backdating import resolve_created_at
from ledger.domain.charge import Charge, ChargeRefunded
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement, check_divisible, format_amount
from ledger.domain.refund import Refund, RefundCreated, RefundUpdated
from ledger.errors import InvalidParameter, InvalidState, ObjectRedacted

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
    """RefundCreated on the refund's stream and ChargeRefunded on the charge's, to be appended together with
    what `close_inquiries` returns for the charge afterwards.

    `params` may have `amount` (minor units; default: all that remains), `reason`, `metadata`, and for a
    refund made in another system `created`. `disputes` are all disputes of the charge. Raises InvalidState if
    nothing can be refunded, and, param `amount`, for more than remains; InvalidParameter for an amount
    below 1, metadata beyond its limits, or `created` in the future; ObjectRedacted for metadata of a refund
    of a redacted charge, of which nothing personal is recorded any more.
    """
    remaining = _check_refundable(charge, disputes)
    amount = _choose_amount(params.get("amount"), remaining, charge.currency)
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
        metadata=_choose_metadata(charge, params.get("metadata")),
        charge_description=None if charge.redaction else charge.description,
        moved=movement,
    )
    charge_refunded = ChargeRefunded(**next_header(charge, now), refund=refund_id, movement=movement)
    return [refund_created, charge_refunded]


def _choose_metadata(charge: Charge, requested: Mapping[str, str | None] | None) -> dict[str, str] | None:
    metadata = merge_patch.merge_metadata({}, requested)
    if not charge.redaction:
        return metadata
    if metadata:
        raise ObjectRedacted(charge.id, param="metadata")
    return None


def _check_refundable(charge: Charge, disputes: Sequence[Dispute]) -> int:
    """The amount that remains to be refunded. Raises InvalidState if there is none."""
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
    return remaining


def _choose_amount(requested: int | None, remaining: int, currency: str) -> int:
    """The amount to refund. Raises InvalidState for more than remains, InvalidParameter for less than 1 or an
    amount that the currency does not have."""
    amount = remaining if requested is None else requested
    if amount > remaining:
        requested_text, remaining_text = (format_amount(value, currency) for value in (amount, remaining))
        text = (
            f"Refund amount ({requested_text}) is greater than unrefunded amount on charge ({remaining_text})"
        )
        raise InvalidState(text, param="amount")
    if amount < 1:
        raise InvalidParameter("Refund amount must be at least 1.", param="amount")
    if amount != remaining:
        check_divisible(amount, currency)
    return amount


def close_inquiries(charge: Charge, disputes: Sequence[Dispute], *, now: int) -> list[DomainEvent]:
    """InquiryClosed on the stream of each open inquiry among the `disputes` of a fully refunded charge.

    `charge` is the charge after the refund. [] if a part of it remains.
    """
    if not charge.is_refunded:
        return []
    return [
        event for dispute in disputes for event in dispute_decisions.close_refunded_inquiry(dispute, now=now)
    ]


def update(state: Refund, params: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Merges `params["metadata"]`; [] if that changes nothing. Raises InvalidParameter beyond its limits."""
    if "metadata" not in params:
        return []
    after = {"metadata": merge_patch.merge_metadata(state.metadata, params["metadata"])}
    changes = merge_patch.find_changes(state, after)
    return [RefundUpdated(**next_header(state, now), changes=changes)] if changes else []


def make_cancel_error(state: Refund) -> InvalidState:
    """The error of every attempt to cancel: only a refund that waits for an action of the customer
    could be cancelled, and refunds to cards never wait for one."""
    text = f"Refund {state.id} cannot be canceled: its status is {state.status}, not requires_action."
    return InvalidState(text)
