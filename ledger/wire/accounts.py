"""The JSON of accounts (contract §2.11). An account here is an id and a name; all else has fixed values."""

from __future__ import annotations

from typing import Any

from ledger.wire.json_values import Json, make_list_object

COUNTRY = "US"
DEFAULT_CURRENCY = "usd"

EXPANDABLE_FIELDS: dict[str, Any] = {
    "business_profile": {},
    "capabilities": {},
    "company": {},
    "controller": {},
    "external_accounts": {},
    "future_requirements": {},
    "individual": {},
    "requirements": {},
    "settings": {"branding": {"icon": "file", "logo": "file"}},
    "tos_acceptance": {},
}
CAPABILITIES = {"card_payments": "active", "transfers": "active"}
_SUPPORT_MEMBERS = ("support_address", "support_email", "support_phone", "support_url", "url")


def render_account(account_id: str, name: str, created: int) -> Json:
    """An account that can do all that this ledger does. `created` is in unix seconds."""
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {
            "annual_revenue": None,
            "estimated_worker_count": None,
            "mcc": None,
            "minority_owned_business_designation": None,
            "name": name,
            "product_description": None,
            "specified_commercial_transactions_act_url": None,
            **dict.fromkeys(_SUPPORT_MEMBERS),
        },
        "business_type": None,
        "capabilities": dict(CAPABILITIES),
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": COUNTRY,
        "created": created,
        "default_currency": DEFAULT_CURRENCY,
        "details_submitted": True,
        "email": None,
        "external_accounts": make_list_object([], f"/v1/accounts/{account_id}/external_accounts"),
        "future_requirements": _render_requirements(),
        "metadata": {},
        "payouts_enabled": True,
        "requirements": _render_requirements(),
        "settings": _render_settings(name),
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": "standard",
    }


def _render_requirements() -> Json:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": [],
        "disabled_reason": None,
        "errors": [],
        "eventually_due": [],
        "past_due": [],
        "pending_verification": [],
    }


def _render_settings(name: str) -> Json:
    return {
        "bacs_debit_payments": {"display_name": None, "service_user_number": None},
        "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
        "card_payments": {
            "decline_on": {"avs_failure": False, "cvc_failure": False},
            "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": name, "timezone": "Etc/UTC"},
        "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": "offer"},
        "payments": {
            "statement_descriptor": None,
            "statement_descriptor_kana": None,
            "statement_descriptor_kanji": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "payouts": {
            "debit_negative_balances": True,
            "schedule": {"delay_days": 2, "interval": "daily"},
            "statement_descriptor": None,
        },
        "sepa_debit_payments": {},
    }
