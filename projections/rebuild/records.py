"""Rebuilds as they are on record: begun, paused, resumed, cancelled, and how each stands.

A rebuild makes one new generation of each of its views. Of two operators who begin one of the same view the
second is told. Who takes a rebuild through its stages is `driving`; what makes it live is `gate`. Whoever
changes one locks its row before anything of its views, so that no two wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from psycopg.errors import InsufficientPrivilege, LockNotAvailable, UniqueViolation
from psycopg.rows import dict_row

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine import operations, partitions
from projections.engine.operations import Operator
from projections.projection import Projection

DROP_ATTEMPTS_MAX = 10
DROP_PAUSE_SECONDS = 0.3
WORKERS_MAX = 64

_INSERT_REBUILD = """
INSERT INTO projections.rebuilds (workers, accept_differences, upto, who, reason)
SELECT %(workers)s, %(accept)s, h.position, %(who)s, %(reason)s FROM ledger.head h RETURNING id, upto
"""
# From 2 on: the first is made, and live, where a process finds none.
_INSERT_BUILD = """
INSERT INTO projections.builds (rebuild, projection, generation, shape)
SELECT %(rebuild)s, %(projection)s, 1 + greatest(1,
    (SELECT max(generation) FROM projections.checkpoints WHERE projection = %(projection)s),
    (SELECT max(generation) FROM projections.builds WHERE projection = %(projection)s)), %(shape)s
RETURNING generation
"""
_INSERT_SHARDS = """
INSERT INTO projections.shares (rebuild, share) SELECT %(rebuild)s, generate_series(0, %(workers)s - 1)
"""
_SELECT_ACTIVE = """
SELECT r.id, r.who, to_char(r.began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), b.projection,
       CASE WHEN r.state = 'differing' THEN 'waits for a decision on'
            WHEN r.paused THEN 'was paused at work on' ELSE 'is at work on' END
FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE b.projection = ANY (%(names)s) AND NOT b.ended ORDER BY r.id LIMIT 1
"""
_SELECT_LAST = "SELECT max(rebuild) FROM projections.builds WHERE projection = %(projection)s"
_SELECT_LATER_SHAPE = """
SELECT l.generation FROM projections.live l JOIN projections.checkpoints c USING (projection, generation)
WHERE l.projection = %(projection)s AND c.shape > %(shape)s
"""
_SELECT_RUNNABLE = """
SELECT id FROM projections.rebuilds
WHERE state NOT IN ('switched', 'cancelled', 'differing') AND NOT paused ORDER BY id
"""
_SELECT_OPEN = "SELECT id FROM projections.rebuilds WHERE state NOT IN ('switched', 'cancelled') ORDER BY id"
# Columns are named as the fields of a Rebuild.
_SELECT_REBUILD = """
SELECT r.state, r.paused, r.error, r.workers, r.accept_differences, r.upto, r.events AS total,
       r.who, r.reason,
       extract(epoch FROM r.began_at)::float8 AS began_at,
       extract(epoch FROM clock_timestamp() - r.began_at)::float8 AS seconds,
       coalesce((SELECT sum(events) FROM projections.shares s WHERE s.rebuild = r.id), 0)::bigint AS events,
       coalesce((SELECT sum(rows) FROM projections.shares s WHERE s.rebuild = r.id), 0)::bigint AS rows,
       coalesce((SELECT sum((events - began_events)
                            / extract(epoch FROM nullif(changed_at - began_at, interval '0')))
                 FROM projections.shares s WHERE s.rebuild = r.id), 0)::float8 AS rate,
       (SELECT greatest(0, (SELECT position FROM ledger.head) - min(c.position))
        FROM projections.builds b JOIN projections.checkpoints c USING (projection, generation)
        WHERE b.rebuild = r.id) AS behind,
       CASE WHEN r.state = 'comparing' THEN (
           SELECT count(DISTINCT o.projection) FROM projections.builds b
           JOIN projections.operations o ON o.projection = b.projection AND o.generation = b.generation
           WHERE b.rebuild = r.id AND o.action = 'compare' AND o.at >= r.changed_at) ELSE 0 END AS compared,
       EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = r.id::integer::oid
               AND classid = hashtext('projections.rebuild')::oid
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS driven
FROM projections.rebuilds r WHERE r.id = %(rebuild)s
"""
_SELECT_BUILDS = """
SELECT projection, generation, shape, attached FROM projections.builds
WHERE rebuild = %(rebuild)s ORDER BY projection
"""
_UPDATE_STATE = """
UPDATE projections.rebuilds SET state = %(state)s, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled') AND NOT paused
"""
_UPDATE_PAUSED = """
UPDATE projections.rebuilds SET paused = true, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled', 'differing')
"""
_UPDATE_RESUMED = """
UPDATE projections.rebuilds
SET paused = false, error = NULL, changed_at = now(),
    state = CASE state WHEN 'differing' THEN 'comparing' ELSE state END
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled')
"""
_UPDATE_CANCELLED = """
UPDATE projections.rebuilds SET state = 'cancelled', paused = false, error = NULL, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled')
"""
# Only an older release could switch to what is being built.
_SELECT_LIVE_BUILD = """
SELECT projection, generation FROM projections.live JOIN projections.builds USING (projection, generation)
WHERE rebuild = %(rebuild)s LIMIT 1
"""
# Whoever drives it holds this lock.
_CANCEL_DRIVER_QUERY = """
SELECT pg_cancel_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = %(rebuild)s::integer::oid
AND classid = hashtext('projections.rebuild')::oid
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SELECT_CANCELLED_BUILDS = """
SELECT b.projection, b.generation FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE r.state = 'cancelled' AND (%(rebuild)s::bigint IS NULL OR r.id = %(rebuild)s)
"""
_END_BUILDS = "UPDATE projections.builds SET ended = true WHERE rebuild = %(rebuild)s"
_DELETE_CHECKPOINTS = """
WITH parked AS (
    DELETE FROM projections.parked p USING projections.builds b
    WHERE b.rebuild = %(rebuild)s AND p.projection = b.projection AND p.generation = b.generation)
DELETE FROM projections.checkpoints c USING projections.builds b
WHERE b.rebuild = %(rebuild)s AND c.projection = b.projection AND c.generation = b.generation
"""


class Build(NamedTuple):
    """A generation in the making."""

    projection: str
    generation: int
    shape: int
    attached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """How a rebuild stands.

    upto     the head of the log when it began: what is filled; the rest is caught up with
    rate     events a second that its workers have filled, since each began or went on
    total    events to fill, None until they are counted; `events` and `rows` are filled
    seconds  since it began
    error    why it was paused by itself, or could not be compared
    behind   events of the log that not all of its generations have; None before they can catch up
    compared views compared already; `indexed_count` are those that are attached
    driven   whether a process is at work on it
    """

    id: int
    state: str
    paused: bool
    error: str | None
    workers: int
    accept_differences: bool
    upto: int
    total: int | None
    who: str
    reason: str
    began_at: float
    seconds: float
    events: int
    rows: int
    rate: float
    behind: int | None
    compared: int
    driven: bool
    builds: tuple[Build, ...]

    @property
    def is_over(self) -> bool:
        return self.state in ("switched", "cancelled")

    @property
    def needs_driver(self) -> bool:
        """Somebody should be driving it, and nobody does."""
        return not (self.is_over or self.paused or self.driven or self.state == "differing")

    @property
    def indexed_count(self) -> int:
        return sum(build.attached for build in self.builds)

    @property
    def label(self) -> str:
        """For a line of text."""
        names = [build.projection for build in self.builds]
        return ", ".join(names) if len(names) < 4 else f"{len(names)} projections"


async def begin(
    conn: Conn,
    projections: Sequence[Projection],
    operator: Operator,
    *,
    workers: int = 1,
    accept_differences: bool = False,
) -> int:
    """Register a rebuild of these views, for whoever drives it, and make its tables.

    Raises InvalidProjectionState when one of them is being rebuilt already, saying by whom, or when what is
    live was built by a later release, of which this would make less.
    """
    names = sorted(projection.name for projection in projections)
    parameters = {
        "workers": workers,
        "accept": accept_differences,
        "who": operator.who,
        "reason": operator.reason,
    }
    try:
        async with conn.transaction():
            row = await fetch_one(conn, _INSERT_REBUILD, parameters)
            assert row is not None
            rebuild_id, upto = row
            for projection in sorted(projections, key=lambda projection: projection.name):
                build_parameters = {
                    "rebuild": rebuild_id,
                    "projection": projection.name,
                    "shape": projection.shape,
                }
                later_generation = await (
                    await conn.execute(_SELECT_LATER_SHAPE, build_parameters)
                ).fetchone()
                if later_generation is not None:
                    raise InvalidProjectionState(
                        f"generation {later_generation[0]} of {projection.name}, which is live, was "
                        f"built by a later "
                        "release: use that one's command."
                    )
                generation_row = await fetch_one(conn, _INSERT_BUILD, build_parameters)
                assert generation_row is not None
                by_day = projection.retention_days is not None
                await partitions.create_detached(conn, projection.name, generation_row[0], by_day=by_day)
                details = {"rebuild": rebuild_id, "workers": workers}
                await operations.record(
                    conn, operator, "rebuild", projection.name, generation_row[0], upto, details
                )
            await conn.execute(_INSERT_SHARDS, {"rebuild": rebuild_id, "workers": workers})
    except UniqueViolation:
        active = await fetch_one(conn, _SELECT_ACTIVE, {"names": names})
        if active is None:
            raise InvalidProjectionState(
                "another rebuild began or ended at this moment: try again."
            ) from None
        raise InvalidProjectionState(
            f"rebuild {active[0]}, begun by {active[1]} at {active[2]}, {active[4]} {active[3]}."
        ) from None
    return int(rebuild_id)


async def load(conn: Conn, rebuild_id: int) -> Rebuild:
    """How it stands. Raises InvalidProjectionState when there is none of that number."""
    cur = await conn.cursor(row_factory=dict_row).execute(_SELECT_REBUILD, {"rebuild": rebuild_id})
    row = await cur.fetchone()
    if row is None:
        raise InvalidProjectionState(f"there is no rebuild {rebuild_id}.")
    builds = await fetch_all(conn, _SELECT_BUILDS, {"rebuild": rebuild_id})
    return Rebuild(id=rebuild_id, builds=tuple(Build(*build) for build in builds), **row)


async def load_size_bytes(conn: Conn, rebuild: Rebuild) -> int | None:
    """How many bytes its new generations take; None while an index is being built over one."""
    try:
        return sum(
            [
                await partitions.get_size_bytes(conn, build.projection, build.generation)
                for build in rebuild.builds
            ]
        )
    except LockNotAvailable:
        return None


async def find_active(conn: Conn, projection_name: str) -> int | None:
    """The rebuild that is at work on a view, or waits for an operator."""
    row = await fetch_one(conn, _SELECT_ACTIVE, {"names": [projection_name]})
    return None if row is None else int(row[0])


async def find_last(conn: Conn, projection_name: str) -> int:
    """The last rebuild of a view, over or not. Raises InvalidProjectionState when there was none."""
    row = await fetch_one(conn, _SELECT_LAST, {"projection": projection_name})
    if row is None or row[0] is None:
        raise InvalidProjectionState(f"{projection_name} has not been rebuilt.")
    return int(row[0])


async def list_runnable(conn: Conn, projections: Iterable[Projection]) -> list[int]:
    """The rebuilds that a release with these views should be driving."""
    rebuild_ids = [row[0] for row in await fetch_all(conn, _SELECT_RUNNABLE)]
    known_projections = list(projections)
    return [
        rebuild_id for rebuild_id in rebuild_ids if can_build(await load(conn, rebuild_id), known_projections)
    ]


def can_build(rebuild: Rebuild, projections: Iterable[Projection]) -> bool:
    """Whether a release with these views can make all that is to be made. A later one's rows it cannot."""
    shapes = {projection.name: projection.shape for projection in projections}
    return all(build.shape <= shapes.get(build.projection, 0) for build in rebuild.builds)


async def list_open(conn: Conn) -> list[int]:
    """Those that are not over, also what is paused or waits for an operator."""
    return [row[0] for row in await fetch_all(conn, _SELECT_OPEN)]


async def pause(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Have it stop behind the pages under way. Raises InvalidProjectionState when it is over, or differs."""
    async with conn.transaction():
        await _pause(conn, rebuild_id, None)
        await _record_operation(conn, await load(conn, rebuild_id), operator, "pause")


async def pause_on_error(conn: Conn, rebuild_id: int, error: str) -> None:
    """Have it stop because of an error, which is kept. Raises InvalidProjectionState when it is over."""
    await _pause(conn, rebuild_id, error)


async def resume(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Have it go on from where it stopped; one that differs is compared again. Raises
    InvalidProjectionState when it is over."""
    async with conn.transaction():
        if (await conn.execute(_UPDATE_RESUMED, {"rebuild": rebuild_id})).rowcount == 0:
            raise InvalidProjectionState(f"rebuild {rebuild_id} is over.")
        await _record_operation(conn, await load(conn, rebuild_id), operator, "resume")


async def cancel(conn: Conn, rebuild_id: int, operator: Operator) -> bool:
    """End it and drop what it made; the live generations are as they were. False when something is in the
    way of that yet: `drop_cancelled_generations` drops it later. Raises InvalidProjectionState."""
    rebuild = await load(conn, rebuild_id)
    async with conn.transaction():
        if (await conn.execute(_UPDATE_CANCELLED, {"rebuild": rebuild_id})).rowcount == 0:
            raise InvalidProjectionState(f"rebuild {rebuild_id} is over.")
        live_build = await fetch_one(conn, _SELECT_LIVE_BUILD, {"rebuild": rebuild_id})
        if live_build is not None:
            raise InvalidProjectionState(
                f"generation {live_build[1]} of {live_build[0]} is live: roll {live_build[0]} back first."
            )
        await conn.execute(_DELETE_CHECKPOINTS, {"rebuild": rebuild_id})
        await conn.execute(_END_BUILDS, {"rebuild": rebuild_id})
        await _record_operation(conn, rebuild, operator, "cancel")
    # An index in the making would be finished first, which may take hours. Only the user itself may do
    # that, not the role it has taken.
    with suppress(InsufficientPrivilege):
        async with conn.transaction():
            await conn.execute("SET LOCAL ROLE NONE")
            await conn.execute(_CANCEL_DRIVER_QUERY, {"rebuild": rebuild_id})
    for attempt in range(DROP_ATTEMPTS_MAX):
        if attempt:
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        if await drop_cancelled_generations(conn, rebuild_id):
            return True
    return False


async def drop_cancelled_generations(conn: Conn, rebuild_id: int | None = None) -> bool:
    """Drop the tables that a cancelled rebuild, or any, has left: whoever cancelled it may have died, or
    found an index being built. False when a reader or writer is in the way of one."""
    all_dropped = True
    builds = await fetch_all(conn, _SELECT_CANCELLED_BUILDS, {"rebuild": rebuild_id})
    for name, generation in await partitions.filter_existing(conn, builds):
        try:
            await partitions.drop_generation(conn, name, generation)
        except LockNotAvailable:
            all_dropped = False
    return all_dropped


async def transition(conn: Conn, rebuild_id: int, state: str, error: str | None = None) -> bool:
    """Its next stage; False when it was paused or cancelled meanwhile."""
    parameters = {"rebuild": rebuild_id, "state": state, "error": error}
    return (await conn.execute(_UPDATE_STATE, parameters)).rowcount == 1


async def _pause(conn: Conn, rebuild_id: int, error: str | None) -> None:
    if (await conn.execute(_UPDATE_PAUSED, {"rebuild": rebuild_id, "error": error})).rowcount == 0:
        rebuild = await load(conn, rebuild_id)
        reason = "over" if rebuild.is_over else "differing: it waits for a decision, accept or cancel it"
        raise InvalidProjectionState(f"rebuild {rebuild_id} is {reason}.")


async def _record_operation(conn: Conn, rebuild: Rebuild, operator: Operator, action: str) -> None:
    """Put on record, with each of its views, what was done to a rebuild."""
    for build in rebuild.builds:
        await operations.record(
            conn, operator, action, build.projection, build.generation, rebuild.upto, {"rebuild": rebuild.id}
        )
