"""The money of disputes (contract §3.3): what can be disputed, and what a decided dispute returns.

A charge never returns more than was captured: that is the sum of its refunds and of what its lost disputes
keep. So a dispute may be about money that was refunded before, and a loss returns that part to the merchant.
While a dispute has the money the charge cannot be refunded, so the sum is known when the dispute is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_states import LOST_STATUSES
from ledger.domain.money import Movement, Terms, check_divisible, format_amount
from ledger.errors import InvalidState


@dataclass(frozen=True, kw_only=True)
class PaidCharge:
    """A charge with all its disputes: what decides how much money an action on one of them moves."""

    charge: Charge
    disputes: Sequence[Dispute]


def choose_amount(charge: Charge, requested: int | None, *, dispute_id: str, default: int | None) -> int:
    """The amount (minor units) of the dispute with that id: `requested`, else `default`, else all that the
    other disputes leave.

    Raises InvalidState, param `amount`, for more than that or less than 1, and if the whole charge was
    refunded; InvalidParameter for an amount that the currency does not have.
    """
    remaining = charge.compute_disputable(dispute_id)
    amount = next(choice for choice in (requested, default, remaining) if choice is not None)
    if remaining <= 0:
        reason = "has been fully refunded" if charge.is_refunded else "is already disputed in full"
        text = f"Charge {charge.id} {reason}; nothing of it can be disputed."
        raise InvalidState(text, param="amount")
    if amount < 1:
        raise InvalidState("The disputed amount must be at least 1.", param="amount")
    if amount > remaining:
        text = (
            f"Only {format_amount(remaining, charge.currency)} of charge {charge.id} can still be disputed."
        )
        raise InvalidState(text, param="amount")
    if requested is not None and requested != remaining:
        check_divisible(requested, charge.currency)
    return amount


def compute_refunded_part(state: Dispute, paid: PaidCharge) -> int:
    """What a loss of the dispute returns (minor units): the part of the withdrawn amount by which the charge
    would otherwise have returned more than was captured."""
    kept_by_others = sum(
        other.amount_withdrawn
        for other in paid.disputes
        if other.id != state.id and other.status in LOST_STATUSES
    )
    charge = paid.charge
    excess = charge.amount_refunded + kept_by_others + state.amount_withdrawn - charge.amount_captured
    return min(max(excess, 0), state.amount_withdrawn)


def make_withdrawal(txn_id: str, amount: int, currency: str, terms: Terms, created: int) -> Movement:
    """The withdrawal of `amount` and of the dispute fee."""
    return _make_movement(txn_id, -amount, terms.get_dispute_fee(currency), currency, created)


def make_reversal(txn_id: str, state: Dispute, terms: Terms, created: int) -> Movement | None:
    """What a won dispute returns: all that it still has, and its fee if the terms credit fees of won
    disputes. None if that is nothing: an appeal was won, and the loss before it had returned everything."""
    fee = -state.balance_transactions[0]["fee"] if terms.fee_credited_on_win else 0
    if not state.amount_withdrawn and not fee:
        return None
    return _make_movement(txn_id, state.amount_withdrawn, fee, state.currency, created)


def make_refunded_part_return(txn_id: str, state: Dispute, paid: PaidCharge, created: int) -> Movement | None:
    """What a lost dispute returns; None if that is nothing. The fee is kept."""
    amount = compute_refunded_part(state, paid)
    return _make_movement(txn_id, amount, 0, state.currency, created) if amount else None


def _make_movement(txn_id: str, amount: int, fee: int, currency: str, created: int) -> Movement:
    return Movement(
        id=txn_id, amount=amount, fee=fee, currency=currency, created=created, available_on=created
    )
