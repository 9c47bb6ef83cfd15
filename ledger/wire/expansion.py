"""Parses `expand[]` paths into a tree of the fields to expand (contract §1.8), before any object is read.

The tree contains only declared fields, at most four levels deep, whatever the caller sent. For a list it is
the tree of one item, without `data`. A field of the tree that is null, or whose object is unknown (a payment
intent that no service has published), stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ledger.errors import InvalidParameter
from ledger.wire import (
    accounts,
    balance,
    balance_transactions,
    charges,
    disputes,
    events,
    payment_methods,
    refunds,
)
from ledger.wire.aggregates import AGGREGATES, SHARED_OBJECT_TYPES
from ledger.wire.published_types import EXPANDABLE_MEMBERS, PUBLISHED_TYPES_BY_NAME

LEVELS_MAX = 4

ExpandTree = dict[str, "ExpandTree"]
"""Members to expand, nested: {"charge": {"customer": {}}}."""


class PublishedFields(dict[str, Any]):
    """The fields of an object of another service, which the ledger does not know: the same members hold ids
    at every level, and any other name is a part in which they may be."""

    def get(self, name: str, default: Any = None) -> Any:
        """The type of the object whose id the member holds; these fields for another member; None for ''."""
        return super().get(name, self if name else default)

    def __missing__(self, name: str) -> PublishedFields:
        return self


_PUBLISHED_FIELDS = PublishedFields(EXPANDABLE_MEMBERS)

# What the registry of aggregates does not contain: parts of objects, lists in objects, and derived objects.
_PARTS: dict[str, Mapping[str, Any]] = {
    "account": accounts.EXPANDABLE_FIELDS,
    "balance": balance.EXPANDABLE_FIELDS,
    "balance_transaction": balance_transactions.EXPANDABLE_FIELDS,
    "card": charges.CARD_EXPANDABLE_FIELDS,
    "cards": {"data": "card"},
    "cash_balance": {},
    "event": events.EXPANDABLE_FIELDS,
    "file_links": {"data": "file_link"},
    "payment_method": payment_methods.EXPANDABLE_FIELDS,
    "redaction_job_objects": {},
    "refunds": {"data": "refund"},
    # The source of a balance transaction is one of three objects; which one is known only when it is read.
    "source": disputes.EXPANDABLE_FIELDS | refunds.EXPANDABLE_FIELDS | charges.EXPANDABLE_FIELDS,
    "subscriptions": {"data": {}},
    "tax": {},
    "tax_ids": {"data": {}},
}
EXPANDABLE_FIELDS: dict[str, Mapping[str, Any]] = (
    _PARTS
    | {row.object_type: row.expandable_fields for row in AGGREGATES if row.object_type}
    | dict.fromkeys(PUBLISHED_TYPES_BY_NAME, _PUBLISHED_FIELDS)
)
"""By object type, what `expand[]` may name in it: an id that becomes an object, or a part of the object.

A field with a string contains the id of an object of that type; a type that is not a key here expands no
further. A field with a dict is a part that is always rendered, and the dict has the fields in it. The lists
`refunds` of a charge and `sources` of a customer are rendered only if expanded, and so are the `objects` of a
redaction job and the members of a customer for which there is nothing here: `subscriptions`, `tax`,
`tax_ids`, `cash_balance`.
"""

READ_RESOURCES: dict[str, tuple[str, ...]] = {
    "balance_transaction": ("balance_transaction",),
    "card": ("customer",),
    "cards": ("customer",),
    "cash_balance": ("customer",),
    "file_links": ("file",),
    "payment_method": ("payment_method",),
    "redaction_job_objects": ("redaction_job",),
    "refunds": ("charge",),
    "source": ("charge", "dispute"),
    "subscriptions": ("customer",),
    "tax": ("customer",),
    "tax_ids": ("customer",),
} | {row.object_type: (row.permission,) for row in AGGREGATES if row.object_type and row.permission}
"""By type of the ledger's own objects: a restricted key sees one with `rak_<resource>_read` (contract
§1.2)."""
PUBLISHED_READ_RESOURCES: dict[str, tuple[str, ...]] = {
    name: (row.permission,) for name, row in PUBLISHED_TYPES_BY_NAME.items()
}
"""The same for the objects of other services that have a route of their own."""
EXTERNAL_READ_RESOURCES = ("event",)
"""The same for all other objects of other services, which are otherwise read as Events."""


def parse_expand(paths: Iterable[str], object_type: str, *, in_list: bool) -> ExpandTree:
    """The tree of `paths` for an answer of `object_type` (a key of EXPANDABLE_FIELDS), or a list of such.

    `["charge.customer"]` becomes `{"charge": {"customer": {}}}`. Raises InvalidParameter for a path that is
    too deep or names a field that cannot be expanded.
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
        for segment in segments[:expanded_depth]:  # a part at the end of a path is rendered anyway
            node = node.setdefault(segment, {})
    return tree


def collect_read_resources(tree: ExpandTree, object_type: str) -> set[str]:
    """The resources that a restricted key must be able to read to expand `tree` in an `object_type`."""
    return _collect_read_resources(tree, EXPANDABLE_FIELDS[object_type])


def _collect_read_resources(tree: ExpandTree, fields: Mapping[str, Any]) -> set[str]:
    resources: set[str] = set()
    for name, subtree in tree.items():
        field = fields[name]
        if type(field) is str:
            resources.update(
                READ_RESOURCES.get(field) or PUBLISHED_READ_RESOURCES.get(field, EXTERNAL_READ_RESOURCES)
            )
            field = EXPANDABLE_FIELDS.get(field, _NO_FIELDS)
        resources |= _collect_read_resources(subtree, field)
    return resources


_NO_FIELDS: Mapping[str, Any] = {}


def _find_external_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        if type(field) is dict:
            yield from _find_external_fields(field)
        elif field not in READ_RESOURCES or field in (*SHARED_OBJECT_TYPES, "payment_method"):
            yield name


EXTERNAL_FIELDS = frozenset(
    name for fields in EXPANDABLE_FIELDS.values() for name in _find_external_fields(fields)
)
"""Fields that may contain ids of objects of other services. Some of them accept any id from a caller. A
payment method is a card, which `objects` finds in what holds it, or another service has published it; a
payment intent is the ledger's own or published."""
