"""What the operations on charges accept (contract §2.6).

Amounts have no bounds here: which are too small or too large depends on the currency, and has errors
of its own (`amount_too_small`, `amount_too_large`).
"""

from __future__ import annotations

from ledger.wire.parameters import (
    EXPAND,
    PAGINATION,
    Hash,
    Metadata,
    ParameterTable,
    TimestampFilter,
    Unsupported,
)
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text
from ledger.wire.tables.address import SHIPPING

DESCRIPTION_LENGTH_MAX = 40_000
STATEMENT_DESCRIPTOR_LENGTH_MAX = 22

_NO_CONNECT = "moving money between connected accounts is not served"

_DESCRIPTION = Text(
    unsettable=True, length_max=DESCRIPTION_LENGTH_MAX, description="Your own words about the charge."
)
_RECEIPT_EMAIL = Text(unsettable=True, description="Where the receipt goes.")
_SHIPPING = Hash(
    {
        **SHIPPING,
        "carrier": Text(unsettable=True, description="The delivery service."),
        "tracking_number": Text(unsettable=True, description="Tracking numbers, separated by commas."),
    },
    description="Where and to whom goods are sent.",
)
_TRANSFER_GROUP = Text(unsettable=True, description="Names the group of payments this is part of.")

_CREATE_AND_CAPTURE: dict[str, Parameter] = {
    "receipt_email": _RECEIPT_EMAIL,
    "statement_descriptor": Text(
        unsettable=True,
        length_max=STATEMENT_DESCRIPTOR_LENGTH_MAX,
        description="What the customer's statement shows.",
    ),
    "statement_descriptor_suffix": Text(
        unsettable=True,
        length_max=STATEMENT_DESCRIPTOR_LENGTH_MAX,
        description="What the customer's statement shows after the account's prefix.",
    ),
    "transfer_group": _TRANSFER_GROUP,
}

CREATE = ParameterTable(
    {
        **_CREATE_AND_CAPTURE,
        "amount": Integer(required=True, description="In minor units of the currency: 100 is one dollar."),
        "application_fee": Unsupported(_NO_CONNECT),
        "application_fee_amount": Unsupported(_NO_CONNECT),
        "capture": Boolean(description="False only authorises; capture later. True when absent."),
        "currency": Text(
            required=True,
            pattern=(r"[A-Za-z]{3}", "must be a three-letter ISO currency code"),
            description="Three-letter ISO code.",
        ),
        "customer": Text(description="Id of the customer; its default card pays unless `source` is given."),
        "description": _DESCRIPTION,
        "destination": Unsupported(_NO_CONNECT),
        "expand": EXPAND,
        "metadata": Metadata(),
        "on_behalf_of": Unsupported(_NO_CONNECT),
        "radar_options": Unsupported("risk rules are not served"),
        "shipping": _SHIPPING,
        "source": Text(description="A token (`tok_…`), or a card of the customer."),
        "transfer_data": Unsupported(_NO_CONNECT),
    }
)

UPDATE = ParameterTable(
    {
        "customer": Text(description="Id of a customer; only on a charge that has none."),
        "description": _DESCRIPTION,
        "expand": EXPAND,
        "fraud_details": Hash(
            {
                "user_report": Choice(
                    ("fraudulent", "safe"), required=True, unsettable=True, description="Your own judgement."
                )
            },
            description="What you know about fraud on this charge.",
        ),
        "metadata": Metadata(),
        "receipt_email": _RECEIPT_EMAIL,
        "shipping": _SHIPPING,
        "transfer_group": _TRANSFER_GROUP,
    }
)

CAPTURE = ParameterTable(
    {
        **_CREATE_AND_CAPTURE,
        "amount": Integer(description="What to capture, at most what was authorised; all when absent."),
        "application_fee": Unsupported(_NO_CONNECT),
        "application_fee_amount": Unsupported(_NO_CONNECT),
        "expand": EXPAND,
        "transfer_data": Unsupported(_NO_CONNECT),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST_REFUNDS = ParameterTable(PAGINATION)

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "customer": Text(description="Only charges of this customer."),
        "payment_intent": Text(description="Only charges of this payment intent."),
        "transfer_group": Text(description="Only charges of this group."),
    }
)
