"""`expand[]` paths to a tree of what to show whole (contract §1.8), checked before anything is looked up.

Guarantees: the tree holds only fields that are declared here, at most four levels deep, whatever the
caller sent; for a list it speaks of one item (the `data.` is gone). A field in the tree that is null, or
whose object is not here (a payment intent that nobody has published), stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ledger.domain.evidence import FILE_FIELDS
from ledger.errors import InvalidParameter

LEVELS_MAX = 4

ExpandTree = dict[str, "ExpandTree"]

EXPANDABLE_FIELDS: dict[str, dict[str, Any]] = {
    "balance_transaction": {"fee_details": {}, "source": "source"},
    "card": {"customer": "customer"},
    "cards": {"data": "card"},
    "charge": {
        "application": "application",
        "application_fee": "application_fee",
        "balance_transaction": "balance_transaction",
        "billing_details": {},
        "customer": "customer",
        "failure_balance_transaction": "balance_transaction",
        "fraud_details": {},
        "on_behalf_of": "account",
        "outcome": {},
        "payment_intent": "payment_intent",
        "payment_method_details": {},
        "refunds": "refunds",
        "review": "review",
        "shipping": {},
        "source": {},
        "source_transfer": "transfer",
        "transfer": "transfer",
        "transfer_data": {"destination": "account"},
    },
    "customer": {
        "address": {},
        "default_source": "card",
        "discount": {},
        "invoice_settings": {"default_payment_method": "payment_method"},
        "shipping": {},
        "sources": "cards",
        "test_clock": "test_clock",
    },
    "customer_session": {"components": {}, "customer": "customer"},
    "dispute": {
        "balance_transactions": {"fee_details": {}, "source": "dispute"},
        "charge": "charge",
        "evidence": dict.fromkeys(FILE_FIELDS, "file"),
        "evidence_details": {},
        "payment_intent": "payment_intent",
        "payment_method_details": {},
    },
    "event": {"data": {}, "request": {}},
    "file": {"links": "file_links"},
    "file_link": {"file": "file"},
    "file_links": {"data": "file_link"},
    "payment_method": {"customer": "customer"},
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "customer": "customer",
        "destination_details": {},
        "payment_intent": "payment_intent",
        "source_transfer_reversal": "transfer_reversal",
        "transfer_reversal": "transfer_reversal",
    },
    "refunds": {"data": "refund"},
    "webhook_endpoint": {},
}
EXPANDABLE_FIELDS["source"] = (
    EXPANDABLE_FIELDS["dispute"] | EXPANDABLE_FIELDS["refund"] | EXPANDABLE_FIELDS["charge"]
)
"""By object: text is a field that holds the id of such an object (one not listed here expands no further);
a dict is a part that is always shown whole, with its own members. `refunds` and the customer's `sources`
are shown only when expanded. An event's `data` is as it was, and expands no further. The source of a
balance transaction is one of three kinds, known only when it is looked up."""

READ_RESOURCES: dict[str, tuple[str, ...]] = {
    "balance_transaction": ("balance_transaction",),
    "card": ("customer",),
    "cards": ("customer",),
    "charge": ("charge",),
    "customer": ("customer",),
    "dispute": ("dispute",),
    "file": ("file",),
    "file_link": ("file",),
    "file_links": ("file",),
    "refund": ("charge",),
    "refunds": ("charge",),
    "source": ("charge", "dispute"),
}
"""By kind of object kept here: the resources whose `rak_<resource>_read` shows it (contract §1.2)."""
EXTERNAL_READ_RESOURCES = ("event",)
"""The same for what other services publish, which else is read in Events."""


def parse_expand(paths: Iterable[str], object_type: str, *, in_list: bool) -> ExpandTree:
    """The tree of `paths`, for an answer that is an `object_type` (a key of EXPANDABLE), or a list of them.

    `["charge.customer"]` gives `{"charge": {"customer": {}}}`. Raises InvalidParameter for a path that
    is too deep or leads to a field that cannot be expanded.
    """
    tree: ExpandTree = {}
    for path in paths:
        segments = path.split(".")
        if len(segments) > LEVELS_MAX:
            raise InvalidParameter(
                f"You cannot expand more than {LEVELS_MAX} levels of a property. Property: {path}"
            )
        if in_list and segments.pop(0) != "data":
            raise InvalidParameter(
                f"This property cannot be expanded ({path}). "
                f"You may want to try expanding 'data.{path}' instead."
            )
        fields = EXPANDABLE_FIELDS[object_type]
        expanded_depth = 0
        for level, segment in enumerate(segments, start=1):
            field = fields.get(segment)
            if field is None:
                raise InvalidParameter(f"This property cannot be expanded ({path}).")
            if type(field) is str:
                fields = EXPANDABLE_FIELDS.get(field, _NO_FIELDS)
                expanded_depth = level
            else:
                fields = field
        node = tree
        for segment in segments[:expanded_depth]:  # a path that ends in a part asks for nothing new
            node = node.setdefault(segment, {})
    return tree


def collect_read_resources(tree: ExpandTree, object_type: str) -> set[str]:
    """The resources that a restricted key must be able to read for an `object_type` to show `tree` whole."""
    return _collect_read_resources(tree, EXPANDABLE_FIELDS[object_type])


def _collect_read_resources(tree: ExpandTree, fields: dict[str, Any]) -> set[str]:
    resources: set[str] = set()
    for name, subtree in tree.items():
        field = fields[name]
        if type(field) is str:
            resources.update(READ_RESOURCES.get(field, EXTERNAL_READ_RESOURCES))
            field = EXPANDABLE_FIELDS.get(field, _NO_FIELDS)
        resources |= _collect_read_resources(subtree, field)
    return resources


_NO_FIELDS: dict[str, Any] = {}


def _find_external_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        if type(field) is dict:
            yield from _find_external_fields(field)
        elif field not in READ_RESOURCES:
            yield name


EXTERNAL_FIELDS = frozenset(
    name for fields in EXPANDABLE_FIELDS.values() for name in _find_external_fields(fields)
)
"""Fields that name objects of other services. A caller may write any id into some of them."""
