"""The JSON of customers (contract §2.5)."""

from __future__ import annotations

from typing import Any

from ledger.domain.customer import Customer
from ledger.wire.json_values import Json, make_list_object
from ledger.wire.schemas.customers import CUSTOMER
from ledger.wire.schemas.fields import make_template

EXPANDABLE_FIELDS: dict[str, Any] = {
    "address": {},
    "cash_balance": "cash_balance",
    "default_source": "card",
    "discount": {},
    "invoice_settings": {"default_payment_method": "payment_method"},
    "shipping": {},
    "sources": "cards",
    "subscriptions": "subscriptions",
    "tax": "tax",
    "tax_ids": "tax_ids",
    "test_clock": "test_clock",
}
_TAX: Json = {
    "automatic_tax": "unrecognized_location",
    "ip_address": None,
    "location": None,
    "provider": "stripe",
}
# The renderer fills in a copy of the template, for the reason given in `charges`.
_CUSTOMER_TEMPLATE = make_template(CUSTOMER, delinquent=False)


def render_customer(state: Customer) -> Json:
    """A customer in its last state, even if it is deleted: its `customer.deleted` Event has it."""
    rendered = _CUSTOMER_TEMPLATE.copy()
    rendered["id"] = state.id
    rendered["address"] = state.address
    rendered["balance"] = state.balance
    rendered["business_name"] = state.business_name
    rendered["created"] = state.created
    rendered["default_source"] = state.default_source
    rendered["description"] = state.description
    rendered["email"] = state.email
    rendered["individual_name"] = state.individual_name
    rendered["invoice_prefix"] = state.invoice_prefix
    rendered["invoice_settings"] = state.invoice_settings
    rendered["livemode"] = state.livemode
    rendered["metadata"] = state.metadata
    rendered["name"] = state.name
    rendered["next_invoice_sequence"] = state.next_invoice_sequence
    rendered["phone"] = state.phone
    rendered["preferred_locales"] = state.preferred_locales
    rendered["shipping"] = state.shipping
    rendered["tax_exempt"] = state.tax_exempt
    return rendered


def render_unused_member(state: Customer, member: str) -> Json | None:
    """A member that only `expand[]` shows, of what customers do not have here: `subscriptions` and `tax_ids`
    are empty lists, the location for `tax` is unknown, `cash_balance` is None."""
    match member:
        case "cash_balance":
            return None
        case "tax":
            return dict(_TAX)
        case _:
            return make_list_object([], f"/v1/customers/{state.id}/{member}")
