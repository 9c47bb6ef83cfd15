"""The partitions of the read models: one a generation, and below it one a UTC day where rows have a term.

The only DDL at run time. A partition is made beside its parent and then attached, which no reader or
writer waits for. Dropping one waits for readers at most `LOCK_TIMEOUT`, or is left for the next time.
Names follow from projection, generation and day alone: `feed_g1`, `feed_g1_d20261122`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from psycopg.sql import SQL, Composable, Identifier, Literal

from ledger.postgres.connections import Conn, fetch_all

DAY_SECONDS = 86_400
LOCK_TIMEOUT = "200ms"
DAYS_AHEAD = 3

_EPOCH = date(1970, 1, 1)
# One maker at a time, of any number of processes: IF NOT EXISTS alone is a race.
# Taken before the limit on waiting: whoever has it is held to that limit, and many may begin at once.
_LOCK_PARTITIONS = "SELECT pg_advisory_xact_lock(hashtext('projections.partitions'))"
_SET_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
_LIST_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%(parent)s)
"""
# A row stays in its page as it is while it fits there: compressing those of the feed was two fifths of all
# that a server did to fill one.
_STORAGE_OPTIONS = " WITH (toast_tuple_target = 8160)"
_CREATE_GENERATION = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)" + _STORAGE_OPTIONS
_CREATE_GENERATION_BY_DAY = (
    "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL) PARTITION BY RANGE (created)"
)
_ATTACH_GENERATION = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES IN ({generation})"
# Without indexes: they are built over the whole when it is attached, at a fraction of the cost.
_CREATE_WITHOUT_INDEXES = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES)"
_CREATE_DETACHED = _CREATE_WITHOUT_INDEXES + _STORAGE_OPTIONS
_CREATE_DETACHED_BY_DAY = _CREATE_WITHOUT_INDEXES + " PARTITION BY RANGE (created)"
# Of a table that is not attached yet, pg_partition_tree tells nothing unless it has days.
_SIZE_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint
FROM (SELECT to_regclass(%(partition)s) AS relid
      UNION SELECT relid FROM pg_partition_tree(to_regclass(%(partition)s))) AS tables
"""
_CREATE_DAY = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)" + _STORAGE_OPTIONS
_ATTACH_DAY = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})"
_DROP = "DROP TABLE IF EXISTS {partition}"
_FILTER_EXISTING = """
SELECT projection, generation
FROM unnest(%(projections)s::text[], %(generations)s::integer[], %(tables)s::text[])
    AS asked (projection, generation, relation)
WHERE to_regclass(relation) IS NOT NULL
"""


def to_utc_day(unix_seconds: float) -> int:
    """The day (since 1970, UTC) of a unix time."""
    return int(unix_seconds) // DAY_SECONDS


def first_retained_day(now: float, retention_days: int) -> int:
    """The day `retention_days` days ago: what is left of it is still within the term, the day before is
    past."""
    return to_utc_day(now) - retention_days


def get_retention_start(now: float, retention_days: int | None) -> float:
    """Since when, in unix seconds, events make rows: earlier ones would fall on a day that is dropped."""
    return float(first_retained_day(now, retention_days) * DAY_SECONDS) if retention_days is not None else 0.0


def retention_condition(retention_days: int | None, created_min: int) -> Composable:
    """A condition for the rows that are not about to be dropped."""
    return SQL("true") if retention_days is None else SQL("created >= {}").format(created_min)


async def create_generation(conn: Conn, name: str, generation: int, *, by_day: bool) -> None:
    """The partition of a generation, unless it is there."""
    parent, partition = _partition_name(name), _partition_name(name, generation)
    async with conn.transaction():
        await conn.execute(_LOCK_PARTITIONS)
        await conn.execute(_SET_LOCK_TIMEOUT)
        if partition in await _list_partitions(conn, parent):
            return
        statement = SQL(_CREATE_GENERATION_BY_DAY if by_day else _CREATE_GENERATION)
        await conn.execute(statement.format(partition=_identifier(partition), parent=_identifier(parent)))
        await conn.execute(
            SQL(_ATTACH_GENERATION).format(
                parent=_identifier(parent), partition=_identifier(partition), generation=Literal(generation)
            )
        )


async def create_detached(conn: Conn, name: str, generation: int, *, by_day: bool) -> None:
    """The table of a generation to be filled, which nobody sees before it is attached."""
    statement = SQL(_CREATE_DETACHED_BY_DAY if by_day else _CREATE_DETACHED)
    await conn.execute(statement.format(partition=get_table(name, generation), parent=get_table(name)))


async def attach(conn: Conn, name: str, generation: int) -> None:
    """Build the indexes of a filled generation and make it a partition; readers and writers of the others
    go on meanwhile. In the transaction under way."""
    await conn.execute(
        SQL(_ATTACH_GENERATION).format(
            parent=get_table(name), partition=get_table(name, generation), generation=Literal(generation)
        )
    )


async def analyze(conn: Conn, name: str, generation: int) -> None:
    """Tell the planner what is in it."""
    await conn.execute(SQL("ANALYZE {partition}").format(partition=get_table(name, generation)))


async def drop_generation(conn: Conn, name: str, generation: int) -> None:
    """Drop all rows of a generation. Raises LockNotAvailable when a reader is in the way."""
    async with conn.transaction():
        await conn.execute(_SET_LOCK_TIMEOUT)
        await conn.execute(SQL(_DROP).format(partition=get_table(name, generation)))


async def filter_existing(conn: Conn, generations: Iterable[Sequence[Any]]) -> list[tuple[str, int]]:
    """Those of these generations, by projection, that have a table."""
    keys = list(generations)
    parameters = {
        "projections": [name for name, _ in keys],
        "generations": [generation for _, generation in keys],
        "tables": [f"projections.{_partition_name(name, generation)}" for name, generation in keys],
    }
    rows = await fetch_all(conn, _FILTER_EXISTING, parameters)
    return [(name, generation) for name, generation in rows]


async def get_size_bytes(conn: Conn, name: str, generation: int) -> int:
    """The room a generation takes, its indexes included. Raises LockNotAvailable while these are built."""
    async with conn.transaction():
        await conn.execute(_SET_LOCK_TIMEOUT)
        cur = await conn.execute(
            _SIZE_BYTES, {"partition": f"projections.{_partition_name(name, generation)}"}
        )
        row = await cur.fetchone()
    assert row is not None
    return int(row[0])


async def create_days(conn: Conn, name: str, generation: int, days: Iterable[int]) -> None:
    """The partitions of these days in a generation, where they are not there."""
    parent = _partition_name(name, generation)
    async with conn.transaction():
        await conn.execute(_LOCK_PARTITIONS)
        await conn.execute(_SET_LOCK_TIMEOUT)
        existing = await _list_partitions(conn, parent)
        for day in sorted(days):
            partition = _partition_name(name, generation, day)
            if partition in existing:
                continue
            day_start = day * DAY_SECONDS
            await conn.execute(
                SQL(_CREATE_DAY).format(partition=_identifier(partition), parent=_identifier(parent))
            )
            await conn.execute(
                SQL(_ATTACH_DAY).format(
                    parent=_identifier(parent),
                    partition=_identifier(partition),
                    first=Literal(day_start),
                    end=Literal(day_start + DAY_SECONDS),
                )
            )


async def drop_days(conn: Conn, name: str, generation: int, *, before: int) -> None:
    """Drop the partitions of days before `before`. Raises LockNotAvailable when a reader is in the way."""
    parent = _partition_name(name, generation)
    first_kept = _partition_name(name, generation, before)
    # Names of one parent differ in their digits only, so they sort by day.
    for partition in sorted(await _list_partitions(conn, parent)):
        if partition < first_kept:
            async with conn.transaction():
                await conn.execute(_SET_LOCK_TIMEOUT)
                await conn.execute(SQL(_DROP).format(partition=_identifier(partition)))


def get_table(name: str, generation: int | None = None) -> Identifier:
    """The table of a projection, or of one generation of it."""
    return _identifier(_partition_name(name, generation))


async def _list_partitions(conn: Conn, parent: str) -> set[str]:
    cur = await conn.execute(_LIST_PARTITIONS, {"parent": f"projections.{parent}"})
    return {row[0] for row in await cur.fetchall()}


def _partition_name(name: str, generation: int | None = None, day: int | None = None) -> str:
    if generation is None:
        return name
    if day is None:
        return f"{name}_g{generation}"
    return f"{name}_g{generation}_d{_EPOCH + timedelta(days=day):%Y%m%d}"


def _identifier(name: str) -> Identifier:
    return Identifier("projections", name)
