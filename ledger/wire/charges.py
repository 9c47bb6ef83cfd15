"""The JSON of charges and of the cards they are made with, as plain dicts (contract 2.6); see `render`."""

from __future__ import annotations

from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.wire.render import Json

_BRAND_NAMES = {
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "mastercard": "MasterCard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}
_NO_CHECKS: Json = {"address_line1_check": None, "address_postal_code_check": None}
# A copy is filled in: written out as one display, a dict of this size takes Python three times as long (a
# charge 9 us instead of 3), and every change renders one for the feed.
_CARD: Json = {
    "id": None,
    "object": "card",
    "address_city": None,
    "address_country": None,
    "address_line1": None,
    "address_line1_check": None,
    "address_line2": None,
    "address_state": None,
    "address_zip": None,
    "address_zip_check": None,
    "allow_redisplay": "unspecified",
    "brand": None,
    "country": None,
    "customer": None,
    "cvc_check": None,
    "dynamic_last4": None,
    "exp_month": None,
    "exp_year": None,
    "fingerprint": None,
    "funding": None,
    "last4": None,
    "metadata": {},
    "name": None,
    "regulated_status": "unregulated",
    "tokenization_method": None,
    "wallet": None,
}
_CHARGE: Json = {
    "id": None,
    "object": "charge",
    "amount": None,
    "amount_captured": None,
    "amount_refunded": None,
    "application": None,
    "application_fee": None,
    "application_fee_amount": None,
    "balance_transaction": None,
    "billing_details": None,
    "calculated_statement_descriptor": None,
    "captured": None,
    "created": None,
    "currency": None,
    "customer": None,
    "description": None,
    "disputed": None,
    "failure_balance_transaction": None,
    "failure_code": None,
    "failure_message": None,
    "fraud_details": None,
    "livemode": None,
    "metadata": None,
    "on_behalf_of": None,
    "outcome": None,
    "paid": None,
    "payment_intent": None,
    "payment_method": None,
    "payment_method_details": None,
    "receipt_email": None,
    "receipt_number": None,
    "receipt_url": None,
    "refunded": None,
    "review": None,
    "shipping": None,
    "source": None,
    "source_transfer": None,
    "statement_descriptor": None,
    "statement_descriptor_suffix": None,
    "status": None,
    "transfer_data": None,
    "transfer_group": None,
}
_CARD_DETAILS: Json = {
    "amount_authorized": None,
    "authorization_code": None,
    "brand": None,
    "checks": None,
    "country": None,
    "exp_month": None,
    "exp_year": None,
    "extended_authorization": {"status": "disabled"},
    "fingerprint": None,
    "funding": None,
    "incremental_authorization": {"status": "unavailable"},
    "installments": None,
    "last4": None,
    "mandate": None,
    "multicapture": {"status": "unavailable"},
    "network": None,
    "network_token": {"used": False},
    "network_transaction_id": None,
    "overcapture": None,
    "regulated_status": "unregulated",
    "three_d_secure": None,
    "wallet": None,
}


def card(fact: SourceCard, customer_id: str | None) -> Json:
    """A card as a source: in `charge.source` and in a customer's `sources`."""
    shown = _CARD.copy()
    shown["id"] = fact["id"]
    shown["brand"] = _BRAND_NAMES[fact["brand"]]
    shown["country"] = fact["country"]
    shown["customer"] = customer_id
    shown["cvc_check"] = fact["cvc_check"]
    shown["exp_month"] = fact["exp_month"]
    shown["exp_year"] = fact["exp_year"]
    shown["fingerprint"] = fact["fingerprint"]
    shown["funding"] = fact["funding"]
    shown["last4"] = fact["last4"]
    return shown


def charge(state: Charge) -> Json:
    """Without `refunds`, which appears only if expanded."""
    transaction, fact = state.balance_transaction, state.card
    shown = _CHARGE.copy()
    shown["id"] = state.id
    shown["amount"] = state.amount
    shown["amount_captured"] = state.amount_captured
    shown["amount_refunded"] = state.amount_refunded
    shown["balance_transaction"] = transaction["id"] if transaction else None
    shown["billing_details"] = state.billing_details
    shown["calculated_statement_descriptor"] = state.statement_descriptor
    shown["captured"] = state.captured
    shown["created"] = state.created
    shown["currency"] = state.currency
    shown["customer"] = state.customer
    shown["description"] = state.description
    shown["disputed"] = bool(state.disputes)
    shown["failure_code"] = state.failure_code
    shown["failure_message"] = state.failure_message
    shown["fraud_details"] = {"user_report": state.fraud_report} if state.fraud_report else {}
    shown["livemode"] = state.livemode
    shown["metadata"] = state.metadata
    shown["outcome"] = state.outcome
    shown["paid"] = state.status == "succeeded"
    shown["payment_intent"] = state.payment_intent
    shown["payment_method"] = fact["id"] if fact else None
    shown["payment_method_details"] = (
        _card_details(fact, state.amount) if fact else state.payment_method_details
    )
    shown["receipt_email"] = state.receipt_email
    shown["refunded"] = state.expired or (state.captured and state.amount_refunded >= state.amount_captured)
    shown["shipping"] = state.shipping
    shown["source"] = card(fact, state.customer) if fact else None
    shown["statement_descriptor"] = state.statement_descriptor
    shown["statement_descriptor_suffix"] = state.statement_descriptor_suffix
    shown["status"] = state.status
    shown["transfer_group"] = state.transfer_group
    return shown


def _card_details(fact: SourceCard, amount: int) -> Json:
    """`payment_method_details` of a charge on a test card."""
    shown = _CARD_DETAILS.copy()
    shown["amount_authorized"] = amount
    shown["brand"] = fact["brand"]
    shown["checks"] = {**_NO_CHECKS, "cvc_check": fact["cvc_check"]}
    shown["country"] = fact["country"]
    shown["exp_month"] = fact["exp_month"]
    shown["exp_year"] = fact["exp_year"]
    shown["fingerprint"] = fact["fingerprint"]
    shown["funding"] = fact["funding"]
    shown["last4"] = fact["last4"]
    shown["network"] = fact["brand"]
    shown["overcapture"] = {"maximum_amount_capturable": amount, "status": "unavailable"}
    return {"card": shown, "type": "card"}
