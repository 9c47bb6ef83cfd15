"""Accounts and their capabilities."""

from __future__ import annotations

from ledger.wire.schemas.fields import (
    Field,
    Fields,
    array,
    boolean,
    choice,
    constant,
    currency,
    document,
    hash_of,
    identifier,
    integer,
    list_object,
    metadata,
    nullable_text,
    text,
    unix_time,
    unused,
)

_BUSINESS_PROFILE: Fields = {
    "annual_revenue": unused(),
    "estimated_worker_count": unused(),
    "mcc": unused(),
    "minority_owned_business_designation": unused(),
    "name": nullable_text("Name of the account.", "Berlin branch"),
    "product_description": unused(),
    "specified_commercial_transactions_act_url": unused(),
    "support_address": unused(),
    "support_email": unused(),
    "support_phone": unused(),
    "support_url": unused(),
    "url": unused(),
}
_REQUIREMENTS: Fields = {
    "alternatives": array("Always empty here.", document("An alternative.")),
    "current_deadline": unused(),
    "currently_due": array("Always empty here.", text("A field.", "external_account")),
    "disabled_reason": unused(),
    "errors": array("Always empty here.", document("An error.")),
    "eventually_due": array("Always empty here.", text("A field.", "external_account")),
    "past_due": array("Always empty here.", text("A field.", "external_account")),
    "pending_verification": array("Always empty here.", text("A field.", "external_account")),
}
_DECLINE_ON: Fields = {
    "avs_failure": boolean("On a failed check of the address."),
    "cvc_failure": boolean("On a failed check of the CVC."),
}
_SCHEDULE: Fields = {"delay_days": integer("Days.", 2), "interval": text("How often.", "daily")}


def _make_unused(*names: str) -> dict[str, Field]:
    return {name: unused() for name in names}


_SETTINGS: Fields = {
    "bacs_debit_payments": hash_of("Unused.", _make_unused("display_name", "service_user_number")),
    "branding": hash_of(
        "Unused.",
        {
            "icon": identifier("Id of a file.").or_null(),
            "logo": identifier("Id of a file.").or_null(),
            **_make_unused("primary_color", "secondary_color"),
        },
    ),
    "card_issuing": hash_of("Unused.", {"tos_acceptance": hash_of("Unused.", _make_unused("date", "ip"))}),
    "card_payments": hash_of(
        "Settings of card payments.",
        {
            "decline_on": hash_of("When a charge is declined.", _DECLINE_ON),
            **_make_unused(
                "statement_descriptor_prefix",
                "statement_descriptor_prefix_kana",
                "statement_descriptor_prefix_kanji",
            ),
        },
    ),
    "dashboard": hash_of(
        "Names for people.",
        {
            "display_name": nullable_text("Name.", "Berlin branch"),
            "timezone": nullable_text("Time zone.", "Etc/UTC"),
        },
    ),
    "invoices": hash_of(
        "Settings of invoices.",
        {"default_account_tax_ids": unused(), "hosted_payment_method_save": text("Always this.", "offer")},
    ),
    "payments": hash_of(
        "Unused.",
        _make_unused(
            "statement_descriptor",
            "statement_descriptor_kana",
            "statement_descriptor_kanji",
            "statement_descriptor_prefix_kana",
            "statement_descriptor_prefix_kanji",
        ),
    ),
    "payouts": hash_of(
        "Settings of payouts.",
        {
            "debit_negative_balances": boolean("Always true here.", example=True),
            "schedule": hash_of("When.", _SCHEDULE),
            "statement_descriptor": unused(),
        },
    ),
    "sepa_debit_payments": hash_of("Empty.", {}),
}
_STATUS = ("active", "inactive", "pending")
ACCOUNT: Fields = {
    "id": text("Id of the account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "object": constant("account"),
    "business_profile": hash_of("About the business.", _BUSINESS_PROFILE),
    "business_type": unused(),
    "capabilities": hash_of(
        "What it can do.",
        {"card_payments": choice("Charge cards.", _STATUS), "transfers": choice("Be paid.", _STATUS)},
    ),
    "charges_enabled": boolean("Always true here.", example=True),
    "controller": hash_of("Who controls it.", {"type": text("Itself.", "account")}),
    "country": text("Country.", "US"),
    "created": unix_time("When it was created."),
    "default_currency": currency(),
    "details_submitted": boolean("Always true here.", example=True),
    "email": unused(),
    "external_accounts": list_object(
        "Always empty here.", "empty_list", "/v1/accounts/acct_1Nv0FGQ9RKHgCVdK/external_accounts"
    ),
    "future_requirements": hash_of("Nothing is required.", _REQUIREMENTS),
    "metadata": metadata(),
    "payouts_enabled": boolean("Always true here.", example=True),
    "requirements": hash_of("Nothing is required.", _REQUIREMENTS),
    "settings": hash_of("Fixed settings.", _SETTINGS),
    "tos_acceptance": hash_of("Unused.", _make_unused("date", "ip", "user_agent")),
    "type": text("Always this here.", "standard"),
}
CAPABILITY: Fields = {
    "id": text("Its name.", "card_payments"),
    "object": constant("capability"),
    "account": text("Id of the account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "requested": boolean("Always true here.", example=True),
    "requested_at": unix_time("When the account was created."),
    "status": choice("Whether the account has it.", _STATUS),
}
