"""The partitions of the read models: one a generation, and below it one a UTC day where rows have a term.

The only DDL at run time. A partition is made beside its parent and then attached, which no reader or
writer waits for. Dropping one waits for readers at most `LOCK_TIMEOUT`, or is left for the next time.
Names follow from projection, generation and day alone: `feed_g1`, `feed_g1_d20261122`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Identifier, Literal

DAY_SECONDS = 86_400
LOCK_TIMEOUT = "200ms"
DAYS_AHEAD = 3

_EPOCH = date(1970, 1, 1)
# One maker at a time, of any number of processes: IF NOT EXISTS alone is a race.
# Taken before the limit on waiting: whoever has it is held to that limit, and many may begin at once.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('projections.partitions'))"
_LIMITED = f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
_CHILDREN = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%(parent)s)
"""
# A row stays in its page as it is while it fits there: compressing those of the feed was two fifths of all
# that a server did to fill one.
_PLAIN = " WITH (toast_tuple_target = 8160)"
_MAKE_GENERATION = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)" + _PLAIN
_MAKE_GENERATION_OF_DAYS = (
    "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL) PARTITION BY RANGE (created)"
)
_ATTACH_GENERATION = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES IN ({generation})"
# Without indexes: they are built over the whole when it is attached, at a fraction of the cost.
_DETACHED = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES)"
_MAKE_DETACHED = _DETACHED + _PLAIN
_MAKE_DETACHED_OF_DAYS = _DETACHED + " PARTITION BY RANGE (created)"
# Of a table that is not attached yet, pg_partition_tree tells nothing unless it has days.
_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint
FROM (SELECT to_regclass(%(partition)s) AS relid
      UNION SELECT relid FROM pg_partition_tree(to_regclass(%(partition)s))) AS tables
"""
_MAKE_DAY = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)" + _PLAIN
_ATTACH_DAY = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})"
_DROP = "DROP TABLE IF EXISTS {partition}"
_PRESENT = """
SELECT projection, generation
FROM unnest(%(projections)s::text[], %(generations)s::integer[], %(tables)s::text[])
    AS asked (projection, generation, relation)
WHERE to_regclass(relation) IS NOT NULL
"""


def day_of(at: float) -> int:
    """The day (since 1970, UTC) of a unix time."""
    return int(at) // DAY_SECONDS


def first_day_kept(now: float, days_kept: int) -> int:
    """The day `days_kept` days ago: what is left of it is still within the term, the day before is past."""
    return day_of(now) - days_kept


def rows_since(now: float, days_kept: int | None) -> float:
    """Since when, in unix seconds, events make rows: earlier ones would fall on a day that is dropped."""
    return float(first_day_kept(now, days_kept) * DAY_SECONDS) if days_kept is not None else 0.0


def within(days_kept: int | None, since: int) -> Composable:
    """A condition for the rows that are not about to be dropped."""
    return SQL("true") if days_kept is None else SQL("created >= {}").format(since)


async def make_generation(
    conn: AsyncConnection[TupleRow], name: str, generation: int, *, by_day: bool
) -> None:
    """The partition of a generation, unless it is there."""
    parent, partition = _name(name), _name(name, generation)
    async with conn.transaction():
        await conn.execute(_ALONE)
        await conn.execute(_LIMITED)
        if partition in await _children(conn, parent):
            return
        make = SQL(_MAKE_GENERATION_OF_DAYS if by_day else _MAKE_GENERATION)
        await conn.execute(make.format(partition=_identifier(partition), parent=_identifier(parent)))
        await conn.execute(
            SQL(_ATTACH_GENERATION).format(
                parent=_identifier(parent), partition=_identifier(partition), generation=Literal(generation)
            )
        )


async def make_detached(conn: AsyncConnection[TupleRow], name: str, generation: int, *, by_day: bool) -> None:
    """The table of a generation to be filled, which nobody sees before it is attached."""
    make = SQL(_MAKE_DETACHED_OF_DAYS if by_day else _MAKE_DETACHED)
    await conn.execute(make.format(partition=table(name, generation), parent=table(name)))


async def attach(conn: AsyncConnection[TupleRow], name: str, generation: int) -> None:
    """Build the indexes of a filled generation and make it a partition; readers and writers of the others
    go on meanwhile. In the transaction under way."""
    await conn.execute(
        SQL(_ATTACH_GENERATION).format(
            parent=table(name), partition=table(name, generation), generation=Literal(generation)
        )
    )


async def analyze(conn: AsyncConnection[TupleRow], name: str, generation: int) -> None:
    """Tell the planner what is in it."""
    await conn.execute(SQL("ANALYZE {partition}").format(partition=table(name, generation)))


async def drop_generation(conn: AsyncConnection[TupleRow], name: str, generation: int) -> None:
    """Drop all rows of a generation. Raises LockNotAvailable when a reader is in the way."""
    async with conn.transaction():
        await conn.execute(_LIMITED)
        await conn.execute(SQL(_DROP).format(partition=table(name, generation)))


async def present(
    conn: AsyncConnection[TupleRow], generations: Iterable[Sequence[Any]]
) -> list[tuple[str, int]]:
    """Those of these generations, by projection, that have a table."""
    asked = list(generations)
    parameters = {
        "projections": [name for name, _ in asked],
        "generations": [generation for _, generation in asked],
        "tables": [f"projections.{_name(name, generation)}" for name, generation in asked],
    }
    rows = await (await conn.execute(_PRESENT, parameters)).fetchall()
    return [(name, generation) for name, generation in rows]


async def bytes_of(conn: AsyncConnection[TupleRow], name: str, generation: int) -> int:
    """The room a generation takes, its indexes included. Raises LockNotAvailable while these are built."""
    async with conn.transaction():
        await conn.execute(_LIMITED)
        cur = await conn.execute(_BYTES, {"partition": f"projections.{_name(name, generation)}"})
        row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def make_days(conn: AsyncConnection[TupleRow], name: str, generation: int, days: Iterable[int]) -> None:
    """The partitions of these days in a generation, where they are not there."""
    parent = _name(name, generation)
    async with conn.transaction():
        await conn.execute(_ALONE)
        await conn.execute(_LIMITED)
        there = await _children(conn, parent)
        for day in sorted(days):
            partition = _name(name, generation, day)
            if partition in there:
                continue
            first = day * DAY_SECONDS
            await conn.execute(
                SQL(_MAKE_DAY).format(partition=_identifier(partition), parent=_identifier(parent))
            )
            await conn.execute(
                SQL(_ATTACH_DAY).format(
                    parent=_identifier(parent),
                    partition=_identifier(partition),
                    first=Literal(first),
                    end=Literal(first + DAY_SECONDS),
                )
            )


async def drop_days(conn: AsyncConnection[TupleRow], name: str, generation: int, *, before: int) -> None:
    """Drop the partitions of days before `before`. Raises LockNotAvailable when a reader is in the way."""
    parent = _name(name, generation)
    first_kept = _name(name, generation, before)
    # Names of one parent differ in their digits only, so they sort by day.
    for partition in sorted(await _children(conn, parent)):
        if partition < first_kept:
            async with conn.transaction():
                await conn.execute(_LIMITED)
                await conn.execute(SQL(_DROP).format(partition=_identifier(partition)))


def table(name: str, generation: int | None = None) -> Identifier:
    """The table of a projection, or of one generation of it."""
    return _identifier(_name(name, generation))


async def _children(conn: AsyncConnection[TupleRow], parent: str) -> set[str]:
    cur = await conn.execute(_CHILDREN, {"parent": f"projections.{parent}"})
    return {row[0] for row in await cur.fetchall()}


def _name(name: str, generation: int | None = None, day: int | None = None) -> str:
    if generation is None:
        return name
    if day is None:
        return f"{name}_g{generation}"
    return f"{name}_g{generation}_d{_EPOCH + timedelta(days=day):%Y%m%d}"


def _identifier(name: str) -> Identifier:
    return Identifier("projections", name)
