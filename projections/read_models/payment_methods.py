"""Who holds a card: the projection behind payment methods, whose ids name no stream.

A card that a customer saves has one row, under the id of the card; each charge on a card, and each payment
intent with one, has one under its own id. They hold ids only: the card is read from the stream of its holder.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, customer, payment_intent
from ledger.domain.aggregate import State
from ledger.domain.cards import get_created
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.store.log import Recorded
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row


def apply_holder(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    """The rows of the cards that the event saved, charged, or deleted with their customer, or that an intent
    got by it."""
    match after:
        case Charge() if before is None and after.card is not None:
            card_id = after.card["id"]
            return [(after.id, after.account, after.livemode, after.created, card_id, None, False)]
        case PaymentIntent() if after.card is not None and after.card != getattr(before, "card", None):
            card_id = after.card["id"]
            return [(after.id, after.account, after.livemode, after.created, card_id, None, False)]
        case Customer():
            known = before.sources if isinstance(before, Customer) and not after.deleted else []
            return [
                (
                    card["id"],
                    after.account,
                    after.livemode,
                    get_created(card, after.created),
                    card["id"],
                    after.id,
                    not after.deleted,
                )
                for card in after.sources[len(known) :]
            ]
        case _:
            return []


PAYMENT_METHODS = Projection(
    name="payment_methods",
    aggregates=(customer, charge, payment_intent),
    columns=(
        *OBJECT_COLUMNS,
        Column("card", "text"),
        Column("customer", "text"),  # who saved the card; null in the row of a charge or an intent
        Column("saved", "boolean"),
    ),
    apply=apply_holder,
    mutable_columns=("card", "saved"),
    has_personal_rows=True,  # cards are sealed, their ids too
)
