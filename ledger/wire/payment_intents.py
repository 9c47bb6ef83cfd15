"""The JSON of payment intents (contract §2.12)."""

from __future__ import annotations

from typing import Any

from ledger.domain.payment_intent import REQUIRES_CAPTURE, PaymentIntent
from ledger.errors import make_doc_url
from ledger.wire.json_values import Json
from ledger.wire.payment_methods import render_payment_method
from ledger.wire.schemas.fields import make_template
from ledger.wire.schemas.payment_intents import PAYMENT_INTENT

EXPANDABLE_FIELDS: dict[str, Any] = {
    "application": "application",
    "customer": "customer",
    "last_payment_error": {},
    "latest_charge": "charge",
    "on_behalf_of": "account",
    "payment_method": "payment_method",
    "review": "review",
    "shipping": {},
    "source": {},
    "transfer_data": {"destination": "account"},
}
# A renderer fills in a copy: see `charges`.
_TEMPLATE = make_template(
    PAYMENT_INTENT, amount_capturable=0, amount_details={"tip": {}}, payment_method_types=["card"]
)


def render_payment_intent(state: PaymentIntent) -> Json:
    """A payment intent, without its `client_secret`: that is null but in answers about the intent itself."""
    rendered = _TEMPLATE.copy()
    rendered["id"] = state.id
    rendered["amount"] = state.amount
    if state.status == REQUIRES_CAPTURE:
        rendered["amount_capturable"] = state.amount
    rendered["amount_received"] = state.amount_received
    rendered["automatic_payment_methods"] = state.automatic_payment_methods
    rendered["canceled_at"] = state.canceled_at
    rendered["cancellation_reason"] = state.cancellation_reason
    rendered["capture_method"] = state.capture_method
    rendered["confirmation_method"] = state.confirmation_method
    rendered["created"] = state.created
    rendered["currency"] = state.currency
    rendered["customer"] = state.customer
    rendered["description"] = state.description
    rendered["last_payment_error"] = _render_error(state)
    rendered["latest_charge"] = state.latest_charge
    rendered["livemode"] = state.livemode
    rendered["metadata"] = state.metadata
    rendered["payment_method"] = state.card["id"] if state.card else None
    rendered["receipt_email"] = state.receipt_email
    rendered["shipping"] = state.shipping
    rendered["statement_descriptor"] = state.statement_descriptor
    rendered["statement_descriptor_suffix"] = state.statement_descriptor_suffix
    rendered["status"] = state.status
    rendered["transfer_group"] = state.transfer_group
    return rendered


def _render_error(state: PaymentIntent) -> Json | None:
    error, card = state.last_payment_error, state.failed_card
    if error is None or card is None:
        return None
    members = {name: value for name, value in error.items() if value is not None}
    return {
        "type": "card_error",
        "doc_url": make_doc_url(error["code"]),
        "payment_method": render_payment_method(card, state, None),
        **members,
    }
