"""What a projection is: a name, the aggregates it follows, and a pure handler that derives rows.

`apply` gets each recorded event with its aggregate before and after it, and returns the rows that change,
each with all its values. Rows depend on nothing else, and all rows of one key come from one stream: so the
same log always gives the same rows, however it was divided into batches or among workers (README,
invariant 4). The engine imports no projection; projections import no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal, NamedTuple

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.errors import HANDLER_RAISED, parse_reason
from ledger.store.log import Recorded

Row = tuple[Any, ...]
"""A row's values, in the order of the projection's columns; the first is its key."""


class Column(NamedTuple):
    """A column of a projection's table.

    type         `json`: a value that is encoded into a bytea when it is written, so that only the last of
                 many changes in a batch is encoded. `document`: bytes that are JSON already, stored as text.
                 `hashes`: texts by which rows are found, stored as their keyed hashes, one after another in a
                 bytea; null while older releases may write rows
    since_shape  the first shape of the projection that has the column
    compressed   whether JSON is stored compressed (`ledger.compression`); not where an older release looks
                 into it by SQL
    sealed       whether JSON is sealed for the row's subject, once every release that may run reads that
    hashed       whether a text is stored as its keyed hash (`ledger.keys.blind_index`) from then on
    is_personal  whether it follows from personal data, of which an erasure leaves another value, or for a
                 moment none, though no later event changes it; true of each `json`, `document` and `hashes`
    """

    name: str
    type: Literal["text", "boolean", "bigint", "integer", "smallint", "json", "document", "hashes"]
    since_shape: int = 1
    compressed: bool = False
    sealed: bool = False
    hashed: bool = False
    is_personal: bool = False


OBJECT_COLUMNS = (
    Column("id", "text"),
    Column("account", "text"),
    Column("livemode", "boolean"),
    Column("created", "bigint"),
)
"""The first columns of a row that represents one public object."""


class RowUpsert(NamedTuple):
    """A row to insert or update, the position of its first change, which an update keeps, and the subject for
    which its documents are sealed."""

    position: int
    row: Row
    subject: str


class EventRows(msgspec.Struct, frozen=True, gc=False):
    """The rows that one recorded event changed, as they are after it; `subject` as in RowUpsert."""

    position: int
    stream: str
    rows: Sequence[Row]
    subject: str


class ParkedStream(NamedTuple):
    """A stream of which a generation applies no event from `position` on. `error` quotes no event, and
    `topic` is that of the event at `position`; None while it is not known."""

    stream: str
    position: int
    error: str
    topic: str | None = None

    @property
    def reason(self) -> str:
        """Why, as a code: see `parse_reason`."""
        return parse_reason(self.error)

    @property
    def is_unreadable(self) -> bool:
        """Whether a record cannot be read, so that another release, another key, or the mended record may
        cure it. Otherwise the handler raised."""
        return self.reason != HANDLER_RAISED


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A read model.

    name                  also names its table in schema `projections`, which has one partition per generation
    aggregates            domain modules; `apply` gets all their events
    columns               of its table beside `generation` and `position`, the key first
    apply                 (aggregate before, recorded event, aggregate after) -> the rows that change
    mutable_columns       columns that a later event may change; if empty, rows are never updated
    shape                 raised with each change of what rows hold; a release does not write later shapes
    has_personal_rows     whether a row is there follows from personal data: events make none from the request
                          of an erasure on until it is known what stays
    parks_unknown         parks the streams of aggregates that this release does not know. Other projections
                          pass over them: none of their rows is derived from these aggregates
    retention_days        rows are partitioned by the UTC day of `created`, and a day is dropped when this
                          many days have passed since; None: rows are kept
    constraint_check_sql  a statement that makes the database check deferred constraints at once
    violation_query       a query by %(generation)s for rows that a constraint would have refused; for rows
                          that a rebuild wrote, unchecked
    """

    name: str
    aggregates: tuple[ModuleType, ...]
    columns: tuple[Column, ...]
    apply: Callable[[State | None, Recorded, State], Sequence[Row]]
    mutable_columns: tuple[str, ...] = ()
    shape: int = 1
    has_personal_rows: bool = False
    parks_unknown: bool = False
    retention_days: int | None = None
    constraint_check_sql: str | None = None
    violation_query: str | None = None
    event_classes: frozenset[type[DomainEvent]] = field(init=False)

    def __post_init__(self) -> None:
        event_classes = frozenset(event for module in self.aggregates for event in module.EVENTS)
        object.__setattr__(self, "event_classes", event_classes)

    def with_shape(self, shape: int) -> Projection:
        """This projection with only the columns that rows of `shape` have."""
        return replace(self, columns=tuple(column for column in self.columns if column.since_shape <= shape))

    def collect_upserts(self, event_rows: Iterable[EventRows]) -> list[RowUpsert]:
        """The last row of each key, with the position of the key's first. An immutable row has only one."""
        if not self.mutable_columns:
            return [RowUpsert(item.position, row, item.subject) for item in event_rows for row in item.rows]
        positions: dict[Any, int] = {}
        last_rows: dict[Any, tuple[Row, str]] = {}
        for item in event_rows:
            for row in item.rows:
                positions.setdefault(row[0], item.position)
                last_rows[row[0]] = (row, item.subject)
        return [RowUpsert(positions[key], row, subject) for key, (row, subject) in last_rows.items()]
