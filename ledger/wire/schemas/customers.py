"""Customers and customer sessions."""

from __future__ import annotations

from ledger.domain.customer_session import DEFAULT_FEATURES
from ledger.wire.schemas.cards import address, recipient
from ledger.wire.schemas.fields import (
    Field,
    Fields,
    amount,
    array,
    boolean,
    choice,
    component,
    constant,
    document,
    hash_of,
    identifier,
    integer,
    livemode,
    metadata,
    nullable_text,
    redaction,
    text,
    unix_time,
    unused,
)

_CUSTOM_FIELD: Fields = {"name": text("Name.", "PO"), "value": text("Value.", "17")}
_RENDERING_OPTIONS: Fields = {
    "amount_tax_display": nullable_text("How line items show tax."),
    "template": nullable_text("Id of an invoice rendering template."),
}
_INVOICE_SETTINGS: Fields = {
    "custom_fields": array("Fields shown on invoices.", hash_of("A field.", _CUSTOM_FIELD)).or_null(),
    "default_payment_method": identifier("The payment method of invoices.").or_null(),
    "footer": nullable_text("Shown at the foot of invoices."),
    "rendering_options": hash_of("How invoices are rendered.", _RENDERING_OPTIONS).or_null(),
}
CUSTOMER: Fields = {
    "id": text("Id of the customer.", "cus_NffrFeUfNV2Hib"),
    "object": constant("customer"),
    "address": address("The customer's address.").or_null(),
    "balance": amount("A credit towards the next invoices if negative.", 0),
    "business_name": nullable_text("Name of the business."),
    "cash_balance": unused("Only if expanded.").or_missing(),
    "created": unix_time("When it was created."),
    "currency": unused(),
    "customer_account": unused(),
    "default_source": identifier("The card that is charged by default.").or_null(),
    "delinquent": boolean("Whether an invoice is overdue; never here."),
    "description": nullable_text("Your description."),
    "discount": unused(),
    "email": nullable_text("Email address.", "jennyrosen@example.com"),
    "individual_name": nullable_text("Name of the person."),
    "invoice_prefix": nullable_text("Prefix of invoice numbers.", "0759376C"),
    "invoice_settings": hash_of("Defaults for invoices.", _INVOICE_SETTINGS),
    "livemode": livemode(),
    "metadata": metadata(),
    "name": nullable_text("Full name, or name of the business.", "Jenny Rosen"),
    "next_invoice_sequence": integer("Number of the next invoice.", 1),
    "phone": nullable_text("Phone number."),
    "preferred_locales": array("Preferred languages, best first.", text("A language.", "en")),
    "redaction": redaction(),
    "shipping": recipient("Shipping details.").or_null(),
    "sources": component("The saved cards. Only if expanded.", "card_list").or_missing(),
    "subscriptions": component("Only if expanded; always empty.", "empty_list").or_missing(),
    "tax": document("Only if expanded: that nothing is known of the location.").or_missing(),
    "tax_exempt": choice("Whether the customer is exempt from tax.", ("none", "exempt", "reverse")),
    "tax_ids": component("Only if expanded; always empty.", "empty_list").or_missing(),
    "test_clock": unused(),
}
_ON_OFF = ("disabled", "enabled")
_REDISPLAY = ("always", "limited", "unspecified")
_FEATURES: Fields = {
    "payment_method_allow_redisplay_filters": array(
        "Only saved payment methods with one of these `allow_redisplay` values are shown.",
        choice("A value.", _REDISPLAY),
    ),
    "payment_method_redisplay": choice("Whether saved payment methods are shown.", _ON_OFF),
    "payment_method_redisplay_limit": integer("The most that are shown.", 3),
    "payment_method_remove": choice("Whether a saved one can be removed.", _ON_OFF),
    "payment_method_remove_last": choice("Whether the last one can be removed.", _ON_OFF),
    "payment_method_save": choice("Whether a new one can be saved.", _ON_OFF),
    "payment_method_save_allow_redisplay_override": choice(
        "`allow_redisplay` of one that is saved while saving is disabled.", _REDISPLAY
    ).or_null(),
    "payment_method_save_usage": choice(
        "Intended use of a saved one.", ("off_session", "on_session")
    ).or_null(),
    "payment_method_set_as_default": choice("Whether one can be made the default.", _ON_OFF),
    "payment_method_sync_default": choice("Whether the default is kept in step.", _ON_OFF),
}
_FRONT_END_FEATURES = {
    "customer_sheet": (
        "payment_method_remove",
        "payment_method_remove_last",
        "payment_method_sync_default",
    ),
    "mobile_payment_element": (
        "payment_method_save",
        "payment_method_remove",
        "payment_method_remove_last",
        "payment_method_set_as_default",
        "payment_method_save_allow_redisplay_override",
    ),
}
"""The features that the mobile SDKs know: a front end receives these."""


def _make_component(name: str, features: Fields | None) -> Field:
    enabled = boolean("Whether it is enabled.")
    if features is None:
        return hash_of(f"The component {name}.", {"enabled": enabled})
    described = hash_of("Its features; null while it is not enabled.", features).or_null()
    return hash_of(f"The component {name}.", {"enabled": enabled, "features": described})


COMPONENTS: dict[str, Field] = {
    name: _make_component(
        name, None if features is None else {feature: _FEATURES[feature] for feature in features}
    )
    for name, features in DEFAULT_FEATURES.items()
}


FRONT_END_COMPONENTS: Fields = COMPONENTS | {
    name: _make_component(name, {feature: _FEATURES[feature] for feature in features})
    for name, features in _FRONT_END_FEATURES.items()
}
CUSTOMER_SESSION: Fields = {
    "object": constant("customer_session"),
    "client_secret": text(
        "What a front end exchanges, once, for access to the customer. Only in the answer to the creation.",
        "cuss_secret_…",
    ),
    "components": hash_of("Which component is enabled; exactly one.", COMPONENTS),
    "created": unix_time("When it was created."),
    "customer": identifier("The customer to whom it gives access.", "cus_NffrFeUfNV2Hib"),
    "customer_account": unused(),
    "expires_at": unix_time("When it expires.", 1795001800),
    "livemode": livemode(),
}
_PREFERENCE: Fields = {
    "object": constant("payment_method_preference"),
    "country_code": text("Country.", "US"),
    "ordered_payment_method_types": array("Payment methods to show, in order.", text("A type.", "card")),
    "type": choice("Purpose of the form.", ("deferred_intent", "payment_intent", "setup_intent")),
}
_FRONT_END_SESSION: Fields = {
    "id": text("Id of the session.", "cuss_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("customer_session"),
    "livemode": livemode(),
    "customer": text("The customer.", "cus_NffrFeUfNV2Hib"),
    "api_key": text("An ephemeral key for this customer alone.", "ek_…"),
    "api_key_expiry": unix_time("When the key expires.", 1795001800),
    "components": hash_of("Which component is enabled.", FRONT_END_COMPONENTS),
}
_FRONT_END_CUSTOMER: Fields = {
    "payment_methods": array(
        "The customer's saved payment methods.", component("A payment method.", "payment_method")
    ),
    "default_payment_method": nullable_text("Id of the default one."),
    "customer_session": hash_of("The session, with a key for the front end.", _FRONT_END_SESSION),
}
ELEMENTS_SESSION: Fields = {
    "session_id": text("Id of this exchange.", "elements_session_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("elements_session"),
    "customer": hash_of("Only if a client secret was exchanged.", _FRONT_END_CUSTOMER).or_missing(),
    "livemode": livemode(),
    "payment_method_preference": hash_of("What the form shows.", _PREFERENCE),
    "merchant_country": text("Country of the account.", "US"),
    "payment_method_specs": unused(),
    "unactivated_payment_method_types": array("Always empty here.", text("A type.", "link")),
    "link_settings": unused(),
    "google_pay_preference": text("Whether Google Pay is offered.", "disabled"),
    "card_brand_choice": unused(),
}
