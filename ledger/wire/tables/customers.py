"""The parameters of the operations on customers (contract §2.5)."""

from __future__ import annotations

from ledger.wire.parameters import (
    EXPAND,
    PAGINATION,
    Array,
    Hash,
    Metadata,
    ParameterTable,
    TimestampFilter,
    Unsupported,
)
from ledger.wire.scalars import Choice, Integer, Parameter, Text
from ledger.wire.tables.address import ADDRESS, SHIPPING

_INVOICE_SETTINGS = Hash(
    {
        "custom_fields": Array(
            Hash(
                {
                    "name": Text(required=True, length_max=40, description="The field's name."),
                    "value": Text(required=True, length_max=140, description="The field's value."),
                }
            ),
            items_max=4,
            unsettable=True,
            description="Fields shown on invoices; they replace the existing ones.",
        ),
        "default_payment_method": Text(unsettable=True, description="Id of a payment method."),
        "footer": Text(unsettable=True, description="Shown at the foot of invoices."),
        "rendering_options": Hash(
            {
                "amount_tax_display": Choice(
                    ("exclude_tax", "include_inclusive_tax"),
                    unsettable=True,
                    description="How line items show tax on PDFs.",
                ),
                "template": Text(unsettable=True, description="Id of an invoice rendering template."),
            },
            unsettable=True,
            description="How invoice PDFs are rendered.",
        ),
    },
    description="Defaults for the customer's invoices.",
)

_CARDS_ALWAYS_CHECKED = "cards are always checked when they are attached"

_CREATE_AND_UPDATE: dict[str, Parameter] = {
    "address": Hash(ADDRESS, unsettable=True, description="The customer's address."),
    "balance": Integer(
        description="In minor units; a negative balance is a credit towards the next invoices."
    ),
    "business_name": Text(unsettable=True, length_max=150, description="The name of the business."),
    "cash_balance": Unsupported("cash balances are not supported"),
    "description": Text(unsettable=True, description="Your description of the customer."),
    "email": Text(unsettable=True, length_max=512, description="The customer's email address."),
    "expand": EXPAND,
    "individual_name": Text(unsettable=True, length_max=150, description="The name of the person."),
    "invoice_prefix": Text(
        pattern=r"[A-Z0-9]{3,12}",
        pattern_rule="must be 3 to 12 upper-case letters or digits",
        description="Prefix of the customer's invoice numbers.",
    ),
    "invoice_settings": _INVOICE_SETTINGS,
    "metadata": Metadata(),
    "name": Text(unsettable=True, description="Full name of the person, or name of the business."),
    "next_invoice_sequence": Integer(minimum=1, description="Number of the customer's next invoice."),
    "phone": Text(unsettable=True, description="The customer's phone number."),
    "preferred_locales": Array(Text(), items_max=100, description="Preferred languages, best first."),
    "shipping": Hash(SHIPPING, unsettable=True, description="Shipping details."),
    "source": Text(description="A token (`tok_…`): saves its card and makes it the default."),
    "tax": Unsupported("tax calculation is not supported"),
    "tax_exempt": Choice(
        ("none", "exempt", "reverse"), unsettable=True, description="Whether the customer is exempt from tax."
    ),
    "validate": Unsupported(_CARDS_ALWAYS_CHECKED),
}

CREATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        "payment_method": Unsupported("payment methods are not supported; save a card with 'source'"),
        "tax_id_data": Unsupported("tax ids are not supported"),
        "test_clock": Unsupported("test clocks are not supported"),
    }
)

UPDATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        "default_source": Text(description="Id of the customer's card that becomes the default."),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

DELETE = ParameterTable({})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "email": Text(
            length_max=512, description="Only customers with exactly this email address, in this case."
        ),
        "test_clock": Unsupported("test clocks are not supported"),
    }
)
