"""The parameters of the operations on payment intents (contract §2.12).

Only cards are charged, at once and without the card holder. What asks for anything else is refused by name;
what is about redirects, which never happen, is accepted and has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.domain.payment_intent_decisions import CANCELLATION_REASONS, CAPTURE_METHODS
from ledger.errors import InvalidParameter
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
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text
from ledger.wire.tables import charges
from ledger.wire.tables.unsupported import NO_CONNECT

_CARDS_ONLY = "payment intents charge cards only"
_NO_MANDATES = "mandates are not supported"
_NO_DETAILS = "details of the amount and of the order are not kept"
_NO_HOOKS = "tax calculations are not supported"
_NO_CARD_DATA = "pass payment_method with a test payment method (pm_card_…) or a saved card"


@dataclass(frozen=True, kw_only=True)
class OffSession(Choice):
    """A boolean, or one of the strings in `values`."""

    def compile(self, name: str) -> Callable[[Any], Any]:
        """The function that parses the value sent under `name`."""
        parse_boolean, parse_choice = Boolean().compile(name), super().compile(name)

        def parse(raw: Any) -> Any:
            try:
                return parse_boolean(raw)
            except InvalidParameter:
                return parse_choice(raw)

        return parse

    def value_schema(self) -> dict[str, Any]:
        """The JSON schema of a value."""
        return {"anyOf": [super().value_schema(), Boolean().value_schema()]}


_SHIPPING, _UNSETTABLE_SHIPPING = (
    Hash(charges.SHIPPING_OF_GOODS, unsettable=unsettable, description="Shipping details of the goods.")
    for unsettable in (False, True)
)
_AMOUNT = "In minor units of the currency: 100 is one dollar."
_CUSTOMER = Text(description="Id of the customer, who owns a saved card that is charged.")
_DESCRIPTION = Text(
    length_max=charges.DESCRIPTION_LENGTH_MAX, description="Your description, which the charge gets too."
)
_PAYMENT_METHOD = Text(
    description="A test payment method (`pm_card_visa`: the card of `tok_visa`), or a card of the customer."
)
_CAPTURE_METHOD = Choice(
    CAPTURE_METHODS, description="manual: only authorize, and capture later. Default: automatic_async."
)
_RETURN_URL = Text(description="Without effect: the customer is never redirected.")
_OFF_SESSION = OffSession(
    ("one_off", "recurring"), description="Without effect: the customer is never needed."
)
_DESCRIPTORS: dict[str, Parameter] = {
    name: Text(length_max=charges.STATEMENT_DESCRIPTOR_LENGTH_MAX, description=description)
    for name, description in (
        ("statement_descriptor", "Text on the customer's statement."),
        ("statement_descriptor_suffix", "Text on the customer's statement, after the account's prefix."),
    )
}
_TRANSFER_GROUP = Text(description="Identifies the group of payments that this one belongs to.")
# Renamed in the newest version; older clients send the old name.
_PAYMENT_METHOD_TYPES = Array(
    Text(pattern="card", pattern_rule=f"must be card, because {_CARDS_ONLY} here"),
    items_max=20,
    description="Only `card`.",
)
_ON_CONFIRMATION: dict[str, Parameter] = {
    "allowed_payment_method_types": _PAYMENT_METHOD_TYPES,
    "amount_details": Unsupported(_NO_DETAILS),
    "capture_method": _CAPTURE_METHOD,
    "excluded_payment_method_types": Unsupported(_CARDS_ONLY),
    "expand": EXPAND,
    "hooks": Unsupported(_NO_HOOKS),
    "payment_details": Unsupported(_NO_DETAILS),
    "payment_method": _PAYMENT_METHOD,
    "payment_method_data": Unsupported(_NO_CARD_DATA),
    "payment_method_options": Unsupported("3-D Secure, instalments and other options are not supported"),
    "payment_method_types": _PAYMENT_METHOD_TYPES,
    "setup_future_usage": Unsupported("cards are saved by creating or updating a customer with a source"),
}
_CONFIRM: dict[str, Parameter] = {
    **_ON_CONFIRMATION,
    "confirmation_token": Unsupported(_NO_CARD_DATA),
    "error_on_requires_action": Boolean(description="Without effect: no action is ever required."),
    "mandate": Unsupported(_NO_MANDATES),
    "mandate_data": Unsupported(_NO_MANDATES),
    "off_session": _OFF_SESSION,
    "radar_options": Unsupported("risk rules are not supported"),
    "return_url": _RETURN_URL,
    "use_stripe_sdk": Boolean(description="Without effect: no action is ever required."),
}
_CREATE_AND_UPDATE: dict[str, Parameter] = {
    **_ON_CONFIRMATION,
    **_DESCRIPTORS,
    "application_fee_amount": Unsupported(NO_CONNECT),
    "customer": _CUSTOMER,
    "customer_account": Unsupported("pass 'customer'"),
    "description": _DESCRIPTION,
    "metadata": Metadata(),
    "payment_method_configuration": Unsupported(_CARDS_ONLY),
    "transfer_data": Unsupported(NO_CONNECT),
    "transfer_group": _TRANSFER_GROUP,
}
_AUTOMATIC_PAYMENT_METHODS = Hash(
    {
        "allow_redirects": Choice(("always", "never"), description="Without effect: there are no redirects."),
        "enabled": Boolean(required=True, description="Whether payment methods are chosen automatically."),
    },
    description="Only cards are ever chosen. Default: enabled, unless `payment_method_types` is set.",
)

CREATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        **_CONFIRM,
        "amount": Integer(required=True, description=_AMOUNT),
        "automatic_payment_methods": _AUTOMATIC_PAYMENT_METHODS,
        "confirm": Boolean(description="True: confirm at once. Default: false."),
        "confirmation_method": Choice(
            ("automatic", "manual"), description="How front ends may confirm. Default: automatic."
        ),
        "currency": charges.make_currency(required=True),
        "on_behalf_of": Unsupported(NO_CONNECT),
        "receipt_email": Text(description="Email address for the receipt."),
        "shipping": _SHIPPING,
    }
)

UPDATE = ParameterTable(
    {
        **_CREATE_AND_UPDATE,
        "amount": Integer(description=_AMOUNT),
        "currency": charges.make_currency(required=False),
        "receipt_email": Text(unsettable=True, description="Email address for the receipt."),
        "shipping": _UNSETTABLE_SHIPPING,
    }
)

CONFIRM = ParameterTable(
    {
        **_CONFIRM,
        "amount_to_confirm": Unsupported("the whole amount is confirmed"),
        "receipt_email": Text(unsettable=True, description="Email address for the receipt."),
        "shipping": _UNSETTABLE_SHIPPING,
    }
)

CAPTURE = ParameterTable(
    {
        **_DESCRIPTORS,
        "amount_details": Unsupported(_NO_DETAILS),
        "amount_to_capture": Integer(
            description="In minor units, at most amount_capturable. Default: all of it. The rest is released."
        ),
        "application_fee_amount": Unsupported(NO_CONNECT),
        "expand": EXPAND,
        "final_capture": Boolean(only_true=True, description="Always true: there is only one capture."),
        "hooks": Unsupported(_NO_HOOKS),
        "metadata": Metadata(),
        "payment_details": Unsupported(_NO_DETAILS),
        "transfer_data": Unsupported(NO_CONNECT),
    }
)

CANCEL = ParameterTable(
    {
        "cancellation_reason": Choice(CANCELLATION_REASONS, description="The reason for the cancellation."),
        "expand": EXPAND,
    }
)

RETRIEVE = ParameterTable(
    {
        "client_secret": Unsupported("only front ends would need it, and these cannot read payment intents"),
        "expand": EXPAND,
    }
)

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "customer": Text(description="Only payment intents of this customer."),
        "customer_account": Unsupported("pass 'customer'"),
    }
)
