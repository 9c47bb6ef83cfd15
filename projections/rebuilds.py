"""Rebuilds as they are on record: begun, paused, resumed, cancelled, accepted, and how each stands.

A rebuild makes one new generation of each of its views. Of two operators who begin one of the same view the
second is told. Who takes a rebuild through its stages is `driving`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.rows import TupleRow

from ledger.errors import OperationRefused
from projections import partitions, switching
from projections.projection import Projection
from projections.switching import Operator

DROP_ATTEMPTS_MAX = 50
DROP_PAUSE_SECONDS = 0.2
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
SELECT r.id, r.who, to_char(r.began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), b.projection
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
_LOAD = """
SELECT r.state, r.paused, r.error, r.workers, r.accept_differences, r.upto, r.events, r.who, r.reason,
       extract(epoch FROM r.began_at)::float8, extract(epoch FROM clock_timestamp() - r.began_at)::float8,
       coalesce((SELECT sum(events) FROM projections.shares s WHERE s.rebuild = r.id), 0)::bigint,
       coalesce((SELECT sum(rows) FROM projections.shares s WHERE s.rebuild = r.id), 0)::bigint,
       coalesce((SELECT sum((events - began_events)
                            / extract(epoch FROM nullif(changed_at - began_at, interval '0')))
                 FROM projections.shares s WHERE s.rebuild = r.id), 0)::float8,
       EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = r.id::integer::oid
               AND classid = hashtext('projections.rebuild')::oid
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM projections.rebuilds r WHERE r.id = %(rebuild)s
"""
_BUILDS = """
SELECT projection, generation, shape, attached FROM projections.builds
WHERE rebuild = %(rebuild)s ORDER BY projection
"""
_NEXT = """
UPDATE projections.rebuilds SET state = %(state)s, error = NULL, changed_at = now()
WHERE id = %(rebuild)s AND state <> 'cancelled' RETURNING id
"""
_STOP = """
UPDATE projections.rebuilds SET paused = true, error = %(error)s, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled') RETURNING id
"""
_RESUME = """
UPDATE projections.rebuilds SET paused = false, error = NULL, changed_at = now()
WHERE id = %(rebuild)s AND state NOT IN ('switched', 'cancelled') RETURNING id
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
    error    why it was paused by itself
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
                await switching.record(conn, operator, "rebuild", projection.name, made[0], upto, details)
            await conn.execute(_SHARES, {"rebuild": rebuild, "workers": workers})
    except UniqueViolation:
        found = await (await conn.execute(_UNDER_WAY, {"names": names})).fetchone()
        if found is None:
            raise OperationRefused("another rebuild began or ended at this moment: try again.") from None
        raise OperationRefused(
            f"rebuild {found[0]}, begun by {found[1]} at {found[2]}, is at work on {found[3]}."
        ) from None
    return int(rebuild)


async def load(conn: AsyncConnection[TupleRow], rebuild: int) -> Rebuild:
    """How it stands. Raises OperationRefused when there is none of that number."""
    row = await (await conn.execute(_LOAD, {"rebuild": rebuild})).fetchone()
    if row is None:
        raise OperationRefused(f"there is no rebuild {rebuild}.")
    builds = await (await conn.execute(_BUILDS, {"rebuild": rebuild})).fetchall()
    (
        state,
        paused,
        error,
        workers,
        accept,
        upto,
        total,
        who,
        reason,
        began_at,
        seconds,
        events,
        rows,
        rate,
        driven,
    ) = row
    return Rebuild(
        id=rebuild,
        state=state,
        paused=paused,
        error=error,
        workers=workers,
        accept_differences=accept,
        upto=upto,
        total=total,
        who=who,
        reason=reason,
        began_at=began_at,
        seconds=seconds,
        events=events,
        rows=rows,
        rate=rate,
        driven=driven,
        builds=tuple(Build(*build) for build in builds),
    )


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
    """Have it stop behind the pages under way. Raises OperationRefused when it is over."""
    async with conn.transaction():
        await _stop(conn, rebuild, None)
        await _record(conn, await load(conn, rebuild), operator, "pause")


async def failed(conn: AsyncConnection[TupleRow], rebuild: int, error: str) -> None:
    """Have it stop because of an error, which is kept. Raises OperationRefused when it is over."""
    await _stop(conn, rebuild, error)


async def resume(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """Have it go on from where it stopped. Raises OperationRefused when it is over."""
    async with conn.transaction():
        if (await conn.execute(_RESUME, {"rebuild": rebuild})).rowcount == 0:
            raise OperationRefused(f"rebuild {rebuild} is over.")
        await _record(conn, await load(conn, rebuild), operator, "resume")


async def cancel(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """End it and drop what it made; the live generations are as they were. Raises OperationRefused."""
    found = await load(conn, rebuild)
    async with conn.transaction():
        if found.over or not await to_stage(conn, rebuild, "cancelled"):
            raise OperationRefused(f"rebuild {rebuild} is over.")
        await conn.execute(_FORGET, {"rebuild": rebuild})
        await conn.execute(_ENDED, {"rebuild": rebuild})
        await _record(conn, found, operator, "cancel")
    for build in found.builds:
        for attempt in range(DROP_ATTEMPTS_MAX):
            try:
                await partitions.drop_generation(conn, build.projection, build.generation)
                break
            except LockNotAvailable:  # a page under way, or a reader
                if attempt + 1 == DROP_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(DROP_PAUSE_SECONDS)


async def to_stage(conn: AsyncConnection[TupleRow], rebuild: int, state: str) -> bool:
    """Its next stage; False when it was cancelled meanwhile."""
    return (await conn.execute(_NEXT, {"rebuild": rebuild, "state": state})).rowcount == 1


async def accept(conn: AsyncConnection[TupleRow], rebuild: int, operator: Operator) -> None:
    """Switch to what was found to differ, for an operator who has looked. Raises OperationRefused."""
    found = await load(conn, rebuild)
    if found.state != "differing":
        raise OperationRefused(f"rebuild {rebuild} is {found.state}: there is nothing to accept.")
    told = {build.projection: {"rebuild": rebuild, "accepted": True} for build in found.builds}
    await switch(conn, found, operator, told)


async def switch(
    conn: AsyncConnection[TupleRow],
    found: Rebuild,
    operator: Operator,
    details: Mapping[str, Mapping[str, Any]],
) -> None:
    """Make all its generations live and end it. Raises OperationRefused; then nothing has changed."""
    async with conn.transaction():
        to = {build.projection: build.generation for build in found.builds}
        await switching.switch(conn, to, operator, details)
        if not await to_stage(conn, found.id, "switched"):
            raise OperationRefused(f"rebuild {found.id} is over.")
        await conn.execute(_ENDED, {"rebuild": found.id})


async def _stop(conn: AsyncConnection[TupleRow], rebuild: int, error: str | None) -> None:
    if (await conn.execute(_STOP, {"rebuild": rebuild, "error": error})).rowcount == 0:
        raise OperationRefused(f"rebuild {rebuild} is over.")


async def _record(conn: AsyncConnection[TupleRow], found: Rebuild, operator: Operator, action: str) -> None:
    """Put on record, with each of its views, what was done to a rebuild."""
    for build in found.builds:
        await switching.record(
            conn, operator, action, build.projection, build.generation, found.upto, {"rebuild": found.id}
        )
