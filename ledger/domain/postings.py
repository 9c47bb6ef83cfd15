"""Double-entry bookkeeping: the postings of a domain event, which sum to zero in each currency.

A positive amount is a debit, a negative one a credit. The account `network` is what the card networks owe us,
`merchant_balance` what we owe the merchant, and the fee accounts what we earned. Each movement is posted by
one rule: its amount to `network`, amount less fee to `merchant_balance`, the fee to a fee account.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.domain import refund
from ledger.domain.charge import Charge, ChargeCaptured, ChargeRefunded, ChargeSucceeded
from ledger.domain.dispute import (
    Dispute,
    DisputeConceded,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    InquiryEscalated,
)
from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement

NETWORK = "network"
MERCHANT_BALANCE = "merchant_balance"
PROCESSING_FEES = "processing_fees"
DISPUTE_FEES = "dispute_fees"

_CHARGE_EVENTS = (ChargeSucceeded, ChargeCaptured, ChargeRefunded)
_DISPUTE_EVENTS = (DisputeOpened, InquiryEscalated, DisputeConceded, DisputeLost, DisputeWon)
_EVENTS_WITH_MOVEMENT = frozenset((*_CHARGE_EVENTS, *_DISPUTE_EVENTS))


class Posting(NamedTuple):
    """One side of an entry. `amount` is in minor units: a debit if positive, a credit if negative."""

    account: str
    currency: str
    amount: int


def get_movement(event: DomainEvent) -> Movement | None:
    """The money that `event` moved; None if it moved none."""
    return event.movement if type(event) in _EVENTS_WITH_MOVEMENT else None  # type: ignore[attr-defined]


def derive_postings(event: DomainEvent) -> list[Posting]:
    """The postings of `event`, without those of zero; [] if it moved no money."""
    movement = get_movement(event)
    if movement is None:
        return []
    amount, fee, currency = movement["amount"], movement["fee"], movement["currency"]
    is_charge_event = isinstance(event, _CHARGE_EVENTS)
    entries = (
        Posting(NETWORK, currency, amount),
        Posting(MERCHANT_BALANCE, currency, fee - amount),
        Posting(PROCESSING_FEES if is_charge_event else DISPUTE_FEES, currency, -fee),
    )
    return [entry for entry in entries if entry.amount]


def get_balance_transaction(event: DomainEvent, state: Charge | Dispute) -> BalanceTransaction | None:
    """The balance transaction that `event` made, or None; `state` is the object after the event."""
    movement = get_movement(event)
    if movement is None:
        return None
    if isinstance(state, Dispute):
        return state.balance_transactions[-1]
    if not isinstance(event, ChargeRefunded):
        return state.balance_transaction
    return refund.make_balance_transaction(event.refund, state.description, movement)
