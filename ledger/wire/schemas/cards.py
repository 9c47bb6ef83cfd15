"""Cards, as sources and as payment methods, and the parts that several objects have."""

from __future__ import annotations

from ledger.wire.schemas.fields import (
    Field,
    Fields,
    boolean,
    choice,
    constant,
    hash_of,
    identifier,
    integer,
    livemode,
    metadata,
    nullable_text,
    text,
    unix_time,
    unused,
)

BRANDS = ("amex", "diners", "discover", "jcb", "mastercard", "unionpay", "visa")
BRAND_NAMES = {
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "mastercard": "MasterCard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}
"""By brand, its name in a `card`; everywhere else a card has the brand itself."""
ADDRESS: Fields = {
    "city": nullable_text("City, district, suburb, town or village.", "South San Francisco"),
    "country": nullable_text("Country, preferably its two-letter ISO 3166-1 code.", "US"),
    "line1": nullable_text("First line, such as the street.", "354 Oyster Point Blvd"),
    "line2": nullable_text("Second line, such as the apartment."),
    "postal_code": nullable_text("ZIP or postal code.", "94080"),
    "state": nullable_text("State, county, province or region.", "CA"),
}


def address(description: str) -> Field:
    """A postal address."""
    return hash_of(description, ADDRESS)


def shipping(description: str) -> Field:
    """Where goods go to."""
    members = {
        "address": address("Address of the recipient.").or_null(),
        "carrier": nullable_text("Carrier.").or_missing(),
        "name": nullable_text("Name of the recipient.", "Jenny Rosen"),
        "phone": nullable_text("Phone number of the recipient."),
        "tracking_number": nullable_text("Tracking number of the carrier.").or_missing(),
    }
    return hash_of(description, members)


def billing_details() -> Field:
    """Who pays."""
    members = {
        "address": address("Billing address."),
        "email": nullable_text("Email address.", "jenny@example.com"),
        "name": nullable_text("Full name.", "Jenny Rosen"),
        "phone": nullable_text("Phone number."),
        "tax_id": nullable_text("Tax number."),
    }
    return hash_of("The customer's details with this card.", members)


_FACTS: Fields = {
    "brand": choice("Brand of the card.", BRANDS, "visa"),
    "country": nullable_text("Two-letter code of the issuer's country.", "US"),
    "exp_month": integer("Month in which the card expires.", 12),
    "exp_year": integer("Year in which the card expires.", 2034),
    "fingerprint": nullable_text("The same for the same card number.", "Xt5EWLLDS7FJjR1c"),
    "funding": text("credit, debit, prepaid or unknown.", "credit"),
    "last4": nullable_text("Last four digits.", "4242"),
}
CARD: Fields = {
    "id": text("Id of the card.", "card_1NXWPnCo6bFb1KQto6C8OWvE"),
    "object": constant("card"),
    "address_city": unused(),
    "address_country": unused(),
    "address_line1": unused(),
    "address_line1_check": unused(),
    "address_line2": unused(),
    "address_state": unused(),
    "address_zip": unused(),
    "address_zip_check": unused(),
    "allow_redisplay": choice(
        "Whether the card may be shown to the customer again.", ("always", "limited", "unspecified")
    ),
    "brand": choice("Name of the brand.", tuple(BRAND_NAMES.values()), "Visa"),
    "country": _FACTS["country"],
    "customer": identifier("The customer who has saved the card.", "cus_NffrFeUfNV2Hib").or_null(),
    "cvc_check": nullable_text("Result of the check of the CVC: pass, fail, unavailable, unchecked.", "pass"),
    "dynamic_last4": unused(),
    "exp_month": _FACTS["exp_month"],
    "exp_year": _FACTS["exp_year"],
    "fingerprint": _FACTS["fingerprint"],
    "funding": _FACTS["funding"],
    "last4": _FACTS["last4"],
    "metadata": metadata(),
    "name": unused(),
    "regulated_status": choice("Whether the card is regulated.", ("regulated", "unregulated"), "unregulated"),
    "tokenization_method": unused(),
    "wallet": unused(),
}
PAYMENT_METHOD: Fields = {
    "id": text("Id of the payment method.", "card_1NXWPnCo6bFb1KQto6C8OWvE"),
    "object": constant("payment_method"),
    "allow_redisplay": CARD["allow_redisplay"],
    "billing_details": billing_details(),
    "card": hash_of("The card.", _FACTS),
    "created": unix_time("When it was created."),
    "customer": CARD["customer"],
    "livemode": livemode(),
    "metadata": metadata(),
    "type": choice("The kind of payment method; cards only.", ("card",)),
}
_STATUS: Fields = {"status": text("What the card offers.", "unavailable")}
_NETWORK_TOKEN: Fields = {"used": boolean("Whether a network token was charged.")}
_OVERCAPTURE: Fields = {
    "maximum_amount_capturable": integer("The most that can be captured, in minor units.", 2000),
    "status": text("Whether more than the authorized amount can be captured.", "unavailable"),
}
CHECKS: Fields = {
    "address_line1_check": unused(),
    "address_postal_code_check": unused(),
    "cvc_check": CARD["cvc_check"],
}
CARD_DETAILS: Fields = {
    "amount_authorized": integer("The authorized amount, in minor units.", 2000),
    "authorization_code": unused(),
    "brand": _FACTS["brand"],
    "checks": hash_of("Results of the issuer's checks.", CHECKS),
    "country": _FACTS["country"],
    "exp_month": _FACTS["exp_month"],
    "exp_year": _FACTS["exp_year"],
    "extended_authorization": hash_of("Extended authorization.", _STATUS),
    "fingerprint": _FACTS["fingerprint"],
    "funding": _FACTS["funding"],
    "incremental_authorization": hash_of("Incremental authorization.", _STATUS),
    "installments": unused(),
    "last4": _FACTS["last4"],
    "mandate": unused(),
    "multicapture": hash_of("Several captures of one charge.", _STATUS),
    "network": text("The network that processed the charge.", "visa"),
    "network_token": hash_of("Network token.", _NETWORK_TOKEN),
    "network_transaction_id": unused(),
    "overcapture": hash_of("Capture of more than the authorized amount.", _OVERCAPTURE),
    "regulated_status": CARD["regulated_status"],
    "three_d_secure": unused(),
    "wallet": unused(),
}
"""The `payment_method_details` of a charge on a test card."""
