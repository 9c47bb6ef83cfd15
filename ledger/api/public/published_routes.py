"""The operations on objects that other services publish (contract §2.13): reads only, for each type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ledger.api.public.operations import Operation
from ledger.queries import resources
from ledger.queries.list_query import ListQuery
from ledger.wire import tables
from ledger.wire.published_types import PUBLISHED_TYPES, PUBLISHED_TYPES_BY_NAME, PublishedType

_CUSTOMER_LISTS = {
    "subscriptions": "subscription",
    "tax_ids": "tax_id",
}
"""By segment, the types that are listed below a customer."""


def _build_operations(row: PublishedType, list_query: ListQuery) -> Iterator[Operation]:
    operation = partial(Operation, method="GET", resource=row.permission, expandable=row.object_type)
    name = row.object_type.replace("_", " ").replace(".", " ")
    if row.lists:
        yield operation(
            path=row.url,
            summary=f"List published objects, newest first: {name}",
            table=tables.published.build_list_table(row),
            read=partial(resources.list_all, row, list_query),
        )
    yield operation(
        path=f"{row.url}/{{id}}",
        summary=f"Retrieve a published object: {name}",
        table=tables.published.RETRIEVE,
        read=partial(resources.retrieve, row),
    )
    for member in row.parts:
        yield operation(
            path=f"{row.url}/{{id}}/{member}",
            summary=f"List {member} of a published object: {name}",
            table=tables.published.LIST_PART,
            read=partial(resources.list_part, row, member),
        )
    for segment, object_type in _CUSTOMER_LISTS.items():
        if object_type == row.object_type:
            yield operation(
                path=f"/v1/customers/{{customer}}/{segment}",
                summary=f"List a customer's published objects, newest first: {name}",
                table=tables.published.LIST_PART,
                read=partial(resources.list_of_customer, row, list_query, segment),
            )


PUBLISHED = tuple(
    operation
    for row in PUBLISHED_TYPES
    for operation in _build_operations(row, resources.build_list_query(row))
)
assert set(_CUSTOMER_LISTS.values()) <= PUBLISHED_TYPES_BY_NAME.keys()
