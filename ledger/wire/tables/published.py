"""The parameters of the operations on objects that other services publish (contract §2.13).

A value that no published object has is not an error: it matches nothing.
"""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, ParameterTable, TimestampFilter, Unsupported
from ledger.wire.published_types import ListFilter, PublishedType
from ledger.wire.scalars import Boolean, Parameter, Text

RETRIEVE = ParameterTable({"expand": EXPAND})
LIST_PART = ParameterTable(PAGINATION)

_NOT_SERVED = "lists of published objects are filtered by single values only"


def build_list_table(published_type: PublishedType) -> ParameterTable:
    """The parameters of the list of a type."""
    members: dict[str, Parameter] = dict(PAGINATION)
    if published_type.has_created_filter:
        members["created"] = TimestampFilter()
    for list_filter in published_type.filters:
        members[list_filter.name] = _build_parameter(list_filter)
    return ParameterTable(members)


def _build_parameter(list_filter: ListFilter) -> Parameter:
    if not list_filter.served:
        return Unsupported(_NOT_SERVED)
    description = f"Only objects with this value of `{list_filter.name}`."
    if list_filter.boolean:
        return Boolean(required=list_filter.required, description=description)
    return Text(required=list_filter.required, description=description)
