"""The JSON of payment intents (contract §2.12)."""

from __future__ import annotations

from typing import Any

from ledger.domain.payment_intent import REQUIRES_CAPTURE, PaymentIntent
from ledger.errors import make_doc_url
from ledger.wire.json_values import Json
from ledger.wire.payment_methods import render_payment_method

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
_TEMPLATE: Json = {
    "id": None,
    "object": "payment_intent",
    "allowed_payment_method_types": None,
    "amount": None,
    "amount_capturable": 0,
    "amount_details": {"tip": {}},
    "amount_received": None,
    "application": None,
    "application_fee_amount": None,
    "automatic_payment_methods": None,
    "canceled_at": None,
    "cancellation_reason": None,
    "capture_method": None,
    "client_secret": None,
    "confirmation_method": None,
    "created": None,
    "currency": None,
    "customer": None,
    "customer_account": None,
    "description": None,
    "excluded_payment_method_types": None,
    "last_payment_error": None,
    "latest_charge": None,
    "livemode": None,
    "metadata": None,
    "next_action": None,
    "on_behalf_of": None,
    "payment_method": None,
    "payment_method_configuration_details": None,
    "payment_method_options": None,
    "payment_method_types": ["card"],
    "processing": None,
    "receipt_email": None,
    "review": None,
    "setup_future_usage": None,
    "shipping": None,
    "source": None,
    "statement_descriptor": None,
    "statement_descriptor_suffix": None,
    "status": None,
    "transfer_data": None,
    "transfer_group": None,
}


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
