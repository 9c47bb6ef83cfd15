"""Whether the live rows are those that a step makes, as long as no later event can have changed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.sql import SQL, Identifier

from ledger.postgres.connections import Conn, fetch_one
from projections.engine import partitions
from projections.operate.stepper.rows import FoldedRows
from projections.projection import Projection
from projections.rebuild.comparison import (
    Difference,
    compared_columns,
    describe_difference,
    differences_json,
)
from projections.stored_rows import RowReader, are_equal

LIVE_STATES = (
    "equal", "differing", "later", "behind", "parked", "parked_here", "expired", "other_shape", "none",
)  # fmt: skip
ROWS_MAX = 100
"""Rows of one step that are compared."""

_LIVE = """
SELECT l.generation, c.position, c.shape, p.position,
       (SELECT min(e.notification_id + 0) FROM ledger.events e
        WHERE e.originator_id = %(stream)s AND e.notification_id + 0 > %(position)s
        AND e.notification_id + 0 <= c.position AND e.topic <> ALL (%(ignored)s::text[]))
FROM projections.live l
JOIN projections.checkpoints c USING (projection, generation)
LEFT JOIN projections.parked p
    ON p.projection = l.projection AND p.generation = l.generation AND p.stream = %(stream)s
WHERE l.projection = %(projection)s
"""
_SELECT_ROWS = "SELECT {columns} FROM {table} WHERE generation = {number} AND {key} = ANY (%(keys)s)"


class LiveRows(NamedTuple):
    """How the live rows compare with those of a step.

    state        equal, differing, or why they cannot be compared
    generation   the live one; None: there is none
    position     its checkpoint
    message      the state as a sentence
    differences  the rows that differ, without personal data
    """

    state: str
    generation: int | None
    position: int | None
    message: str
    differences: Sequence[Difference] = ()

    def to_json(self) -> dict[str, Any]:
        """As in answers: of a difference, `expected` is what the step makes."""
        differences = [
            {"key": each["key"], "live": each["live"], "expected": each["other"]}
            for each in differences_json(self.differences)
        ]
        return {**self._asdict(), "differences": differences}


async def compare_with_live(
    conn: Conn,
    reader: RowReader,
    projection: Projection,
    stream: str,
    position: int,
    recorded_at: float,
    folded: FoldedRows,
    ignored_topics: Sequence[str],
    now: float,
) -> LiveRows:
    """Compare the rows after the event at `position` with the live ones, in the snapshot of `conn`. Raises
    psycopg.Error."""
    parameters = {
        "projection": projection.name,
        "stream": stream,
        "position": position,
        "ignored": list(ignored_topics),
    }
    row = await fetch_one(conn, _LIVE, parameters)
    if row is None:
        return LiveRows("none", None, None, "It has no live generation.")
    generation, checkpoint, shape, parked_at, later = row

    def say(state: str, message: str, differences: Sequence[Difference] = ()) -> LiveRows:
        return LiveRows(state, generation, checkpoint, message, differences)

    if shape != projection.shape:
        return say("other_shape", "The live generation has the columns of another release.")
    if parked_at is not None and parked_at <= position:
        return say("parked", f"The live generation has parked the object from position {parked_at}.")
    if checkpoint < position:
        return say("behind", f"The live generation is at position {checkpoint}: not there yet.")
    if later is not None:
        return say("later", f"A later event, at position {later}, may have changed the live rows.")
    if recorded_at < partitions.get_retention_start(now, projection.retention_days):
        days = projection.retention_days
        return say("expired", f"The live rows were dropped: they are kept for {days} days.")
    if folded.parked or folded.parked_before:
        return say("parked_here", "This process would park the object, and the live generation has not.")
    keys = list(folded.after)[-ROWS_MAX:]
    stored = await _read_rows(conn, reader, projection, generation, keys)
    differences = []
    for key in keys:
        expected = reader.convert(projection, folded.after[key])
        live = stored.get(key)
        if live is None or not are_equal(projection, live, expected):
            nothing = dict.fromkeys(compared_columns(projection))
            differences.append(describe_difference(projection, live or nothing, expected))
    if differences:
        return say("differing", "The live rows differ.", differences)
    return say("equal", "The live rows are equal.")


async def _read_rows(
    conn: Conn, reader: RowReader, projection: Projection, generation: int, keys: Sequence[Any]
) -> dict[Any, dict[str, Any]]:
    names = compared_columns(projection)
    statement = SQL(_SELECT_ROWS).format(
        columns=SQL(", ").join(map(Identifier, names)),
        table=partitions.get_table(projection.name, generation),
        number=generation,
        key=Identifier(names[0]),
    )
    cur = conn.cursor(binary=True)
    await cur.execute(statement, {"keys": list(keys)})
    rows = await reader.read(conn, projection, names, await cur.fetchall())
    return {row[names[0]]: row for row in rows}
