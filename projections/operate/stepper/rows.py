"""The rows of a projection before and after one event: its stream, folded in memory up to it.

The fold is the one of the engine's batches, so what it makes is what the engine would write. It is made twice
for a caller who may not see personal data, the second time as if that had been erased: the first tells what
changed, the second what is shown of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.audit.differences import Views, find_differences
from ledger.store.log import Recorded
from projections.engine.batch import BatchFold, Target
from projections.projection import ParkedStream, Projection, RowUpsert

SLICE_EVENTS = 64
UNCHANGED_ROWS_MAX = 20
"""Rows that are shown although the event does not change them."""

Rows = Mapping[Any, RowUpsert]
"""The rows by key."""


class FoldedRows(NamedTuple):
    """The rows that one stream makes.

    before, after  without and with its last event
    parked_before  where an earlier event parked the stream: its later ones are not applied
    parked         why the last event parks it
    """

    before: Rows
    after: Rows
    parked_before: ParkedStream | None = None
    parked: ParkedStream | None = None


class Change(NamedTuple):
    """A value that the event changes: `path` is in bracket form, and begins with the column."""

    key: str
    column: str
    path: str
    before: Any
    after: Any
    withheld: bool

    def to_json(self) -> dict[str, Any]:
        """As in answers: `personal_data` marks a change whose values are withheld."""
        shown = self._asdict()
        del shown["withheld"]
        return {**shown, "personal_data": True} if self.withheld else shown


async def fold_rows(projection: Projection, recorded: Sequence[Recorded]) -> FoldedRows:
    """The rows that the events of one whole stream make, before the last event and after it. A day that is no
    longer kept is not left out."""
    target = Target(projection, 0)
    fold = BatchFold([target])
    for start in range(0, len(recorded) - 1, SLICE_EVENTS):
        fold.apply_events(recorded[start : min(start + SLICE_EVENTS, len(recorded) - 1)])
        await asyncio.sleep(0)
    before = _collect(target)
    if target.newly_parked:
        return FoldedRows(before, before, parked_before=target.newly_parked[0])
    fold.apply_events(recorded[-1:])
    parked = target.newly_parked[0] if target.newly_parked else None
    return FoldedRows(before, _collect(target), parked=parked)


def list_changes(projection: Projection, folded: FoldedRows, visible: FoldedRows) -> list[Change]:
    """What the event changes in each row. `visible` is the same fold without what the caller may not see."""
    changes = []
    for key in list_changed_keys(folded):
        whole, seen = ((_render(projection, each, key)) for each in (folded, visible))
        before = Views(whole[0] or {}, seen[0] or {})
        after = Views(whole[1] or {}, seen[1] or {})
        if folded is visible:
            before, after = Views(before.whole, before.whole), Views(after.whole, after.whole)
        changes += [
            Change(str(key), each.path.partition("[")[0], *each) for each in find_differences(before, after)
        ]
    return changes


def list_changed_keys(folded: FoldedRows) -> list[Any]:
    """The keys of the rows that the event makes or changes."""
    return [key for key, upsert in folded.after.items() if folded.before.get(key) != upsert]


def render_rows(projection: Projection, folded: FoldedRows, rows: Rows) -> list[dict[str, Any]]:
    """Rows by column, those that the event changes first; of the others the last UNCHANGED_ROWS_MAX."""
    changed = [key for key in list_changed_keys(folded) if key in rows]
    unchanged = [key for key in rows if key not in set(changed)]
    shown = [*changed, *unchanged[::-1][:UNCHANGED_ROWS_MAX]]
    return [render_row(projection, rows[key]) for key in shown]


def render_row(projection: Projection, upsert: RowUpsert) -> dict[str, Any]:
    """The values of a row by column, documents decoded."""
    values: dict[str, Any] = {}
    for column, value in zip(projection.columns, upsert.row, strict=True):
        if column.type == "json":
            value = msgspec.json.decode(msgspec.json.encode(value))
        elif column.type == "document" and value is not None:
            value = msgspec.json.decode(value)
        values[column.name] = value
    return values | {"position": upsert.position}


def _render(
    projection: Projection, folded: FoldedRows, key: Any
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """One row before and after the event."""
    before, after = folded.before.get(key), folded.after.get(key)
    return (
        None if before is None else render_row(projection, before),
        None if after is None else render_row(projection, after),
    )


def _collect(target: Target) -> dict[Any, RowUpsert]:
    upserts = target.projection.collect_upserts(target.event_rows)
    return {upsert.row[0]: upsert for upsert in upserts}
