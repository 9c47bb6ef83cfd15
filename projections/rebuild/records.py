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

from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege, LockNotAvailable, UniqueViolation
from psycopg.rows import TupleRow, dict_row

from ledger.errors import OperationRefused
from projections.engine import operations, partitions
from projections.engine.operations import Operator
from projections.projection import Projection

DROP_ATTEMPTS_MAX = 10
DROP_PAUSE_SECONDS = 0.3
WORKERS_MAX = 64

_BEGIN = """
INSERT INTO projections.rebuilds (workers, accept_differences, upto, who, reason)
SELECT %(workers)s, %(accept)s, h.position, %(who)s, %(reason)s FROM ledger.head h RETURNING id, upto
"""
# From 2 on: the first is made, and live, where a process finds none.
_BUILD = """
INSERT INTO projections.builds (rebuild, projection, generation, shape)
SELECT %(rebuild)s, %(projection)s, 1 + greatest(1,
    (SELECT max(generation) FROM projections.checkpoints WHERE projection = %(projection)s),
    (SELECT max(generation) FROM projections.builds WHERE projection = %(projection)s)), %(shape)s
RETURNING generation
"""
_SHARES = """
INSERT INTO projections.shares (rebuild, share) SELECT %(rebuild)s, generate_series(0, %(workers)s - 1)
"""
_UNDER_WAY = """
SELECT r.id, r.who, to_char(r.began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), b.projection,
       CASE WHEN r.state = 'differing' THEN 'waits for a decision on'
            WHEN r.paused THEN 'was paused at work on' ELSE 'is at work on' END
FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE b.projection = ANY (%(names)s) AND NOT b.ended ORDER BY r.id LIMIT 1
"""
_LAST = "SELECT max(rebuild) FROM projections.builds WHERE projection = %(projection)s"
_LATER = """
SELECT l.generation FROM projections.live l JOIN projections.checkpoints c USING (projection, generation)
WHERE l.projection = %(projection)s AND c.shape > %(shape)s
"""
_UNFINISHED = """
SELECT id FROM projections.rebuilds
WHERE state NOT IN ('switched', 'cancelled', 'differing') AND NOT paused ORDER BY id
"""
_OPEN = "SELECT id FROM projections.rebuilds WHERE state NOT IN ('switched', 'cancelled') ORDER BY id"
# Columns are named as the fields of a Rebuild.
_LOAD = """
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
_BUILDS = """
SELECT projection, generation, shape, attached FROM projections.builds
WHERE rebuild = %(rebuild)s ORDER BY projection
"""
_NEXT = """
UPDATE projections.rebuilds SET state = %(state)s, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled') AND NOT paused
"""
_STOP = """
UPDATE projections.rebuilds SET paused = true, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled', 'differing')
"""
_RESUME = """
UPDATE projections.rebuilds
SET paused = false, error = NULL, changed_at = now(),
    state = CASE state WHEN 'differing' THEN 'comparing' ELSE state END
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled')
"""
_CANCEL = """
UPDATE projections.rebuilds SET state = 'cancelled', paused = false, error = NULL, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled')
"""
# Only an older release could switch to what is being built.
_LIVE = """
SELECT projection, generation FROM projections.live JOIN projections.builds USING (projection, generation)
WHERE rebuild = %(rebuild)s LIMIT 1
"""
# Whoever drives it holds this lock.
_INTERRUPT = """
SELECT pg_cancel_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = %(rebuild)s::integer::oid
AND classid = hashtext('projections.rebuild')::oid
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_CANCELLED = """
SELECT b.projection, b.generation FROM projections.builds b JOIN projections.rebuilds r ON r.id = b.rebuild
WHERE r.state = 'cancelled' AND (%(rebuild)s::bigint IS NULL OR r.id = %(rebuild)s)
"""
_ENDED = "UPDATE projections.builds SET ended = true WHERE rebuild = %(rebuild)s"
_FORGET = """
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
    compared views compared already; `indexed` are those that are attached
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
    def over(self) -> bool:
        return self.state in ("switched", "cancelled")

    @property
    def forsaken(self) -> bool:
        """Somebody should be driving it, and nobody does."""
        return not (self.over or self.paused or self.driven or self.state == "differing")

    @property
    def indexed(self) -> int:
        return sum(build.attached for build in self.builds)

    @property
    def names(self) -> str:
        """For a line of text."""
        names = [build.projection for build in self.builds]
        return ", ".join(names) if len(names) < 4 else f"{len(names)} projections"


async def begin(
    conn: AsyncConnection[TupleRow],
    projections: Sequence[Projection],
    operator: Operator,
    *,
    workers: int = 1,
    accept_differences: bool = False,
) -> int:
    """Register a rebuild of these views, for whoever drives it, and make its tables.

    Raises OperationRefused when one of them is being rebuilt already, saying by whom, or when what is live
    was built by a later release, of which this would make less.
    """
    names = sorted(projection.name for projection in projections)
    given = {"workers": workers, "accept": accept_differences, "who": operator.who, "reason": operator.reason}
    try:
        async with conn.transaction():
            row = await (await conn.execute(_BEGIN, given)).fetchone()
            assert row is not None
            rebuild, upto = row
            for projection in sorted(projections, key=lambda each: each.name):
                build = {"rebuild": rebuild, "projection": projection.name, "shape": projection.shape}
                later = await (await conn.execute(_LATER, build)).fetchone()
                if later is not None:
                    raise OperationRefused(
                        f"generation {later[0]} of {projection.name}, which is live, was built by a later "
                        "release: use that one's command."
                    )
                made = await (await conn.execute(_BUILD, build)).fetchone()
                assert made is not None
                by_day = projection.days_kept is not None
                await partitions.make_detached(conn, projection.name, made[0], by_day=by_day)
                details = {"rebuild": rebuild, "workers": workers}
                await operations.record(conn, operator, "rebuild", projection.name, made[0], upto, details)
            await conn.execute(_SHARES, {"rebuild": rebuild, "workers": workers})
    except UniqueViolation:
        found = await (await conn.execute(_UNDER_WAY, {"names": names})).fetchone()
        if found is None:
            raise OperationRefused("another rebuild began or ended at this moment: try again.") from None
        raise OperationRefused(
            f"rebuild {found[0]}, begun by {found[1]} at {found[2]}, {found[4]} {found[3]}."
        ) from None
    return int(rebuild)


async def load(conn: AsyncConnection[TupleRow], rebuild: int) -> Rebuild:
    """How it stands. Raises OperationRefused when there is none of that number."""
    cur = await conn.cursor(row_factory=dict_row).execute(_LOAD, {"rebuild": rebuild})
    found = await cur.fetchone()
    if found is None:
        raise OperationRefused(f"there is no rebuild {rebuild}.")
    builds = await (await conn.execute(_BUILDS, {"rebuild": rebuild})).fetchall()
    return Rebuild(id=rebuild, builds=tuple(Build(*build) for build in builds), **found)


async def size(conn: AsyncConnection[TupleRow], found: Rebuild) -> int | None:
    """How many bytes its new generations take; None while an index is being built over one."""
    try:
        return sum(
            [await partitions.bytes_of(conn, each.projection, each.generation) for each in found.builds]
        )
    except LockNotAvailable:
        return None


async def under_way(conn: AsyncConnection[TupleRow], name: str) -> int | None:
    """The rebuild that is at work on a view, or waits for an operator."""
    row = await (await conn.execute(_UNDER_WAY, {"names": [name]})).fetchone()
    return None if row is None else int(row[0])


async def last(conn: AsyncConnection[TupleRow], name: str) -> int:
    """The last rebuild of a view, over or not. Raises OperationRefused when there was none."""
    row = await (await conn.execute(_LAST, {"projection": name})).fetchone()
    if row is None or row[0] is None:
        raise OperationRefused(f"{name} has not been rebuilt.")
    return int(row[0])


async def unfinished(conn: AsyncConnection[TupleRow], projections: Iterable[Projection]) -> list[int]:
    """The rebuilds that a release with these views should be driving."""
    numbers = [row[0] for row in await (await conn.execute(_UNFINISHED)).fetchall()]
    known = list(projections)
    return [number for number in numbers if ours(await load(conn, number), known)]


def ours(found: Rebuild, projections: Iterable[Projection]) -> bool:
    """Whether a release with these views can make all that is to be made. A later one's rows it cannot."""
    shapes = {projection.name: projection.shape for projection in projections}
    return all(build.shape <= shapes.get(build.projection, 0) for build in found.builds)


async def open_ones(conn: AsyncConnection[TupleRow]) -> list[int]:
    """Those that are not over, also what is paused or waits for an operator."""
    return [row[0] for row in await (await conn.execute(_OPEN)).fetchall()]


async def pause(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """Have it stop behind the pages under way. Raises OperationRefused when it is over, or differs."""
    async with conn.transaction():
        await _stop(conn, rebuild, None)
        await _record(conn, await load(conn, rebuild), operator, "pause")


async def failed(conn: AsyncConnection[TupleRow], rebuild: int, error: str) -> None:
    """Have it stop because of an error, which is kept. Raises OperationRefused when it is over."""
    await _stop(conn, rebuild, error)


async def resume(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """Have it go on from where it stopped; one that differs is compared again. Raises OperationRefused when
    it is over."""
    async with conn.transaction():
        if (await conn.execute(_RESUME, {"rebuild": rebuild})).rowcount == 0:
            raise OperationRefused(f"rebuild {rebuild} is over.")
        await _record(conn, await load(conn, rebuild), operator, "resume")


async def cancel(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> bool:
    """End it and drop what it made; the live generations are as they were. False when something is in the
    way of that yet: `sweep` drops it later. Raises OperationRefused."""
    found = await load(conn, rebuild)
    async with conn.transaction():
        if (await conn.execute(_CANCEL, {"rebuild": rebuild})).rowcount == 0:
            raise OperationRefused(f"rebuild {rebuild} is over.")
        live = await (await conn.execute(_LIVE, {"rebuild": rebuild})).fetchone()
        if live is not None:
            raise OperationRefused(f"generation {live[1]} of {live[0]} is live: roll {live[0]} back first.")
        await conn.execute(_FORGET, {"rebuild": rebuild})
        await conn.execute(_ENDED, {"rebuild": rebuild})
        await _record(conn, found, operator, "cancel")
    # An index in the making would be finished first, which may take hours. Only the user itself may do
    # that, not the role it has taken.
    with suppress(InsufficientPrivilege):
        async with conn.transaction():
            await conn.execute("SET LOCAL ROLE NONE")
            await conn.execute(_INTERRUPT, {"rebuild": rebuild})
    for attempt in range(DROP_ATTEMPTS_MAX):
        if attempt:
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        if await sweep(conn, rebuild):
            return True
    return False


async def sweep(conn: AsyncConnection[TupleRow], rebuild: int | None = None) -> bool:
    """Drop the tables that a cancelled rebuild, or any, has left: whoever cancelled it may have died, or
    found an index being built. False when a reader or writer is in the way of one."""
    clean = True
    cancelled = await (await conn.execute(_CANCELLED, {"rebuild": rebuild})).fetchall()
    for name, generation in await partitions.present(conn, cancelled):
        try:
            await partitions.drop_generation(conn, name, generation)
        except LockNotAvailable:
            clean = False
    return clean


async def to_stage(
    conn: AsyncConnection[TupleRow], rebuild: int, state: str, error: str | None = None
) -> bool:
    """Its next stage; False when it was paused or cancelled meanwhile."""
    given = {"rebuild": rebuild, "state": state, "error": error}
    return (await conn.execute(_NEXT, given)).rowcount == 1


async def _stop(conn: AsyncConnection[TupleRow], rebuild: int, error: str | None) -> None:
    if (await conn.execute(_STOP, {"rebuild": rebuild, "error": error})).rowcount == 0:
        found = await load(conn, rebuild)
        what = "over" if found.over else "differing: it waits for a decision, accept or cancel it"
        raise OperationRefused(f"rebuild {rebuild} is {what}.")


async def _record(conn: AsyncConnection[TupleRow], found: Rebuild, operator: Operator, action: str) -> None:
    """Put on record, with each of its views, what was done to a rebuild."""
    for build in found.builds:
        await operations.record(
            conn, operator, action, build.projection, build.generation, found.upto, {"rebuild": found.id}
        )
