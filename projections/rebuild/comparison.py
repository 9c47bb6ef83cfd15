"""Comparison of two generations of a projection at one position: by digest, and row by row if they differ.

Both are read in one snapshot in which their checkpoints are equal, so nothing waits and nothing is locked. A
digest is the sum of a 64-bit hash of every row as it is stored, so it does not depend on the order of rows.
Rows that are stored differently are compared by their documents: one may be sealed, or compressed by another
release of zstd. A difference in personal data is reported without the data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg.pq import Format
from psycopg.sql import SQL, Composed, Identifier

from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.wire.aggregates import EVENT_CLASSES
from projections.engine import partitions
from projections.engine.partitions import get_retention_start, get_table
from projections.projection import Projection
from projections.stored_rows import RowReader, are_equal

DIFFERENCES_SHOWN_MAX = 20
PAGE_ROWS = 1000
"""Rows that differ as they are stored, whose keys are loaded together."""
_CURSOR = "differences"
COMMON_POSITION_SECONDS_MAX = 30.0
COMMON_POSITION_POLL_SECONDS = 0.02
REDACTED = "…"

_POSITIONS = """
SELECT position FROM projections.checkpoints
WHERE projection = %(projection)s AND generation = ANY (%(generations)s)
"""
# Columns do not say what is personal: the names of the event fields that are sealed do.
_PERSONAL = frozenset(name for event_class in EVENT_CLASSES for name in event_class.PERSONAL)
# The hash of a record adds up the hashes of its columns. Hashed once more, two rows that swapped the values
# of one column do not have the same sum. Hashing the row as text (bytes in hex) costs three times as much.
_DIGEST = """
SELECT count(*), coalesce(sum(hashint8extended(hash_record_extended(ROW ({columns}), 0), 0)), 0)::text
FROM {generation} WHERE {within}
"""
_DIFFERENCES = """
SELECT {first}, {second}
FROM (SELECT {columns} FROM {one} WHERE {within}) AS a
FULL JOIN (SELECT {columns} FROM {other} WHERE {within}) AS b ON a.{key} = b.{key}
WHERE ROW ({first}) IS DISTINCT FROM ROW ({second})
ORDER BY coalesce(a.{key}, b.{key})
"""


class Digest(NamedTuple):
    """The number of rows of a generation, and the sum of their hashes."""

    rows: int
    sum: str


class Difference(NamedTuple):
    """One row that differs between two generations: the differing values of each by path, or None for the
    generation that does not have the row."""

    key: str
    live: dict[str, Any] | None
    other: dict[str, Any] | None


class Comparison(NamedTuple):
    """Two generations at `position`, with the first DIFFERENCES_SHOWN_MAX differences."""

    position: int
    live: Digest
    other: Digest
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        """Whether both generations have the same rows."""
        return not self.differences


class NoCommonPosition(Exception):
    """Two generations did not reach a common position in time; `str()` says which."""


@asynccontextmanager
async def common_snapshot(conn: Conn, name: str, *generations: int) -> AsyncIterator[int]:
    """A read-only transaction in which the checkpoints of these generations are equal; yields the position.

    Raises NoCommonPosition when there is none within COMMON_POSITION_SECONDS_MAX.
    """
    deadline = asyncio.get_running_loop().time() + COMMON_POSITION_SECONDS_MAX
    await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    try:
        while True:
            async with conn.transaction():
                parameters = {"projection": name, "generations": list(generations)}
                positions = await fetch_all(conn, _POSITIONS, parameters)
                if len(positions) == len(generations) and len(set(positions)) == 1:
                    yield positions[0][0]
                    return
            # Looked at between statements: one that is cut short ends the connection, on which the caller
            # records why it stops.
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(COMMON_POSITION_POLL_SECONDS)
        labels = " and ".join(map(str, generations))
        raise NoCommonPosition(
            f"generations {labels} of {name} did not reach a common position within "
            f"{COMMON_POSITION_SECONDS_MAX:.0f} s"
        )
    finally:
        if not conn.closed:
            await conn.set_isolation_level(None)


async def compare(
    conn: Conn, reader: RowReader, projection: Projection, live: int, other: int, *, now: float
) -> Comparison:
    """Compare two generations at a common position; where rows are kept for some days only, those kept at
    `now` (unix seconds).

    Raises NoCommonPosition, psycopg.Error.
    """
    async with common_snapshot(conn, projection.name, live, other) as position:
        since = int(get_retention_start(now, projection.retention_days))
        digests = [await digest(conn, projection, generation, since) for generation in (live, other)]
        differences: list[Difference] = []
        if digests[0] != digests[1]:
            query = _differences_query(projection, live, other, since)
            differences = await _find_differences(conn, reader, projection, query)
        return Comparison(position, digests[0], digests[1], differences)


async def digest(conn: Conn, projection: Projection, generation: int, since: int) -> Digest:
    """The digest of a generation; where rows are kept for some days only, of those created from `since` on
    (unix seconds)."""
    statement = SQL(_DIGEST).format(
        columns=SQL(", ").join(map(Identifier, compared_columns(projection))),
        generation=get_table(projection.name, generation),
        within=partitions.retention_condition(projection.retention_days, since),
    )
    row = await fetch_one(conn, statement)
    assert row is not None
    return Digest(*row)


def _differences_query(projection: Projection, live: int, other: int, since: int) -> Composed:
    columns = compared_columns(projection)
    return SQL(_DIFFERENCES).format(
        first=SQL(", ").join(Identifier("a", name) for name in columns),
        second=SQL(", ").join(Identifier("b", name) for name in columns),
        columns=SQL(", ").join(map(Identifier, columns)),
        one=get_table(projection.name, live),
        other=get_table(projection.name, other),
        within=partitions.retention_condition(projection.retention_days, since),
        key=Identifier(projection.columns[0].name),
    )


def compared_columns(projection: Projection) -> list[str]:
    """The columns of a row that are compared, in their order: the key, the position, the others."""
    key, *others = [column.name for column in projection.columns]
    return [key, "position", *others]


async def _find_differences(
    conn: Conn, reader: RowReader, projection: Projection, query: Composed
) -> list[Difference]:
    """The first DIFFERENCES_SHOWN_MAX rows whose documents differ, of those that are stored differently."""
    differences: list[Difference] = []
    names = compared_columns(projection)
    async with conn.cursor(_CURSOR) as cur:
        cur.format = Format.BINARY
        await cur.execute(query)
        while rows := await cur.fetchmany(PAGE_ROWS):
            lives = await reader.read(conn, projection, names, [row[: len(names)] for row in rows])
            others = await reader.read(conn, projection, names, [row[len(names) :] for row in rows])
            for live, other in zip(lives, others, strict=True):
                if not are_equal(projection, live, other):
                    differences.append(describe_difference(projection, live, other))
                    if len(differences) == DIFFERENCES_SHOWN_MAX:
                        return differences
    return differences


def describe_difference(
    projection: Projection, live_row: dict[str, Any], other_row: dict[str, Any]
) -> Difference:
    """How two rows differ, without personal data. Of a row that does not exist, all columns are None."""
    names = compared_columns(projection)
    live, other = (_flatten_row(projection, row) for row in (live_row, other_row))
    key = str((live or other or {})[names[0]])
    if live is None or other is None:
        return Difference(key, redact(live), redact(other))
    paths = [path for path in {**live, **other} if live.get(path) != other.get(path)]
    return Difference(
        key,
        redact({path: live.get(path) for path in paths}),
        redact({path: other.get(path) for path in paths}),
    )


def _flatten_row(projection: Projection, values: dict[str, Any]) -> dict[str, Any] | None:
    """The values of a row by path; None when the generation does not have the row."""
    if values[projection.columns[0].name] is None:
        return None
    documents = {column.name for column in projection.columns if column.type in ("json", "document")}
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, bytes) and name not in documents:
            value = value.hex()  # keyed hashes
        leaves |= dict(flatten_json(name, msgspec.json.decode(value) if name in documents else value))
    return leaves


def flatten_json(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value by their path from `name`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten_json(f"{name}.{key}", inner)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from flatten_json(f"{name}.{index}", inner)
    else:
        yield name, value


def redact(leaves: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with personal data hidden."""
    if leaves is None:
        return None
    return {
        path: REDACTED if value is not None and not _PERSONAL.isdisjoint(path.split(".")) else value
        for path, value in leaves.items()
    }


def differences_json(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The differences as JSON values."""
    return [difference._asdict() for difference in differences]
