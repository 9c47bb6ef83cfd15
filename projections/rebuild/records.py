"""The record of each rebuild: begin, pause, resume and cancel one, and load what is known of it.

A rebuild makes one new generation of each of its projections; a projection has one open rebuild at most.
`driver` takes a rebuild through its states, `promotion` makes its generations live. Whoever changes a
rebuild locks its row before any row of its projections, so that no two processes wait for each other.
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
from projections.rebuild.states import (
    ENDED_STATES,
    INITIAL_STATE,
    OPEN_STATES,
    RUNNING_STATES,
    RebuildAction,
    RebuildState,
    transition,
)

DROP_ATTEMPTS_MAX = 10
DROP_PAUSE_SECONDS = 0.3
WORKERS_MAX = 64

_INSERT_REBUILD = """
INSERT INTO projections.rebuilds (state, workers, accept_differences, upto, who, reason)
SELECT %(state)s, %(workers)s, %(accept)s, h.position, %(who)s, %(reason)s
FROM ledger.head h RETURNING id, upto
"""
# A rebuild's generations begin at 2: any process that finds a projection without one registers generation 1,
# live from the start.
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
       r.state, r.paused
FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE b.projection = ANY (%(names)s) AND NOT b.ended ORDER BY r.id LIMIT 1
"""
_SELECT_LATER_SHAPE = """
SELECT l.generation FROM projections.live l JOIN projections.checkpoints c USING (projection, generation)
WHERE l.projection = %(projection)s AND c.shape > %(shape)s
"""
_SELECT_RUNNABLE = """
SELECT id FROM projections.rebuilds WHERE state = ANY (%(running)s) AND NOT paused ORDER BY id
"""
_SELECT_OPEN = "SELECT id FROM projections.rebuilds WHERE state = ANY (%(open)s) ORDER BY id"
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
       CASE WHEN r.state = %(comparing_state)s THEN (
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
# Only an older release could make a generation live that is still being built.
_SELECT_LIVE_BUILD = """
SELECT projection, generation FROM projections.live JOIN projections.builds USING (projection, generation)
WHERE rebuild = %(rebuild)s LIMIT 1
"""
# The process that drives a rebuild holds this lock; see _TRY_DRIVER_LOCK in `driver`.
_CANCEL_DRIVER_QUERY = """
SELECT pg_cancel_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = %(rebuild)s::integer::oid
AND classid = hashtext('projections.rebuild')::oid
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SELECT_CANCELLED_BUILDS = """
SELECT b.projection, b.generation FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE r.state = %(cancelled_state)s AND (%(rebuild)s::bigint IS NULL OR r.id = %(rebuild)s)
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
    """A generation that a rebuild makes. `attached`: its indexes are built and the engine keeps it up to
    date."""

    projection: str
    generation: int
    shape: int
    attached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """A rebuild as of one moment.

    error     why it paused by itself, or why it could not be compared
    workers   backfill processes, one a shard
    upto      head of the log when it began: events up to here are backfilled, later ones caught up with
    total     events to backfill, None until they are counted; `events` and `rows` are backfilled so far
    began_at  unix seconds; `seconds` since then
    rate      events a second of its backfill processes, since each of them last started
    behind    events between the head of the log and the generation furthest behind; None before any of its
              generations can catch up
    compared  projections compared so far in this comparison
    driven    whether a process is driving it
    """

    id: int
    state: RebuildState
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
        """Whether it has ended: switched or cancelled."""
        return self.state in ENDED_STATES

    @property
    def needs_driver(self) -> bool:
        """Whether a process should be driving it and none is."""
        return self.state in RUNNING_STATES and not (self.paused or self.driven)

    @property
    def indexed_count(self) -> int:
        """Generations whose indexes are built."""
        return sum(build.attached for build in self.builds)

    @property
    def label(self) -> str:
        """Its projections, for a line of text."""
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
    """Record a rebuild of these projections, for whichever process will drive it, and create its tables.
    Returns its number.

    Raises InvalidProjectionState when one of them is being rebuilt already, or when its live generation was
    built by a later release, whose rows hold more than this one would build. Raises AlreadyDone.
    """
    parameters = {
        "state": INITIAL_STATE,
        "workers": workers,
        "accept": accept_differences,
        "who": operator.who,
        "reason": operator.reason,
    }
    ordered = sorted(projections, key=lambda projection: projection.name)
    try:
        async with conn.transaction():
            row = await fetch_one(conn, _INSERT_REBUILD, parameters)
            assert row is not None
            rebuild_id, upto = row
            for projection in ordered:
                generation = await _insert_build(conn, rebuild_id, projection)
                details = {"rebuild": rebuild_id, "workers": workers}
                await operations.record(conn, operator, "rebuild", projection.name, generation, upto, details)
            await conn.execute(_INSERT_SHARDS, {"rebuild": rebuild_id, "workers": workers})
    except UniqueViolation:
        names = [projection.name for projection in ordered]
        raise InvalidProjectionState(await _describe_active(conn, names)) from None
    return int(rebuild_id)


async def _insert_build(conn: Conn, rebuild_id: int, projection: Projection) -> int:
    """Create the table of the generation that this rebuild makes of a projection; its number."""
    parameters = {"rebuild": rebuild_id, "projection": projection.name, "shape": projection.shape}
    later = await fetch_one(conn, _SELECT_LATER_SHAPE, parameters)
    if later is not None:
        raise InvalidProjectionState(
            f"generation {later[0]} of {projection.name} is live and was built by a later release: use that "
            "release's `ledger` command."
        )
    row = await fetch_one(conn, _INSERT_BUILD, parameters)
    assert row is not None
    by_day = projection.retention_days is not None
    await partitions.create_detached(conn, projection.name, row[0], by_day=by_day)
    return int(row[0])


async def _describe_active(conn: Conn, names: Sequence[str]) -> str:
    """Which rebuild of one of these projections is open, and what it does now."""
    row = await fetch_one(conn, _SELECT_ACTIVE, {"names": names})
    if row is None:
        return "another rebuild of it started or ended at the same moment: try again."
    rebuild_id, who, began_at, name, state, paused = row
    if state == RebuildState.DIFFERING:
        progress = "waiting for a decision on its differences"
    else:
        progress = "paused" if paused else "running"
    return f"rebuild {rebuild_id} of {name}, started by {who} at {began_at}, is {progress}."


async def load(conn: Conn, rebuild_id: int) -> Rebuild:
    """A rebuild by its number. Raises InvalidProjectionState when there is none."""
    parameters = {"rebuild": rebuild_id, "comparing_state": RebuildState.COMPARING}
    row = await (await conn.cursor(row_factory=dict_row).execute(_SELECT_REBUILD, parameters)).fetchone()
    if row is None:
        raise InvalidProjectionState(f"there is no rebuild {rebuild_id}.")
    builds = await fetch_all(conn, _SELECT_BUILDS, {"rebuild": rebuild_id})
    state = RebuildState(row.pop("state"))
    return Rebuild(id=rebuild_id, state=state, builds=tuple(Build(*build) for build in builds), **row)


async def load_size_bytes(conn: Conn, rebuild: Rebuild) -> int | None:
    """How many bytes its new generations take; None while an index of one is being built."""
    try:
        return sum(
            [
                (await partitions.measure(conn, build.projection, build.generation)).size_bytes
                for build in rebuild.builds
            ]
        )
    except LockNotAvailable:
        return None


async def find_active(conn: Conn, projection_name: str) -> int | None:
    """The open rebuild of a projection; None when it has none."""
    row = await fetch_one(conn, _SELECT_ACTIVE, {"names": [projection_name]})
    return None if row is None else int(row[0])


async def list_runnable(conn: Conn, projections: Iterable[Projection]) -> list[int]:
    """The rebuilds that a release with these projections should be driving, oldest first."""
    rows = await fetch_all(conn, _SELECT_RUNNABLE, {"running": list(RUNNING_STATES)})
    rebuild_ids = [row[0] for row in rows]
    known_projections = list(projections)
    return [
        rebuild_id for rebuild_id in rebuild_ids if can_build(await load(conn, rebuild_id), known_projections)
    ]


def can_build(rebuild: Rebuild, projections: Iterable[Projection]) -> bool:
    """Whether a release with these projections can build all generations of a rebuild: it cannot build what
    a later release began."""
    shapes = {projection.name: projection.shape for projection in projections}
    return all(build.shape <= shapes.get(build.projection, 0) for build in rebuild.builds)


async def list_open(conn: Conn) -> list[int]:
    """The rebuilds that have not ended, oldest first: also those that are paused or wait for an operator."""
    return [row[0] for row in await fetch_all(conn, _SELECT_OPEN, {"open": list(OPEN_STATES)})]


async def pause(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Stop a rebuild after the pages in progress; it keeps what it has done. Raises TransitionRefused when it
    has ended or waits for a decision, AlreadyDone."""
    async with conn.transaction():
        await transition(conn, rebuild_id, RebuildAction.PAUSE)
        await _record_operation(conn, await load(conn, rebuild_id), operator, "pause")


async def pause_on_error(conn: Conn, rebuild_id: int, error: str) -> None:
    """Stop a rebuild because of an error, which is kept with it. Raises TransitionRefused when it has ended
    or waits for a decision."""
    await transition(conn, rebuild_id, RebuildAction.PAUSE, error=error)


async def resume(conn: Conn, rebuild_id: int, operator: Operator) -> None:
    """Continue a rebuild where it stopped; one with differences is compared again. Raises TransitionRefused
    when it has ended, AlreadyDone."""
    async with conn.transaction():
        await transition(conn, rebuild_id, RebuildAction.RESUME)
        await _record_operation(conn, await load(conn, rebuild_id), operator, "resume")


async def cancel(conn: Conn, rebuild_id: int, operator: Operator) -> bool:
    """End a rebuild and drop its tables; the live generations stay as they are.

    Returns False when a reader or an index build still holds a table: `drop_cancelled_generations` drops it
    later. Raises TransitionRefused when the rebuild has ended, InvalidProjectionState when one of its
    generations is live, AlreadyDone.
    """
    async with conn.transaction():
        await transition(conn, rebuild_id, RebuildAction.CANCEL)
        rebuild = await load(conn, rebuild_id)
        live_build = await fetch_one(conn, _SELECT_LIVE_BUILD, {"rebuild": rebuild_id})
        if live_build is not None:
            raise InvalidProjectionState(
                f"generation {live_build[1]} of {live_build[0]} is live: roll {live_build[0]} back first."
            )
        await conn.execute(_DELETE_CHECKPOINTS, {"rebuild": rebuild_id})
        await conn.execute(_END_BUILDS, {"rebuild": rebuild_id})
        await _record_operation(conn, rebuild, operator, "cancel")
    # The driver would finish the index that it builds first, which may take hours. Only the login user may
    # cancel its statement, not the role that the connection has taken.
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
    """Drop the tables that a cancelled rebuild, or any of them, has left behind: the process that cancelled
    it may have died, or found an index being built. False when one is still locked by a reader or writer."""
    all_dropped = True
    parameters = {"rebuild": rebuild_id, "cancelled_state": RebuildState.CANCELLED}
    builds = await fetch_all(conn, _SELECT_CANCELLED_BUILDS, parameters)
    for name, generation in await partitions.filter_existing(conn, builds):
        try:
            await partitions.drop_generation(conn, name, generation)
        except LockNotAvailable:
            all_dropped = False
    return all_dropped


async def _record_operation(conn: Conn, rebuild: Rebuild, operator: Operator, action: str) -> None:
    """Record for each projection of a rebuild what an operator did to it."""
    for build in rebuild.builds:
        await operations.record(
            conn, operator, action, build.projection, build.generation, rebuild.upto, {"rebuild": rebuild.id}
        )
