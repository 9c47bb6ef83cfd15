"""Writes the rows of a batch, so that a row which the database refuses costs its own stream and no more.

First the rows of all projections together. If that fails, the batch is run again with each projection in a
savepoint of its own; rows that are at fault are bisected by stream until the refused row's stream is found,
and it is parked from its first refused event. A projection that fails as a whole, its table missing for
example, keeps its checkpoint and is retried later; the others advance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.errors import CheckViolation
from psycopg.pq import Format
from psycopg.sql import SQL, Composed, Identifier

from ledger.errors import LedgerError
from ledger.logs import describe_error
from ledger.postgres.connections import Conn
from ledger.postgres.pipelines import BoundStatement, PipelinedTransaction, run_together
from ledger.store.arrays import BIGINT, BOOLEAN, BYTEA, INTEGER, SMALLINT, TEXT, encode_array
from projections.engine.batch import GenerationKey, Target
from projections.engine.partitions import get_table
from projections.projection import Column, EventRows, Projection, RowUpsert
from projections.stored_rows import Encode

_ARRAY_TYPES: dict[str, LiteralString] = {
    "text": "text", "boolean": "bool", "bigint": "int8", "integer": "int4", "smallint": "int2",
    "json": "bytea", "document": "text", "hashes": "bytea",
}  # fmt: skip
_ELEMENTS = {
    "text": TEXT, "boolean": BOOLEAN, "bigint": BIGINT, "integer": INTEGER, "smallint": SMALLINT,
    "json": BYTEA, "document": TEXT._replace(encode=bytes), "hashes": BYTEA,
}  # fmt: skip
# The binary form of a text is its bytes: a document, which is encoded already, is copied as it is.
_COPY_TYPES = _ARRAY_TYPES | {"document": "bytea"}
_COPY = "COPY {table} (generation, position, {columns}) FROM STDIN (FORMAT BINARY)"
_INSERT = """
INSERT INTO {table} AS t (generation, position, {columns})
SELECT $1::integer, * FROM unnest($2::bigint[], {arrays})
{conflict}
"""
# Only the mutable columns are updated: `position` stays that of the first change.
_UPDATE = "ON CONFLICT (generation, {key}) DO UPDATE SET {updates}"
# `position` stays, and what has not changed is not written.
_UPDATE_CHANGED = (
    "ON CONFLICT (generation, {key}) DO UPDATE SET {updates} WHERE ROW ({old}) IS DISTINCT FROM ROW ({new})"
)
# The same of rows that are there already.
_UPDATE_WRITTEN = """
UPDATE {table} AS t SET {updates}
FROM unnest({arrays}) AS v ({columns})
WHERE t.generation = $1::integer AND {same} AND ROW ({old}) IS DISTINCT FROM ROW ({new})
"""

Writer = Callable[[Conn, Sequence[Target]], Awaitable[dict[GenerationKey, str]]]
"""`write_all` or `write_each`."""

ReturnValue = TypeVar("ReturnValue")


class PartitionMissing(LedgerError):
    """A row belongs to a partition that does not exist."""


async def write_or_isolate(conn: Conn, run: Callable[[Writer], Awaitable[ReturnValue]]) -> ReturnValue:
    """The result of `run`, which is one whole batch in a transaction of its own.

    It is given `write_all` first. When the batch fails, for whatever reason but a lost connection, it is run
    once more with `write_each`, to find the streams that are at fault. Raises what `run` raises.
    """
    try:
        return await run(write_all)
    except Exception:  # whatever it is: the second run isolates it, or fails with it again
        if conn.broken:
            raise
    return await run(write_each)


async def write_all(conn: Conn, targets: Sequence[Target]) -> dict[GenerationKey, str]:
    """Write the rows of all targets in the current transaction, which any failure ends. Always returns {}.

    Raises psycopg.Error, PartitionMissing, and whatever encoding a row raises.
    """
    for target in targets:
        await _write_rows(conn, target, target.event_rows)
    return {}


def add_writes(transaction: PipelinedTransaction, targets: Sequence[Target]) -> None:
    """As `write_all`, for generations that are attached; the rows are sent with the transaction's COMMIT.

    Raises whatever encoding a row raises.
    """
    for target in targets:
        if target.event_rows:
            upserts = target.projection.collect_upserts(target.event_rows)
            transaction.add(_bind_insert(target, upserts))
            if target.projection.constraint_check_sql is not None:
                transaction.add(BoundStatement(target.projection.constraint_check_sql.encode()))


async def write_each(conn: Conn, targets: Sequence[Target]) -> dict[GenerationKey, str]:
    """Write the rows of each target in a savepoint, and park its streams that cannot be written.

    Returns the targets that could not be written at all, and why. Raises PartitionMissing, and
    psycopg.Error when the connection is lost.
    """
    write_errors: dict[GenerationKey, str] = {}
    for target in targets:
        try:
            async with conn.transaction():
                await _write_by_bisection(conn, target, target.event_rows)
        except psycopg.Error as error:
            if conn.broken:
                raise
            write_errors[target.key] = describe_error(error)
    return write_errors


async def _write_by_bisection(conn: Conn, target: Target, event_rows: list[EventRows]) -> None:
    try:
        async with conn.transaction():
            await _write_rows(conn, target, event_rows)
        return
    except Exception as error:
        if not _is_row_error(error):
            raise
    streams = list(dict.fromkeys(item.stream for item in event_rows))
    if len(streams) == 1:
        await _write_stream_prefix(conn, target, event_rows)
        return
    first_half = set(streams[: len(streams) // 2])
    await _write_by_bisection(conn, target, [item for item in event_rows if item.stream in first_half])
    await _write_by_bisection(conn, target, [item for item in event_rows if item.stream not in first_half])


async def _write_stream_prefix(conn: Conn, target: Target, event_rows: list[EventRows]) -> None:
    """Write one stream's rows as they were before its first refused event, and park it from that event on."""
    accepted_prefix: list[EventRows] = []
    for position in sorted({item.position for item in event_rows}):
        prefix = [item for item in event_rows if item.position <= position]
        try:
            async with conn.transaction(force_rollback=True):
                await _write_rows(conn, target, prefix)
        except Exception as error:
            if not _is_row_error(error):
                raise
            target.park(event_rows[0].stream, position, error)
            break
        accepted_prefix = prefix
    await _write_rows(conn, target, accepted_prefix)


def _is_row_error(error: Exception) -> bool:
    """Whether a row's values caused the error. Else the statement, the table or the connection did."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
    return not isinstance(error, PartitionMissing)


async def _write_rows(conn: Conn, target: Target, event_rows: list[EventRows]) -> None:
    if not event_rows:
        return
    projection = target.projection
    upserts = projection.collect_upserts(event_rows)
    try:
        if target.detached:
            await _copy_rows(conn, target, upserts)
            return
        await run_together(conn, [_bind_insert(target, upserts)], prepare=False)
        if projection.constraint_check_sql is not None:
            await conn.execute(projection.constraint_check_sql.encode())
    except CheckViolation as error:
        # "no partition of relation found for row": the only check violation without a constraint's name.
        if error.diag.constraint_name is None:
            raise PartitionMissing from error
        raise


async def _copy_rows(conn: Conn, target: Target, upserts: Sequence[RowUpsert]) -> None:
    columns = target.projection.columns
    encoders = _get_encoders(target)
    generation = target.generation
    statement = _build_copy(target.projection, generation)
    async with conn.cursor() as cur, cur.copy(statement) as copy:
        copy.set_types(["int4", "int8", *(_COPY_TYPES[column.type] for column in columns)])
        # As `copy.write_row` does it, without a coroutine for each row.
        add_row = copy.formatter.write_row
        for upsert in upserts:
            values = [generation, upsert.position, *upsert.row]
            for index, encode in encoders:
                values[index + 2] = encode(values[index + 2], upsert)
            if block := add_row(values):
                await copy.writer.write(block)


def _bind_insert(
    target: Target, upserts: Sequence[RowUpsert], statement: bytes | None = None
) -> BoundStatement:
    """`statement`: by default the one of rows that events have made just now."""
    positions = [upsert.position for upsert in upserts]
    arrays = _encode_columns(target, upserts, target.projection.columns)
    values = [INTEGER.encode(target.generation), encode_array(positions, BIGINT), *arrays]
    statement = statement or _build_insert(target.projection)
    return BoundStatement(statement, values, [Format.BINARY] * len(values))


def _encode_columns(
    target: Target, upserts: Sequence[RowUpsert], columns: Sequence[Column]
) -> list[bytes | None]:
    """An array of the values of each of the columns."""
    encoders = dict(_get_encoders(target))
    arrays = []
    values_by_column = zip(*[upsert.row for upsert in upserts], strict=True)
    for index, (column, values) in enumerate(zip(target.projection.columns, values_by_column, strict=True)):
        if column in columns:
            encoded: Sequence[Any] = values
            if (encode := encoders.get(index)) is not None:
                encoded = [encode(value, upsert) for value, upsert in zip(values, upserts, strict=True)]
            arrays.append(encode_array(encoded, _ELEMENTS[column.type]))
    return arrays


def _get_encoders(target: Target) -> list[tuple[int, Encode]]:
    assert target.encoder is not None, "made for rows that are only compared"
    return target.encoder.get_encoders(target.projection, target.keyring)


@lru_cache
def _build_copy(projection: Projection, generation: int) -> bytes:
    table_identifier = get_table(projection.name, generation)
    return (
        SQL(_COPY).format(table=table_identifier, columns=_format_column_names(projection.columns)).as_bytes()
    )


@lru_cache
def _build_insert(projection: Projection) -> bytes:
    updates = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in projection.mutable_columns]
    conflict = SQL(_UPDATE).format(
        key=Identifier(projection.columns[0].name), updates=SQL(", ").join(updates)
    )
    return _format_insert(projection, conflict if updates else SQL(""))


@lru_cache
def _build_insert_changed(projection: Projection) -> bytes:
    written = [Identifier(column.name) for column in list_rewritable(projection)]
    conflict = SQL(_UPDATE_CHANGED).format(
        key=Identifier(projection.columns[0].name),
        updates=SQL(", ").join([SQL("{0} = excluded.{0}").format(name) for name in written]),
        old=SQL(", ").join([SQL("t.{0}").format(name) for name in written]),
        new=SQL(", ").join([SQL("excluded.{0}").format(name) for name in written]),
    )
    return _format_insert(projection, conflict)


def _format_insert(projection: Projection, conflict: SQL | Composed) -> bytes:
    statement = SQL(_INSERT).format(
        table=get_table(projection.name),
        columns=_format_column_names(projection.columns),
        arrays=_format_arrays(projection.columns, first=3),
        conflict=conflict,
    )
    return statement.as_bytes()


def _format_column_names(columns: Sequence[Column]) -> Composed:
    return SQL(", ").join([Identifier(column.name) for column in columns])


def list_rewritable(projection: Projection) -> list[Column]:
    """The columns whose values may come to be others without a later event, because an erasure changes what
    earlier ones say: those that change anyway, and those that follow from personal data."""
    return [
        column
        for column in projection.columns
        if column.name in projection.mutable_columns
        or column.is_personal
        or column.type in ("json", "document", "hashes")
    ]


async def rewrite_rows(
    conn: Conn, rewrites: Mapping[GenerationKey, BoundStatement]
) -> dict[GenerationKey, int]:
    """Run the statements of `bind_rewrite`, in the current transaction. Returns how many rows changed. Raises
    psycopg.Error."""
    results = await run_together(conn, list(rewrites.values()), prepare=False)
    return {key: result.command_tuples or 0 for key, result in zip(rewrites, results, strict=True)}


def bind_rewrite(target: Target) -> BoundStatement:
    """Writes the rows of the target over those that its generation has; a row that is not there is not
    written, unless it follows from personal data whether it is there. Of rows that are there only the columns
    that are compared or written are sent."""
    if target.projection.has_personal_rows:
        upserts = target.projection.collect_upserts(target.event_rows)
        return _bind_insert(target, upserts, _build_insert_changed(target.projection))
    columns = _list_update_columns(target.projection)
    values = _encode_columns(target, target.projection.collect_upserts(target.event_rows), columns)
    statement = _build_update(target.projection, target.generation)
    arguments = [INTEGER.encode(target.generation), *values]
    return BoundStatement(statement, arguments, [Format.BINARY] * len(arguments))


def _list_update_columns(projection: Projection) -> list[Column]:
    """The key, with the column by which days are partitions, and what is rewritten."""
    keys = [projection.columns[0].name, *(["created"] if projection.retention_days is not None else [])]
    written = list_rewritable(projection)
    return [column for column in projection.columns if column.name in keys or column in written]


@lru_cache
def _build_update(projection: Projection, generation: int) -> bytes:
    columns, written = _list_update_columns(projection), list_rewritable(projection)
    rewritable = [Identifier(column.name) for column in written]
    same = [Identifier(column.name) for column in columns if column not in written]
    statement = SQL(_UPDATE_WRITTEN).format(
        table=get_table(projection.name, generation),
        columns=_format_column_names(columns),
        arrays=_format_arrays(columns, first=2),
        updates=SQL(", ").join([SQL("{0} = v.{0}").format(name) for name in rewritable]),
        same=SQL(" AND ").join([SQL("t.{0} = v.{0}").format(name) for name in same]),
        old=SQL(", ").join([SQL("t.{0}").format(name) for name in rewritable]),
        new=SQL(", ").join([SQL("v.{0}").format(name) for name in rewritable]),
    )
    return statement.as_bytes()


def _format_arrays(columns: Sequence[Column], *, first: int) -> Composed:
    """The parameters with the values of the columns; `first` is the number of the first one."""
    return SQL(", ").join(
        [
            SQL(f"${number}::{_ARRAY_TYPES[column.type]}[]")
            for number, column in enumerate(columns, start=first)
        ]
    )
