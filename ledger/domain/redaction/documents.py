"""What stays of a JSON document of another system: a published resource, an imported Event, a payment method.

Its members are not the ledger's, so they are told by name and form: a text stays only under a name that
`KEPT_TEXTS` lists, and only if it has the form of such a value. Any other text is redacted. Numbers and
booleans stay, but not what is said of a person. The keys and values of metadata are dropped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

REDACTED = "[redacted]"
"""Stands in the place of a text, as in Stripe's API (https://docs.stripe.com/privacy/redaction)."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+")
_CODE = re.compile(r"[a-z][a-z0-9_.]*")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
_ID_NAMES = """
account application application_fee balance_transaction card charge coupon credit_note customer
customer_account default_payment_method default_source destination discount dispute file id invoice
invoice_item invoiceitem latest_attempt latest_charge latest_invoice line_item mandate meter on_behalf_of
order payment_intent payment_link payment_method payout pending_setup_intent plan price product
promotion_code quote refund related_customer request review schedule session setup_intent source subscription
subscription_item supporting_files tax_rate template test_clock transfer
"""
_CODE_NAMES = """
address_line1_check address_postal_code_check address_zip_check alert_type amount_tax_display amount_type
authorization_method billing_reason billing_scheme brand cancellation_reason capture_method card_brand
case_type category collection_method confirmation_method currency cvc_check decline_code default_currency
dispute_type duration event_type failure_code funding interval liability_type merchandise_or_services method
mode network network_status object object_type payment_method_type payment_method_types payment_status
presentment_currency proration_behavior purpose reason result risk_level scheme setup_future_usage status
submit_type tax_behavior tax_exempt trial_end_behavior type ui_mode usage usage_type
"""
KEPT_TEXTS: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(_ID_NAMES.split(), _ID),
    **dict.fromkeys(_CODE_NAMES.split(), _CODE),
    **dict.fromkeys(("created", "canceled_at", "ended_at", "expires_at", "paid_at", "started_at"), _TIME),
    "country": re.compile("[A-Z]{2}"),
    "last4": re.compile(r"\d{4}"),
}
"""By name of a member, the form of the texts that stay."""
_KEPT_LENGTH_MAX = 255
_DROPPED = frozenset({"metadata", "labels", "properties", "tags"})
"""Members whose own members are named by a caller."""
_PERSONAL_NAMES = """
account_number age birth birthdate birthday bic born dob fax fingerprint gender geo iban id_number ip lat
latitude license lng lon longitude mobile passport personal phone routing_number sort_code ssn tax_id
telephone vat
"""
_PERSONAL_WORDS = frozenset(_PERSONAL_NAMES.split())
"""A member whose name has one of these words, and all that it contains, is said of a person."""
_is_member_name = re.compile(r"[a-z][a-z0-9_]{0,63}").fullmatch


def redact_document(value: Any) -> Any:
    """What stays of any value of JSON. Members whose names cannot be those of an API are left out."""
    return _redact(value, "", is_personal=False)


def _redact(value: Any, name: str, *, is_personal: bool) -> Any:
    """What stays of the value of the member `name`, or of an item in its array."""
    if isinstance(value, str):
        return value if not value or _may_stay(value, name, is_personal) else REDACTED
    if isinstance(value, dict):
        return _redact_members(value, is_personal)
    if isinstance(value, list):
        return [_redact(item, name, is_personal=is_personal) for item in value]
    return None if is_personal else value


def _redact_members(value: dict[str, Any], is_personal: bool) -> dict[str, Any]:
    return {
        name: {} if name in _DROPPED else _redact(member, name, is_personal=is_personal or _is_personal(name))
        for name, member in value.items()
        if _is_member_name(name)
    }


def _may_stay(value: str, name: str, is_personal: bool) -> bool:
    form = KEPT_TEXTS.get(name)
    if form is None or is_personal or len(value) > _KEPT_LENGTH_MAX:
        return False
    return form.fullmatch(value) is not None


@lru_cache(1024)
def _is_personal(name: str) -> bool:
    words = name.split("_")
    pairs = {"_".join(pair) for pair in pairwise(words)}
    return not _PERSONAL_WORDS.isdisjoint(pairs.union(words))
