"""Writing what a pass derived, so that one row the database refuses costs its own stream and no more.

First everything together. Only if that fails is the batch done again with each projection apart; where
data is at fault, halves of it, until the stream and its first refused event are found and parked. A
projection that fails as a whole (a table that is missing, say) is left where it stands; the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import LiteralString

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.errors import CheckViolation
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from ledger.errors import LedgerError
from projections.engine.batch import Key, Member
from projections.engine.partitions import table
from projections.projection import Change, Column, Projection, Step, described

_STORED_AS: dict[str, LiteralString] = {
    "text": "text", "boolean": "bool", "bigint": "int8", "smallint": "int2", "json": "bytea",
    "document": "text",
}  # fmt: skip
# The binary form of a text is its bytes, so what is encoded already need not become a text on its way.
_COPIED_AS = _STORED_AS | {"document": "bytea"}
_COPY = "COPY {table} (generation, position, {columns}) FROM STDIN (FORMAT BINARY)"
# What never changes is not updated: `position` stays that of the first change.
_UPSERT = """
INSERT INTO {table} (generation, position, {columns})
SELECT %b::integer, * FROM unnest(%b::bigint[], {arrays})
ON CONFLICT (generation, {key}) DO UPDATE SET {updates}
"""


class PartitionMissing(LedgerError):
    """A row belongs into a partition that is not there."""


async def write_together(conn: AsyncConnection[TupleRow], members: Sequence[Member]) -> dict[Key, str]:
    """Write the steps of all members in the transaction under way, which any failure ends.

    Raises psycopg.Error and PartitionMissing.
    """
    for member in members:
        await _write(conn, member, member.steps)
    return {}


async def write_apart(conn: AsyncConnection[TupleRow], members: Sequence[Member]) -> dict[Key, str]:
    """The same, but each member parks the streams that cannot be written.

    Returns the members that could not be written at all, and why. Raises PartitionMissing, and
    psycopg.Error when the connection is lost.
    """
    failed: dict[Key, str] = {}
    for member in members:
        try:
            async with conn.transaction():
                await _write_what_can_be(conn, member, member.steps)
        except psycopg.Error as error:
            if conn.broken:
                raise
            failed[member.key] = described(error)
    return failed


async def _write_what_can_be(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    try:
        async with conn.transaction():
            await _write(conn, member, steps)
        return
    except Exception as error:
        if not _rows_at_fault(error):
            raise
    streams = list(dict.fromkeys(step.stream for step in steps))
    if len(streams) == 1:
        await _write_stream(conn, member, steps)
        return
    first = set(streams[: len(streams) // 2])
    await _write_what_can_be(conn, member, [step for step in steps if step.stream in first])
    await _write_what_can_be(conn, member, [step for step in steps if step.stream not in first])


async def _write_stream(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    """Up to the first event that is refused: rows are written as the event before it left them."""
    taken: list[Step] = []
    for position in sorted({step.position for step in steps}):
        upto = [step for step in steps if step.position <= position]
        try:
            async with conn.transaction(force_rollback=True):
                await _write(conn, member, upto)
        except Exception as error:
            if not _rows_at_fault(error):
                raise
            member.park(steps[0].stream, position, error)
            break
        taken = upto
    await _write(conn, member, taken)


def _rows_at_fault(error: Exception) -> bool:
    """What else fails is the trouble of the projection's statement, or of the connection."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    return not isinstance(error, PartitionMissing)


async def _write(conn: AsyncConnection[TupleRow], member: Member, steps: list[Step]) -> None:
    if not steps:
        return
    projection = member.projection
    changes = projection.changes(steps)
    try:
        if member.detached:
            await _copy(conn, member, changes, _copying(projection, member.generation))
            return
        if projection.changing:
            await _upsert(conn, projection, member.generation, changes)
        else:
            # Two thirds of the cost of an INSERT from arrays.
            await _copy(conn, member, changes, _copying(projection))
        if projection.checked is not None:
            await conn.execute(projection.checked.encode())
    except CheckViolation as error:
        # "no partition of relation found for row": the only check violation without a constraint's name.
        if error.diag.constraint_name is None:
            raise PartitionMissing from error
        raise


async def _copy(
    conn: AsyncConnection[TupleRow], member: Member, changes: Sequence[Change], statement: bytes
) -> None:
    columns = member.projection.columns
    encoded = [number for number, column in enumerate(columns, 2) if column.type == "json"]
    async with conn.cursor() as cur, cur.copy(statement) as copy:
        copy.set_types(["int4", "int8", *(_COPIED_AS[column.type] for column in columns)])
        for position, row in changes:
            values = [member.generation, position, *row]
            for number in encoded:
                values[number] = msgspec.json.encode(values[number])
            await copy.write_row(values)


async def _upsert(
    conn: AsyncConnection[TupleRow], projection: Projection, generation: int, changes: Sequence[Change]
) -> None:
    positions, rows = zip(*changes, strict=True)
    arrays = [list(values) for values in zip(*rows, strict=True)]
    for number, column in enumerate(projection.columns):
        if column.type == "json":
            arrays[number] = [msgspec.json.encode(value) for value in arrays[number]]
        elif column.type == "document":
            arrays[number] = [value.decode() for value in arrays[number]]
    await conn.execute(_upserting(projection), [generation, list(positions), *arrays])


@lru_cache
def _copying(projection: Projection, generation: int | None = None) -> bytes:
    into = table(projection.name, generation)
    return SQL(_COPY).format(table=into, columns=_names(projection.columns)).as_bytes()


@lru_cache
def _upserting(projection: Projection) -> bytes:
    arrays = [SQL(f"%b::{_STORED_AS[column.type]}[]") for column in projection.columns]
    updates = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in projection.changing]
    statement = SQL(_UPSERT).format(
        table=table(projection.name),
        columns=_names(projection.columns),
        arrays=SQL(", ").join(arrays),
        key=Identifier(projection.columns[0].name),
        updates=SQL(", ").join(updates),
    )
    return statement.as_bytes()


def _names(columns: Sequence[Column]) -> Composed:
    return SQL(", ").join([Identifier(column.name) for column in columns])
