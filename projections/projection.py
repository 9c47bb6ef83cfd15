"""What a projection is: a name, the aggregates it follows, and a pure handler that derives rows.

`apply` sees each recorded event with its aggregate before and after it, and gives the rows that it
changes, each as its whole new value. Nothing else may enter a row, and all rows of one key come from one
stream: so the same log always gives the same rows, however it was cut into batches or shared out among
workers (README, invariant 4). The engine knows no view; a view knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal, NamedTuple

import psycopg

from ledger.domain.event import DomainEvent
from ledger.store.codec import State
from ledger.store.log import Recorded

Row = tuple[Any, ...]
"""A row's values, in the order of the projection's columns; the first is its key."""


class Column(NamedTuple):
    """A column of a view. A `json` value is encoded when it is written, into a bytea: of many changes in a
    batch only the last is. A `document` is JSON already, as bytes, and stored as text. `since_shape`: the
    first shape that has it."""

    name: str
    type: Literal["text", "boolean", "bigint", "smallint", "json", "document"]
    since_shape: int = 1


RowUpsert = tuple[int, Row]
"""A row to insert or replace, after the position of its first change; a row that is there keeps its own."""


class EventRows(NamedTuple):
    """The rows that one recorded event changed, as it left them."""

    position: int
    stream: str
    rows: Sequence[Row]


class ParkedStream(NamedTuple):
    """A stream left out from the event at `position` on. `error` holds no value of any event."""

    stream: str
    position: int
    error: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A read model.

    name        also the name of its table in schema `projections`, a parent of one partition a generation
    aggregates  domain modules; all events of theirs are handed to `apply`
    columns     what a row holds beside `generation` and `position`, its key first
    apply       (aggregate before, recorded event, aggregate after) -> rows changed
    changing    columns that a later event may change; none: rows are only ever inserted
    shape       raised with every change of what rows hold: a release leaves later shapes alone
    days_kept   rows lie in partitions by UTC day (of `created`), dropped when that day is so long past;
                None: rows stay
    checked     a statement that brings forward what the database checks of rows at the commit
    broken      a query by %(generation)s for rows that must not be, of what was written unchecked
    """

    name: str
    aggregates: tuple[ModuleType, ...]
    columns: tuple[Column, ...]
    apply: Callable[[State | None, Recorded, State], Sequence[Row]]
    mutable_columns: tuple[str, ...] = ()
    shape: int = 1
    retention_days: int | None = None
    constraint_check_sql: str | None = None
    violation_query: str | None = None
    event_classes: frozenset[type[DomainEvent]] = field(init=False)

    def __post_init__(self) -> None:
        event_classes = frozenset(event for module in self.aggregates for event in module.EVENTS)
        object.__setattr__(self, "event_classes", event_classes)

    def with_shape(self, shape: int) -> Projection:
        """The same with the columns that rows of this shape have been given."""
        return replace(self, columns=tuple(column for column in self.columns if column.since_shape <= shape))

    def collect_upserts(self, event_rows: Iterable[EventRows]) -> list[RowUpsert]:
        """Each key once: its last row, at the position of its first. What never changes comes but once."""
        if not self.mutable_columns:
            return [(position, row) for position, _, rows in event_rows for row in rows]
        positions: dict[Any, int] = {}
        last_rows: dict[Any, Row] = {}
        for position, _, rows in event_rows:
            for row in rows:
                positions.setdefault(row[0], position)
                last_rows[row[0]] = row
        return list(zip(positions.values(), last_rows.values(), strict=True))


def describe_error(error: BaseException) -> str:
    """What went wrong and where, without the error's text: that may quote personal data."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        diag = error.diag
        location = ".".join(
            part for part in (diag.table_name, diag.column_name, diag.constraint_name) if part
        )
        return f"{type(error).__name__} ({error.sqlstate})" + (f" at {location}" if location else "")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    module = trace.tb_frame.f_globals.get("__name__", "?")
    return f"{type(error).__name__} at {module}.{code.co_qualname}:{trace.tb_lineno}"
