"""The projection behind the list of payment intents: the ledger's own, and those that other services publish.

`state` is the aggregate as JSON, a PaymentIntent or, if `published`, a Resource. A deleted publication keeps
its row, because a cursor may name it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import payment_intent, resource
from ledger.domain.aggregate import State
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource
from ledger.store.log import Recorded
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row

OBJECT_TYPE = "payment_intent"


def _apply_intent(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    match after:
        case PaymentIntent():
            created, customer, deleted, published = after.created, after.customer, False, False
        case Resource(type=object_type) if object_type == OBJECT_TYPE:
            created, customer, deleted, published = after.created, after.customer, after.deleted, True
        case _:
            return ()
    return [(after.id, after.account, after.livemode, created, customer, deleted, published, after)]


PAYMENT_INTENTS = Projection(
    name="payment_intents",
    aggregates=(payment_intent, resource),
    columns=(
        *OBJECT_COLUMNS,
        Column("customer", "text"),
        Column("deleted", "boolean"),
        Column("published", "boolean"),
        Column("state", "json", compressed=True, sealed=True),
    ),
    apply=_apply_intent,
    mutable_columns=("created", "customer", "deleted", "state"),
)
