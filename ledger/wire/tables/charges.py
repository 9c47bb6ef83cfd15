"""The parameters of the operations on charges (contract §2.6).

Amounts have no bounds here: the bounds depend on the currency, and the decision raises specific errors
(`amount_too_small`, `amount_too_large`).
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
from ledger.wire.tables.unsupported import NO_CONNECT

DESCRIPTION_LENGTH_MAX = 40_000
STATEMENT_DESCRIPTOR_LENGTH_MAX = 22

_DESCRIPTION = Text(
    unsettable=True, length_max=DESCRIPTION_LENGTH_MAX, description="Your description of the charge."
)
_RECEIPT_EMAIL = Text(unsettable=True, description="Email address for the receipt.")
SHIPPING_OF_GOODS: dict[str, Parameter] = {
    **SHIPPING,
    "carrier": Text(unsettable=True, description="The carrier that delivers the goods."),
    "tracking_number": Text(unsettable=True, description="Tracking numbers, separated by commas."),
}
_SHIPPING = Hash(SHIPPING_OF_GOODS, description="Shipping details of the goods.")
_TRANSFER_GROUP = Text(
    unsettable=True, description="Identifies the group of payments that this charge belongs to."
)


def make_currency(*, required: bool) -> Text:
    """The parameter for the currency of an amount; the decision checks whether it is a known one."""
    return Text(
        required=required,
        pattern=r"[A-Za-z]{3}",
        pattern_rule="must be a three-letter ISO currency code",
        description="Three-letter ISO code.",
    )


_CREATE_AND_CAPTURE: dict[str, Parameter] = {
    "receipt_email": _RECEIPT_EMAIL,
    "statement_descriptor": Text(
        unsettable=True,
        length_max=STATEMENT_DESCRIPTOR_LENGTH_MAX,
        description="Text on the customer's statement.",
    ),
    "statement_descriptor_suffix": Text(
        unsettable=True,
        length_max=STATEMENT_DESCRIPTOR_LENGTH_MAX,
        description="Text on the customer's statement, after the account's prefix.",
    ),
    "transfer_group": _TRANSFER_GROUP,
}

CREATE = ParameterTable(
    {
        **_CREATE_AND_CAPTURE,
        "amount": Integer(required=True, description="In minor units of the currency: 100 is one dollar."),
        "application_fee": Unsupported(NO_CONNECT),
        "application_fee_amount": Unsupported(NO_CONNECT),
        "capture": Boolean(description="False: only authorize, and capture later. Default: true."),
        "currency": make_currency(required=True),
        "customer": Text(
            description="Id of the customer; the default card is charged unless `source` is set."
        ),
        "description": _DESCRIPTION,
        "destination": Unsupported(NO_CONNECT),
        "expand": EXPAND,
        "metadata": Metadata(),
        "on_behalf_of": Unsupported(NO_CONNECT),
        "radar_options": Unsupported("risk rules are not supported"),
        "shipping": _SHIPPING,
        "source": Text(description="A token (`tok_…`), or a card of the customer."),
        "transfer_data": Unsupported(NO_CONNECT),
    }
)

UPDATE = ParameterTable(
    {
        "customer": Text(description="Id of the customer; can be set only once."),
        "description": _DESCRIPTION,
        "expand": EXPAND,
        "fraud_details": Hash(
            {
                "user_report": Choice(
                    ("fraudulent", "safe"), required=True, unsettable=True, description="Your assessment."
                )
            },
            description="Your report on fraud.",
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
        "amount": Integer(description="In minor units, at most the authorized amount. Default: all of it."),
        "application_fee": Unsupported(NO_CONNECT),
        "application_fee_amount": Unsupported(NO_CONNECT),
        "expand": EXPAND,
        "transfer_data": Unsupported(NO_CONNECT),
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
