"""Payment intents."""

from __future__ import annotations

from ledger.domain.payment_intent import (
    CANCELED,
    REQUIRES_CAPTURE,
    REQUIRES_CONFIRMATION,
    REQUIRES_PAYMENT_METHOD,
    SUCCEEDED,
)
from ledger.domain.payment_intent_decisions import CANCELLATION_REASONS, CAPTURE_METHODS, EXPIRED
from ledger.wire.schemas.cards import shipping
from ledger.wire.schemas.fields import (
    Fields,
    amount,
    array,
    boolean,
    choice,
    component,
    constant,
    currency,
    hash_of,
    identifier,
    livemode,
    metadata,
    nullable_text,
    redaction,
    text,
    unix_time,
    unused,
)

STATUSES = (REQUIRES_PAYMENT_METHOD, REQUIRES_CONFIRMATION, REQUIRES_CAPTURE, SUCCEEDED, CANCELED)
_ERROR: Fields = {
    "type": choice("The kind of error.", ("card_error",)),
    "charge": text("Id of the failed charge.", "ch_1").or_missing(),
    "code": text("What failed.", "card_declined").or_missing(),
    "decline_code": text("Why the issuer declined.", "generic_decline").or_missing(),
    "doc_url": text("Where the code is explained.", "https://docs.stripe.com/error-codes"),
    "message": text("The error in words.", "Your card was declined.").or_missing(),
    "param": text("The parameter that it is about.", "exp_month").or_missing(),
    "payment_method": component("The card that was declined.", "payment_method"),
}
_AUTOMATIC: Fields = {
    "allow_redirects": choice("Whether the customer may be redirected.", ("always", "never")),
    "enabled": boolean("Whether payment methods are chosen for you.", example=True),
}
PAYMENT_INTENT: Fields = {
    "id": text("Id of the payment intent.", "pi_3MtwBwLkdIwHu7ix28a3tqPa"),
    "object": constant("payment_intent"),
    "allowed_payment_method_types": unused(),
    "amount": amount("What is to be paid."),
    "amount_capturable": amount("What can be captured.", 0),
    "amount_details": hash_of("Always this.", {"tip": hash_of("Empty.", {})}),
    "amount_received": amount("What was paid.", 0),
    "application": unused(),
    "application_fee_amount": unused(),
    "automatic_payment_methods": hash_of("How payment methods are chosen.", _AUTOMATIC).or_null(),
    "canceled_at": unix_time("When it was canceled.").or_null(),
    "cancellation_reason": choice("Why it was canceled.", (*CANCELLATION_REASONS, EXPIRED)).or_null(),
    "capture_method": choice("When the amount is captured.", CAPTURE_METHODS, "automatic_async"),
    "client_secret": nullable_text(
        "For a front end. Only in answers about the intent itself.", "pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_…"
    ),
    "confirmation_method": choice("Who confirms it.", ("automatic", "manual")),
    "created": unix_time("When it was created."),
    "currency": currency(),
    "customer": identifier("The customer who pays.").or_null(),
    "customer_account": unused(),
    "description": nullable_text("Your description."),
    "excluded_payment_method_types": unused(),
    "last_payment_error": hash_of("Why the last confirmation failed.", _ERROR).or_null(),
    "latest_charge": identifier("The newest charge, also a failed one.").or_null(),
    "livemode": livemode(),
    "metadata": metadata(),
    "next_action": unused(),
    "on_behalf_of": unused(),
    "payment_method": identifier("The card to charge, or that was charged.").or_null(),
    "payment_method_configuration_details": unused(),
    "payment_method_options": unused(),
    "payment_method_types": array("What can be charged; cards only.", text("A type.", "card")),
    "processing": unused(),
    "receipt_email": nullable_text("Where a receipt goes to."),
    "redaction": redaction(),
    "review": unused(),
    "setup_future_usage": unused(),
    "shipping": shipping("Where the goods go to.").or_null(),
    "source": unused(),
    "statement_descriptor": nullable_text("Text on the customer's statement."),
    "statement_descriptor_suffix": nullable_text("Text on the statement, after the account's prefix."),
    "status": choice("How far it is.", STATUSES),
    "transfer_data": unused(),
    "transfer_group": nullable_text("The group of payments that it belongs to."),
}
