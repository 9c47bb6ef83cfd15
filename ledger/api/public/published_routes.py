"""The operations on objects that other services publish (contract §2.13): reads only, for each type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ledger.api.public.operations import Operation
from ledger.queries import resources
from ledger.queries.list_query import ListQuery
from ledger.wire import tables
from ledger.wire.published_types import PUBLISHED_TYPES, PublishedType


def _build_operations(row: PublishedType, list_query: ListQuery) -> Iterator[Operation]:
    operation = partial(Operation, method="GET", resource=row.permission, expandable=row.object_type)
    name = row.object_type.replace("_", " ").replace(".", " ")
    one_path = f"{row.url}/{{{row.permission}}}"
    if row.lists:
        yield operation(
            path=row.url,
            summary=f"List published objects, newest first: {name}",
            table=tables.published.build_list_table(row),
            read=partial(resources.list_all, row, list_query),
        )
    if row.path:
        yield operation(
            path=one_path,
            summary=f"Retrieve a published object: {name}",
            table=tables.published.RETRIEVE,
            read=partial(resources.retrieve, row),
        )
    for member in row.parts:
        yield operation(
            path=f"{one_path}/{member}",
            summary=f"List {member} of a published object: {name}",
            table=tables.published.LIST_PART,
            read=partial(resources.list_part, row, member),
        )
    if row.of_customer is not None:
        yield operation(
            path=f"/v1/customers/{{customer}}/{row.of_customer}",
            summary=f"List a customer's published objects, newest first: {name}",
            table=tables.published.LIST_PART,
            read=partial(resources.list_of_customer, row, list_query),
        )
        yield operation(
            path=f"/v1/customers/{{customer}}/{row.of_customer}/{{{row.permission}}}",
            summary=f"Retrieve a customer's published object: {name}",
            table=tables.published.RETRIEVE,
            read=partial(resources.retrieve_of_customer, row),
        )


PUBLISHED = tuple(
    operation
    for row in PUBLISHED_TYPES
    for operation in _build_operations(row, resources.build_list_query(row))
)
