"""The JSON of cards as payment methods (contract §2.5): of a customer's saved cards, of charged ones, and of
those that a payment intent is to charge."""

from __future__ import annotations

from typing import Any

from ledger.domain.cards import SourceCard, get_created
from ledger.domain.charge import EMPTY_BILLING_DETAILS, Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"billing_details": {}, "card": {}, "customer": "customer"}


def render_payment_method(
    card: SourceCard, holder: Customer | Charge | PaymentIntent, customer_id: str | None
) -> Json:
    """A card that `holder` has. `customer_id`: the customer who has saved it; None for a card that is not
    saved."""
    return {
        "id": card["id"],
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": EMPTY_BILLING_DETAILS,
        "card": {
            "brand": card["brand"],
            "country": card["country"],
            "exp_month": card["exp_month"],
            "exp_year": card["exp_year"],
            "fingerprint": card["fingerprint"],
            "funding": card["funding"],
            "last4": card["last4"],
        },
        "created": get_created(card, holder.created),
        "customer": customer_id,
        "livemode": holder.livemode,
        "metadata": {},
        "type": "card",
    }
