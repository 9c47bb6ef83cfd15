"""The money of a domain event as double entries; those of one event sum to zero in each currency.

A positive amount is a debit, a negative one a credit. `network` is what the card networks owe us,
`merchant_balance` what we owe the merchant, the fee accounts what we earned. One rule covers every
movement: the network side takes the amount, the merchant amount less fee, a fee account the fee.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.domain import refund
from ledger.domain.charge import Charge, ChargeCaptured, ChargeRefunded, ChargeSucceeded
from ledger.domain.dispute import Dispute, DisputeOpened, DisputeWon, InquiryEscalated
from ledger.domain.event import DomainEvent
from ledger.domain.money import BalanceTransaction, Movement

NETWORK = "network"
MERCHANT_BALANCE = "merchant_balance"
PROCESSING_FEES = "processing_fees"
DISPUTE_FEES = "dispute_fees"

_CHARGE_EVENTS = (ChargeSucceeded, ChargeCaptured, ChargeRefunded)
_EVENTS_WITH_MOVEMENT = (*_CHARGE_EVENTS, DisputeOpened, DisputeWon, InquiryEscalated)


class Posting(NamedTuple):
    """One side of an entry: debit if positive, credit if negative, in minor units of `currency`."""

    account: str
    currency: str
    amount: int


def get_movement(event: DomainEvent) -> Movement | None:
    """The money that `event` moved, if any."""
    return event.movement if isinstance(event, _EVENTS_WITH_MOVEMENT) else None


def derive_postings(event: DomainEvent) -> list[Posting]:
    """The entries of `event`, without zero ones; [] if it moved no money."""
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
    """The balance transaction that `event` made, `state` being the object as the event left it."""
    movement = get_movement(event)
    if movement is None:
        return None
    if isinstance(state, Dispute):
        return state.balance_transactions[-1]
    if not isinstance(event, ChargeRefunded):
        return state.balance_transaction
    return refund.make_balance_transaction(event.refund, state.description, movement)
