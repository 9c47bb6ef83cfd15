"""What a projection is: a name, the aggregates it follows, and a pure handler that derives rows.

`apply` sees each recorded event with its aggregate before and after it, and gives the rows that it
changes, each as its whole new value. Nothing else may enter a row, so the same log always gives the same
rows, however it was cut into batches (README, invariant 4). The engine knows no view; a view knows no engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain.event import DomainEvent
from ledger.store.codec import State
from ledger.store.log import Recorded

Row = tuple[Any, ...]
"""A row's values; the first is its key."""


class Change(NamedTuple):
    """A row to insert or replace. `position` is its first change's; a row that is there keeps its own."""

    position: int
    row: Row


class Step(NamedTuple):
    """A row as one recorded event left it."""

    position: int
    stream: str
    row: Row


class Parking(NamedTuple):
    """A stream left out from the event at `position` on. `error` holds no value of any event."""

    stream: str
    position: int
    error: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A read model.

    name        also the name of its table in schema `projections`, a parent of one partition a generation
    aggregates  domain modules; all events of theirs are handed to `apply`
    apply       (aggregate before, recorded event, aggregate after) -> rows changed
    write       puts changes, each key once, into a generation, in the transaction under way
    days_kept   rows lie in partitions by UTC day (of `created`), dropped when that day is so long past;
                None: rows stay
    """

    name: str
    aggregates: tuple[ModuleType, ...]
    apply: Callable[[State | None, Recorded, State], Iterable[Row]]
    write: Callable[[AsyncConnection[TupleRow], int, Sequence[Change]], Awaitable[None]]
    days_kept: int | None = None
    follows: frozenset[type[DomainEvent]] = field(init=False)

    def __post_init__(self) -> None:
        events = frozenset(event for module in self.aggregates for event in module.EVENTS)
        object.__setattr__(self, "follows", events)


def merged(steps: Iterable[Step]) -> list[Change]:
    """Each key once: its last row, at the position of its first."""
    changes: dict[Any, Change] = {}
    for position, _, row in steps:
        known = changes.get(row[0])
        changes[row[0]] = Change(known.position if known else position, row)
    return list(changes.values())


def described(error: BaseException) -> str:
    """What went wrong and where, without the error's text: that may quote personal data."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        diag = error.diag
        place = ".".join(part for part in (diag.table_name, diag.column_name, diag.constraint_name) if part)
        return f"{type(error).__name__} ({error.sqlstate})" + (f" at {place}" if place else "")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    module = trace.tb_frame.f_globals.get("__name__", "?")
    return f"{type(error).__name__} at {module}.{code.co_qualname}:{trace.tb_lineno}"
