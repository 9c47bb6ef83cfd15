"""The operations on payment intents (contract §2.12); `routes` has all operations."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.commands import payment_intents
from ledger.queries import payment_intents as payment_intent_queries
from ledger.wire import tables

_intent = partial(Operation, resource="payment_intent", expandable="payment_intent")

PAYMENT_INTENTS = (
    _intent(
        method="POST",
        path="/v1/payment_intents",
        summary="Create a payment intent",
        table=tables.payment_intents.CREATE,
        decide=payment_intents.create,
    ),
    _intent(
        method="GET",
        path="/v1/payment_intents",
        summary="List payment intents, newest first",
        table=tables.payment_intents.LIST,
        read=payment_intent_queries.list_payment_intents,
    ),
    _intent(
        method="GET",
        path="/v1/payment_intents/{payment_intent}",
        summary="Retrieve a payment intent",
        table=tables.payment_intents.RETRIEVE,
        read=payment_intent_queries.retrieve,
    ),
    _intent(
        method="POST",
        path="/v1/payment_intents/{payment_intent}",
        summary="Update a payment intent",
        table=tables.payment_intents.UPDATE,
        decide=payment_intents.update,
    ),
    _intent(
        method="POST",
        path="/v1/payment_intents/{payment_intent}/confirm",
        summary="Confirm a payment intent: charge its payment method",
        table=tables.payment_intents.CONFIRM,
        decide=payment_intents.confirm,
    ),
    _intent(
        method="POST",
        path="/v1/payment_intents/{payment_intent}/capture",
        summary="Capture an authorised payment intent",
        table=tables.payment_intents.CAPTURE,
        decide=payment_intents.capture,
    ),
    _intent(
        method="POST",
        path="/v1/payment_intents/{payment_intent}/cancel",
        summary="Cancel a payment intent",
        table=tables.payment_intents.CANCEL,
        decide=payment_intents.cancel,
    ),
)
