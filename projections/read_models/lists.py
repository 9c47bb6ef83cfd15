"""The projections behind list endpoints: one row an object, with the aggregate as `state`.

`state` is the folded aggregate as JSON, after the last event applied; the functions that render one object
render a list from it. The columns before it are what lists filter and order by: attributes of the
aggregate, by their names. A deleted customer keeps its row, because a cursor may name it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from types import ModuleType
from typing import Any

from ledger.domain import (
    charge,
    customer,
    dispute,
    file,
    file_link,
    legal_hold,
    redaction_job,
    refund,
    resource,
    webhook_endpoint,
)
from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.domain.redaction.documents import REDACTED
from ledger.domain.resource import Resource
from ledger.store.log import Recorded
from ledger.wire.published_types import list_filter_texts
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row

_STATE = Column("state", "json", compressed=True, sealed=True)


def _create_list(
    name: str,
    aggregate: ModuleType,
    *columns: Column,
    mutable_columns: Sequence[str] = (),
    shape: int = 1,
    state: Column = _STATE,
    derived: Sequence[tuple[Column, Callable[[Any], Any]]] = (),
) -> Projection:
    """A list with `columns` besides those of every list; `mutable_columns` and `state` may change. `derived`:
    further columns that may change, with the function that makes their value of the aggregate."""
    columns = (*OBJECT_COLUMNS, *columns)
    get_values = attrgetter(*(column.name for column in columns))

    def apply_object(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
        return [(*get_values(after), *[derive(after) for _, derive in derived], after)]

    derived_columns = [column for column, _ in derived]
    return Projection(
        name=name,
        aggregates=(aggregate,),
        columns=(*columns, *derived_columns, state),
        apply=apply_object,
        mutable_columns=(*mutable_columns, *[column.name for column in derived_columns], "state"),
        shape=shape,
    )


def _list_filter_texts(state: Resource) -> list[str]:
    return list_filter_texts(state.type, state.object)


def _find_email(state: Customer) -> str | None:
    """None once it is erased: nobody is found by what stands in its place."""
    return None if state.email == REDACTED else state.email


CUSTOMERS = _create_list(
    "customers",
    customer,
    Column("deleted", "boolean"),
    mutable_columns=("deleted",),
    derived=[(Column("email", "text", hashed=True), _find_email)],
)
CHARGES = _create_list(
    "charges",
    charge,
    Column("customer", "text"),
    Column("payment_intent", "text"),
    Column("transfer_group", "text"),
    mutable_columns=("customer", "payment_intent", "transfer_group"),
)
DISPUTES = _create_list(
    "disputes",
    dispute,
    Column("charge", "text"),
    Column("payment_intent", "text"),
    mutable_columns=("payment_intent",),
)
REFUNDS = _create_list(
    "refunds",
    refund,
    Column("charge", "text"),
    Column("payment_intent", "text"),
)
FILES = _create_list(
    "files",
    file,
    Column("purpose", "text"),
)
FILE_LINKS = _create_list(
    "file_links",
    file_link,
    Column("file", "text"),
    Column("expires_at", "bigint"),
    mutable_columns=("expires_at",),
)
WEBHOOK_ENDPOINTS = _create_list(
    "webhook_endpoints",
    webhook_endpoint,
    Column("deleted", "boolean"),
    Column("thin", "boolean"),
    mutable_columns=("deleted",),
)
REDACTION_JOBS = _create_list(
    "redaction_jobs",
    redaction_job,
    Column("status", "text"),
    mutable_columns=("status",),
)
LEGAL_HOLDS = _create_list(
    "legal_holds",
    legal_hold,
    Column("object_id", "text"),
    Column("active", "boolean"),
    mutable_columns=("active",),
)
RESOURCES = _create_list(
    "resources",
    resource,
    Column("type", "text"),
    Column("deleted", "boolean"),
    Column("customer", "text"),
    Column("subscription", "text"),
    Column("status", "text"),
    # Its owner may publish a resource again with any content.
    mutable_columns=("created", "deleted", "customer", "subscription", "status"),
    shape=2,
    # Lists of the releases before filter by members of the state, in SQL.
    state=_STATE._replace(compressed=False),
    derived=[(Column("members", "hashes", since_shape=2), _list_filter_texts)],
)
