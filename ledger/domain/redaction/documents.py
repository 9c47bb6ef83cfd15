"""What stays of a JSON document of another system: a published resource, an imported Event, a payment method.

Its members are not the ledger's, so they are told by name and form: a text stays only under a name that
`KEPT_TEXTS` lists, and only if it has the form of such a value, a number only under one of `NUMBER_NAMES`.
Booleans stay. The keys and values of metadata are dropped, and so is every member that no API has.
"""

from __future__ import annotations

import re
from typing import Any

from ledger.domain.money import CURRENCIES
from ledger.domain.redaction import member_names, number_names

REDACTED = "[redacted]"
"""Stands in the place of a text, as in Stripe's API (https://docs.stripe.com/privacy/redaction)."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+")
_CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[a-z]{2}|\d{3}))?")
"""Language, script and region of BCP 47."""
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
    **dict.fromkeys(("locale", "preferred_locales"), _LOCALE),
    "country": re.compile("[A-Z]{2}"),
    "last4": re.compile(r"\d{4}"),
}
"""By name of a member, the form of the texts that stay."""
# Amounts in several currencies are members of an object, too.
NUMBER_NAMES = CURRENCIES.union(number_names.NUMBER_NAMES.split())
MEMBER_NAMES = NUMBER_NAMES.union(member_names.OTHER_NAMES.split())
_KEPT_LENGTH_MAX = 255
_NAMED_BY_CALLERS = frozenset({"metadata", "payload"})
"""Members whose own members are named by a caller."""


def redact_document(value: Any) -> Any:
    """What stays of any value of JSON. Members that no API has are left out: a caller may have named them."""
    return _redact(value, "")


def redact_locale(value: str) -> str:
    """Stays if it has the form of one: the field takes any text."""
    return value if not value or _LOCALE.fullmatch(value) else REDACTED


def _redact(value: Any, name: str) -> Any:
    """What stays of the value of the member `name`, or of an item in its array."""
    if isinstance(value, str):
        return value if not value or _may_stay(value, name) else REDACTED
    if isinstance(value, dict):
        return _redact_members(value)
    if isinstance(value, list):
        return [_redact(item, name) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and name not in NUMBER_NAMES else value


def _redact_members(value: dict[str, Any]) -> dict[str, Any]:
    redacted = {
        name: {} if name in _NAMED_BY_CALLERS else _redact(member, name)
        for name, member in value.items()
        if name in MEMBER_NAMES
    }
    if "currency" in value and "value" in value:  # an amount; elsewhere a value may be a tax number
        redacted["value"] = _redact(value["value"], "amount")
    return redacted


def _may_stay(value: str, name: str) -> bool:
    form = KEPT_TEXTS.get(name)
    return form is not None and len(value) <= _KEPT_LENGTH_MAX and form.fullmatch(value) is not None
