"""Charges and refunds."""

from __future__ import annotations

from ledger.domain.refund_decisions import REASONS
from ledger.wire.schemas.cards import billing_details, shipping
from ledger.wire.schemas.fields import (
    Fields,
    amount,
    boolean,
    choice,
    component,
    constant,
    currency,
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

CHARGE_STATUSES = ("succeeded", "pending", "failed")
REFUND_STATUSES = ("succeeded", "pending", "failed", "canceled", "requires_action")
_OUTCOME: Fields = {
    "advice_code": nullable_text("What to do about a decline."),
    "network_advice_code": nullable_text("The network's code for it."),
    "network_decline_code": nullable_text("The network's code of the decline."),
    "network_status": text("approved_by_network, declined_by_network, …", "approved_by_network"),
    "reason": nullable_text("Why the charge was declined or reviewed."),
    "risk_level": text("normal, elevated or highest.", "normal").or_missing(),
    "risk_score": integer("From 0 to 100.", 20).or_missing(),
    "seller_message": nullable_text("The outcome in words, for the merchant.", "Payment complete."),
    "type": text("authorized, issuer_declined, …", "authorized"),
}
CHARGE: Fields = {
    "id": text("Id of the charge.", "ch_3MmlLrLkdIwHu7ix0snN0B15"),
    "object": constant("charge"),
    "amount": amount("What was to be paid."),
    "amount_captured": amount("What was captured."),
    "amount_refunded": amount("What was refunded.", 0),
    "application": unused(),
    "application_fee": unused(),
    "application_fee_amount": unused(),
    "balance_transaction": identifier(
        "The movement of money; null until the charge is captured.", "txn_3MmlLrLkdIwHu7ix0uke3Ezy"
    ).or_null(),
    "billing_details": billing_details(),
    "calculated_statement_descriptor": nullable_text("The text on the customer's statement."),
    "captured": boolean("Whether the amount was captured, not only authorized.", example=True),
    "created": unix_time("When it was created."),
    "currency": currency(),
    "customer": identifier("The customer who paid.", "cus_NffrFeUfNV2Hib").or_null(),
    "description": nullable_text("Your description.", "A hat"),
    "disputed": boolean("Whether it was ever disputed; stays true when the dispute is closed."),
    "failure_balance_transaction": unused(),
    "failure_code": nullable_text("Why it failed."),
    "failure_message": nullable_text("Why it failed, in words."),
    "fraud_details": hash_of(
        "Your report of fraud; empty without one.",
        {"user_report": choice("What you reported.", ("fraudulent", "safe")).or_missing()},
    ),
    "livemode": livemode(),
    "metadata": metadata(),
    "on_behalf_of": unused(),
    "outcome": hash_of("What the network and the risk checks decided.", _OUTCOME).or_null(),
    "paid": boolean("Whether it succeeded.", example=True),
    "payment_intent": identifier("The payment intent that made it.").or_null(),
    "payment_method": identifier("The card that was charged.", "card_1MmlLrLkdIwHu7ixIJwEWSNR").or_null(),
    "payment_method_details": document(
        "How it was paid: `type`, and a member of that name; `card` is described as `card_details`. Of a "
        "charge that another service reported, what it reported.",
        {"type": "card"},
    ).or_null(),
    "receipt_email": nullable_text("Where a receipt goes to."),
    "receipt_number": unused(),
    "receipt_url": unused(),
    "redaction": redaction(),
    "refunded": boolean("Whether it was refunded in full, or never captured in time."),
    "refunds": component(
        "Its refunds, newest first, at most ten. Only if expanded.", "refund_list"
    ).or_missing(),
    "review": unused(),
    "shipping": shipping("Where the goods go to.").or_null(),
    "source": component("The card, unless a payment intent charged it.", "card").or_null(),
    "source_transfer": unused(),
    "statement_descriptor": nullable_text("Text on the customer's statement."),
    "statement_descriptor_suffix": nullable_text("Text on the statement, after the account's prefix."),
    "status": choice("Whether it succeeded.", CHARGE_STATUSES),
    "transfer_data": unused(),
    "transfer_group": nullable_text("The group of payments that it belongs to."),
}
_DESTINATION: Fields = {
    "reference": unused("The bank's number that traces the refund: none yet."),
    "reference_status": text("Whether there is a reference.", "pending"),
    "reference_type": text("What kind of reference.", "acquirer_reference_number"),
    "type": text("refund, reversal or pending.", "refund"),
}
REFUND: Fields = {
    "id": text("Id of the refund.", "re_1Nispe2eZvKYlo2Cd31jOCgZ"),
    "object": constant("refund"),
    "amount": amount("What was refunded.", 1000),
    "balance_transaction": identifier("The movement of money.", "txn_1Nispe2eZvKYlo2CYezqFhEx").or_null(),
    "charge": identifier("The charge that was refunded.", "ch_1NirD82eZvKYlo2CIvbtLWuY"),
    "created": unix_time("When it was created."),
    "currency": currency(),
    "customer": identifier("The customer who gets the money.", "cus_NffrFeUfNV2Hib").or_null(),
    "customer_account": unused(),
    "destination_details": hash_of(
        "Where the money goes: `type`, and a member of that name, empty but for a card.",
        {
            "card": hash_of("To the card.", _DESTINATION).or_missing(),
            "type": text("The kind of payment method.", "card"),
        },
    ).or_null(),
    "metadata": metadata(),
    "payment_intent": identifier("The payment intent of the charge.").or_null(),
    "payment_method": identifier("The payment method of the charge.").or_null(),
    "reason": choice("Why you refunded it.", REASONS, "requested_by_customer").or_null(),
    "receipt_number": unused(),
    "source_transfer_reversal": unused(),
    "status": choice("How far it is.", REFUND_STATUSES),
    "transfer_reversal": unused(),
}
