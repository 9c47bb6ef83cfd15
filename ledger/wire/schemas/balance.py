"""The balance, and the movements of money behind it."""

from __future__ import annotations

from ledger.wire.schemas.fields import (
    Fields,
    amount,
    array,
    choice,
    constant,
    currency,
    hash_of,
    identifier,
    livemode,
    nullable_text,
    text,
    unix_time,
    unused,
)

_FEE: Fields = {
    "amount": amount("The fee.", 88),
    "application": unused(),
    "currency": currency(),
    "description": nullable_text("What it is for.", "Stripe processing fees"),
    "type": text("Whose fee it is.", "stripe_fee"),
}
BALANCE_TRANSACTION: Fields = {
    "id": text("Id of the balance transaction.", "txn_1MiN3gLkdIwHu7ixxapQrznl"),
    "object": constant("balance_transaction"),
    "amount": amount("What was moved; negative if the account paid it."),
    "available_on": unix_time("From when on the money can be used."),
    "balance_type": text("Of which balance.", "payments"),
    "created": unix_time("When it was made."),
    "currency": currency(),
    "description": nullable_text("Your description of the charge, or what moved the money."),
    "exchange_rate": unused(),
    "fee": amount("All fees.", 88),
    "fee_details": array("What the fees are for.", hash_of("A fee.", _FEE)),
    "net": amount("What the balance changed by: amount less fee.", 1912),
    "reporting_category": choice(
        "What it was, for reports.", ("charge", "refund", "dispute", "dispute_reversal")
    ),
    "source": identifier("The charge, refund or dispute.", "ch_3MmlLrLkdIwHu7ix0snN0B15").or_null(),
    "status": choice("Whether the money can be used.", ("available", "pending"), "pending"),
    "type": choice("What it was.", ("charge", "refund", "adjustment")),
}
_FUNDS: Fields = {
    "amount": amount("The sum; negative if the account owes it.", 1912),
    "currency": currency(),
    "source_types": hash_of("The sum by kind of source.", {"card": amount("From cards.", 1912)}),
}
BALANCE: Fields = {
    "object": constant("balance"),
    "available": array("What can be used, by currency.", hash_of("A sum.", _FUNDS)),
    "livemode": livemode(),
    "pending": array("What cannot be used yet, by currency.", hash_of("A sum.", _FUNDS)),
}
