"""The JSON of charges and of their cards (contract §2.6)."""

from __future__ import annotations

from typing import Any

from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.wire.json_values import Json
from ledger.wire.schemas.cards import BRAND_NAMES, CARD, CARD_DETAILS, CHECKS
from ledger.wire.schemas.charges import CHARGE
from ledger.wire.schemas.fields import make_template

EXPANDABLE_FIELDS: dict[str, Any] = {
    "application": "application",
    "application_fee": "application_fee",
    "balance_transaction": "balance_transaction",
    "billing_details": {},
    "customer": "customer",
    "failure_balance_transaction": "balance_transaction",
    "fraud_details": {},
    "on_behalf_of": "account",
    "outcome": {},
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "payment_method_details": {},
    "refunds": "refunds",
    "review": "review",
    "shipping": {},
    "source": {},
    "source_transfer": "transfer",
    "transfer": "transfer",
    "transfer_data": {"destination": "account"},
}
CARD_EXPANDABLE_FIELDS: dict[str, Any] = {"customer": "customer"}

# A renderer fills in a copy of the template. Building a dict of this size from a literal takes Python three
# times as long (9 instead of 3 µs for a charge), and the feed renders an object for every change.
_CARD_TEMPLATE = make_template(
    CARD, allow_redisplay="unspecified", metadata={}, regulated_status="unregulated"
)
_CHARGE_TEMPLATE = make_template(CHARGE)
_CHECKS_TEMPLATE = make_template(CHECKS)
_CARD_DETAILS_TEMPLATE = make_template(
    CARD_DETAILS,
    extended_authorization={"status": "disabled"},
    incremental_authorization={"status": "unavailable"},
    multicapture={"status": "unavailable"},
    network_token={"used": False},
    regulated_status="unregulated",
)


def render_card(source_card: SourceCard, customer_id: str | None) -> Json:
    """A card as in `charge.source` and in the `sources` of a customer."""
    rendered = _CARD_TEMPLATE.copy()
    rendered["id"] = source_card["id"]
    rendered["brand"] = BRAND_NAMES[source_card["brand"]]
    rendered["country"] = source_card["country"]
    rendered["customer"] = customer_id
    rendered["cvc_check"] = source_card["cvc_check"]
    rendered["exp_month"] = source_card["exp_month"]
    rendered["exp_year"] = source_card["exp_year"]
    rendered["fingerprint"] = source_card["fingerprint"]
    rendered["funding"] = source_card["funding"]
    rendered["last4"] = source_card["last4"]
    return rendered


def render_charge(state: Charge) -> Json:
    """A charge. Its list of refunds is no member, unless `expand[]=refunds` adds it (ledger/objects.py)."""
    transaction, source_card = state.balance_transaction, state.card
    rendered = _CHARGE_TEMPLATE.copy()
    rendered["id"] = state.id
    rendered["amount"] = state.amount
    rendered["amount_captured"] = state.amount_captured
    rendered["amount_refunded"] = state.amount_refunded
    rendered["balance_transaction"] = transaction["id"] if transaction else None
    rendered["billing_details"] = state.billing_details
    rendered["calculated_statement_descriptor"] = state.statement_descriptor
    rendered["captured"] = state.captured
    rendered["created"] = state.created
    rendered["currency"] = state.currency
    rendered["customer"] = state.customer
    rendered["description"] = state.description
    rendered["disputed"] = bool(state.disputes)
    rendered["failure_code"] = state.failure_code
    rendered["failure_message"] = state.failure_message
    rendered["fraud_details"] = {"user_report": state.fraud_report} if state.fraud_report else {}
    rendered["livemode"] = state.livemode
    rendered["metadata"] = state.metadata
    rendered["outcome"] = state.outcome
    rendered["paid"] = state.status == "succeeded"
    rendered["payment_intent"] = state.payment_intent
    rendered["payment_method"] = source_card["id"] if source_card else None
    rendered["payment_method_details"] = (
        _render_card_details(source_card, state.amount) if source_card else state.payment_method_details
    )
    rendered["receipt_email"] = state.receipt_email
    rendered["refunded"] = state.expired or (
        state.captured and state.amount_refunded >= state.amount_captured
    )
    rendered["shipping"] = state.shipping
    if source_card and state.payment_intent is None:  # the card of an intent is a payment method, no source
        rendered["source"] = render_card(source_card, state.customer)
    rendered["statement_descriptor"] = state.statement_descriptor
    rendered["statement_descriptor_suffix"] = state.statement_descriptor_suffix
    rendered["status"] = state.status
    rendered["transfer_group"] = state.transfer_group
    return rendered


def _render_card_details(source_card: SourceCard, amount: int) -> Json:
    """The `payment_method_details` of a charge on a test card. `amount` is in minor units."""
    rendered = _CARD_DETAILS_TEMPLATE.copy()
    rendered["amount_authorized"] = amount
    rendered["brand"] = source_card["brand"]
    rendered["checks"] = {**_CHECKS_TEMPLATE, "cvc_check": source_card["cvc_check"]}
    rendered["country"] = source_card["country"]
    rendered["exp_month"] = source_card["exp_month"]
    rendered["exp_year"] = source_card["exp_year"]
    rendered["fingerprint"] = source_card["fingerprint"]
    rendered["funding"] = source_card["funding"]
    rendered["last4"] = source_card["last4"]
    rendered["network"] = source_card["brand"]
    rendered["overcapture"] = {"maximum_amount_capturable": amount, "status": "unavailable"}
    return {"card": rendered, "type": "card"}
