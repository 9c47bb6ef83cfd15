"""The partitions of the read models: one per generation, divided by UTC day if rows have a retention period.

The only DDL at run time. A partition is created beside its parent and then attached, so that no reader or
writer waits; so readers take a snapshot before they plan (SNAPSHOT_FIRST, decision 0114). Dropping one waits
for its readers LOCK_TIMEOUT at most, else LockNotAvailable is raised.
Names follow from projection, generation and day alone: `feed_g1`, `feed_g1_d20261122`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from ledger.postgres.connections import Conn, fetch_all, fetch_one

DAY_SECONDS = 86_400
LOCK_TIMEOUT = "200ms"
DAYS_AHEAD = 3

_EPOCH = date(1970, 1, 1)
# One process at a time creates partitions: IF NOT EXISTS alone is a race. Taken before the lock timeout is
# set: many processes may start at once, and the one that has this lock is itself bound by the timeout.
_LOCK_PARTITIONS = "SELECT pg_advisory_xact_lock(hashtext('projections.partitions'))"
_SET_LOCK_TIMEOUT = f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
_LIST_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%(parent)s)
"""
_CREATE = "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL{indexes}){storage}"
# A rebuild fills a table without indexes: they are built over the whole when it is attached, at a fraction of
# the cost.
_WITHOUT_INDEXES = " EXCLUDING INDEXES"
_BY_DAY = " PARTITION BY RANGE (created)"
# A row stays in its page uncompressed while it fits: compressing those of the feed took two fifths of all the
# server's time in filling one.
_UNCOMPRESSED = " WITH (toast_tuple_target = 8160)"
_ATTACH_GENERATION = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES IN ({generation})"
# For a detached table that is not partitioned by day, pg_partition_tree returns no rows.
_MEASURE = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint,
       CASE WHEN min(c.reltuples) FILTER (WHERE c.relkind = 'r') >= 0
            THEN sum(c.reltuples) FILTER (WHERE c.relkind = 'r') END::bigint
FROM (SELECT to_regclass(%(partition)s) AS relid
      UNION SELECT relid FROM pg_partition_tree(to_regclass(%(partition)s))) AS tables
LEFT JOIN pg_class c ON c.oid = relid
"""
_ATTACH_DAY = "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})"
# Changes nothing, waits for no reader, and invalidates the plans of statements that name the projection.
# Attaching a day invalidates those that read the generation. But a plan is known to read that only when it is
# complete: one that is being made without the day would be kept, and miss its rows for ever.
_INVALIDATE_PLANS = "GRANT SELECT ON {parent} TO ledger_api"
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
    """The first day (since 1970, UTC) that is kept: part of it is still within the retention period."""
    return to_utc_day(now) - retention_days


def get_retention_start(now: float, retention_days: int | None) -> float:
    """The unix time from which on events make rows: earlier ones belong to a day that is dropped."""
    return float(first_retained_day(now, retention_days) * DAY_SECONDS) if retention_days is not None else 0.0


def retention_condition(retention_days: int | None, created_min: int) -> Composable:
    """An SQL condition for rows of `created_min` (unix seconds) or later; true without a retention period."""
    return SQL("true") if retention_days is None else SQL("created >= {}").format(created_min)


async def create_generation(conn: Conn, name: str, generation: int, *, by_day: bool) -> None:
    """Create the partition of a generation unless it exists. Raises psycopg.Error."""
    parent, partition = _partition_name(name), _partition_name(name, generation)
    async with conn.transaction():
        await conn.execute(_LOCK_PARTITIONS)
        await conn.execute(_SET_LOCK_TIMEOUT)
        if partition in await _list_partitions(conn, parent):
            return
        await conn.execute(_build_create(partition, parent, by_day=by_day))
        await attach(conn, name, generation)


async def create_detached(conn: Conn, name: str, generation: int, *, by_day: bool) -> None:
    """Create the table of a generation for a rebuild to fill; no reader sees it before it is attached."""
    partition, parent = _partition_name(name, generation), _partition_name(name)
    await conn.execute(_build_create(partition, parent, by_day=by_day, indexes=False))


async def attach(conn: Conn, name: str, generation: int) -> None:
    """Make the table of a generation a partition, in the current transaction; this builds the indexes that it
    lacks. Nobody who reads or writes other generations waits."""
    await conn.execute(
        SQL(_ATTACH_GENERATION).format(
            parent=get_table(name), partition=get_table(name, generation), generation=Literal(generation)
        )
    )


async def analyze(conn: Conn, name: str, generation: int) -> None:
    """Collect a generation's statistics for the planner, which only chooses between indexes by them."""
    # From 9,000 rows of each partition. The default of 30,000 may be all rows of a day, and took Postgres
    # 17 µs an event instead of 7 (50,000 events over 20 days).
    async with conn.transaction():
        await conn.execute("SET LOCAL default_statistics_target = 30")
        await conn.execute(SQL("ANALYZE {partition}").format(partition=get_table(name, generation)))


async def drop_generation(conn: Conn, name: str, generation: int) -> None:
    """Drop the table of a generation. Raises LockNotAvailable while a reader holds it."""
    async with conn.transaction():
        await conn.execute(_SET_LOCK_TIMEOUT)
        await conn.execute(SQL(_DROP).format(partition=get_table(name, generation)))


async def filter_existing(conn: Conn, generations: Iterable[Sequence[Any]]) -> list[tuple[str, int]]:
    """Those of the generations (projection, generation) that have a table."""
    keys = list(generations)
    parameters = {
        "projections": [name for name, _ in keys],
        "generations": [generation for _, generation in keys],
        "tables": [f"projections.{_partition_name(name, generation)}" for name, generation in keys],
    }
    rows = await fetch_all(conn, _FILTER_EXISTING, parameters)
    return [(name, generation) for name, generation in rows]


class StoredGeneration(NamedTuple):
    """What a generation takes on disk, indexes included. `rows` is what Postgres estimates, None before it
    has."""

    generation: int
    size_bytes: int
    rows: int | None


async def measure(conn: Conn, name: str, generation: int) -> StoredGeneration:
    """What a generation takes. Raises LockNotAvailable while its indexes are being built."""
    async with conn.transaction():
        await conn.execute(_SET_LOCK_TIMEOUT)
        partition = f"projections.{_partition_name(name, generation)}"
        row = await fetch_one(conn, _MEASURE, {"partition": partition})
    assert row is not None
    return StoredGeneration(generation, *row)


async def create_days(conn: Conn, name: str, generation: int, days: Iterable[int]) -> None:
    """Create the partitions of these days (since 1970, UTC) that a generation lacks. Raises psycopg.Error."""
    parent = _partition_name(name, generation)
    async with conn.transaction():
        await conn.execute(_LOCK_PARTITIONS)
        await conn.execute(_SET_LOCK_TIMEOUT)
        existing = await _list_partitions(conn, parent)
        partitions = {day: _partition_name(name, generation, day) for day in sorted(days)}
        missing = {day: partition for day, partition in partitions.items() if partition not in existing}
        if missing:  # before the generation is locked, as who drops it locks the projection first
            await conn.execute(SQL(_INVALIDATE_PLANS).format(parent=get_table(name)))
        for day, partition in missing.items():
            day_start = day * DAY_SECONDS
            await conn.execute(_build_create(partition, parent))
            await conn.execute(
                SQL(_ATTACH_DAY).format(
                    parent=_identifier(parent),
                    partition=_identifier(partition),
                    first=Literal(day_start),
                    end=Literal(day_start + DAY_SECONDS),
                )
            )


async def drop_days(conn: Conn, name: str, generation: int, *, before: int) -> None:
    """Drop the partitions of days before `before`. Raises LockNotAvailable while a reader holds one."""
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
    rows = await fetch_all(conn, _LIST_PARTITIONS, {"parent": f"projections.{parent}"})
    return {row[0] for row in rows}


def _build_create(partition: str, parent: str, *, by_day: bool = False, indexes: bool = True) -> Composed:
    """The statement that creates a table like `parent`, itself partitioned `by_day` or not."""
    return SQL(_CREATE).format(
        partition=_identifier(partition),
        parent=_identifier(parent),
        indexes=SQL("" if indexes else _WITHOUT_INDEXES),
        storage=SQL(_BY_DAY if by_day else _UNCOMPRESSED),
    )


def _partition_name(name: str, generation: int | None = None, day: int | None = None) -> str:
    if generation is None:
        return name
    if day is None:
        return f"{name}_g{generation}"
    return f"{name}_g{generation}_d{_EPOCH + timedelta(days=day):%Y%m%d}"


def _identifier(name: str) -> Identifier:
    return Identifier("projections", name)
