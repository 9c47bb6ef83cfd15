"""Where the API retrieves an object: the path that a thin event's `related_object` has, by type of object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ledger.wire.published_types import PUBLISHED_TYPES_BY_NAME

_OWN_PATHS = (
    "accounts",
    "balance_transactions",
    "charges",
    "customers",
    "disputes",
    "file_links",
    "files",
    "payment_intents",
    "payment_methods",
    "refunds",
    "sources",
    "webhook_endpoints",
)
_TEMPLATES = {
    **{path.removesuffix("s"): f"/v1/{path}/{{id}}" for path in _OWN_PATHS},
    "balance": "/v1/balance",
    "balance_settings": "/v1/balance_settings",
    "bank_account": "/v1/customers/{customer}/sources/{id}",
    "capability": "/v1/accounts/{account}/capabilities/{id}",
    "card": "/v1/customers/{customer}/sources/{id}",
    "cash_balance": "/v1/customers/{customer}/cash_balance",
    "customer_balance_transaction": "/v1/customers/{customer}/balance_transactions/{id}",
    "customer_cash_balance_transaction": "/v1/customers/{customer}/cash_balance_transactions/{id}",
    "discount": "/v1/customers/{customer}/discount",
    "fee_refund": "/v1/application_fees/{fee}/refunds/{id}",
    "privacy.redaction_job": "/v1/privacy/redaction_jobs/{id}",
    "person": "/v1/accounts/{account}/persons/{id}",
    "tax.settings": "/v1/tax/settings",
    **{name: f"{row.url}/{{id}}" for name, row in PUBLISHED_TYPES_BY_NAME.items() if row.path},
}
"""Stripe's paths by the member `object`."""
SINGLETONS = frozenset(name for name, template in _TEMPLATES.items() if "{id}" not in template)
"""What an account or a customer has once: it is retrieved without an id."""


def make_object_url(object_type: str, members: Mapping[str, Any]) -> str | None:
    """The path of the object with these members: its id, and the ids of what it belongs to. None for a type
    that Stripe does not retrieve by a path of its own, and for an object without the ids that are in it."""
    template = _TEMPLATES.get(object_type)
    if template is None:
        return None
    ids = {name: quote(value, safe="") for name, value in members.items() if type(value) is str and value}
    try:
        return template.format_map(ids)
    except KeyError:
        return None
