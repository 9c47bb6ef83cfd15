"""Driving a rebuild: new generations beside the live ones, filled, caught up, compared, then switched to.

    filling → indexing → catching up → comparing → switched, or differing: the operator looks, then decides

Each stage is kept in the database, and whoever drives a rebuild holds a lock that ends with its connection:
so one whose driver or worker was killed, or whose database was, goes on behind its last committed page when
the next takes it up. It has no side effects: no Event's id, no delivery, no position changes (invariant 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.database import connected
from ledger.errors import OperationRefused
from projections import partitions, rebuilds, switching
from projections.comparing import Comparison, NotTogether, compare, summary
from projections.engine import Engine
from projections.passing import Member, unfollowed
from projections.projection import Projection, described
from projections.rebuilds import Build, Rebuild
from projections.switching import Operator

POLL_SECONDS = 0.1
FILL_ATTEMPTS_MAX = 3
# How long a live generation that has not come to where the rebuild began is waited for.
LIVE_STUCK_SECONDS = 10.0

Fill = Callable[[int, int], Coroutine[Any, Any, bool]]
"""Fill a share of a rebuild, in a process of its own; whether it is done. Raises FillFailed."""

_COUNT = """
SELECT count(*) FROM ledger.events WHERE notification_id <= %(upto)s AND topic <> ALL (%(without)s::text[])
"""
_COUNTED = "UPDATE projections.rebuilds SET events = %(events)s WHERE id = %(rebuild)s"
_SHARES_LEFT = "SELECT share FROM projections.shares WHERE rebuild = %(rebuild)s AND NOT done ORDER BY share"
_SHARE_AT = "SELECT stream FROM projections.shares WHERE rebuild = %(rebuild)s AND share = %(share)s"
_CHECKPOINT = """
INSERT INTO projections.checkpoints (projection, generation, position, recorded_at, shape)
SELECT %(projection)s, %(generation)s, %(upto)s,
       coalesce((SELECT recorded_at FROM ledger.events WHERE notification_id = %(upto)s), 'epoch'), %(shape)s
"""
# Not cancelled while the indexes were built: a checkpoint without its table would never go on.
_HOLD = "SELECT FROM projections.rebuilds WHERE id = %(rebuild)s AND state = 'indexing' FOR SHARE"
_ATTACHED = """
UPDATE projections.builds SET attached = true
WHERE projection = %(projection)s AND generation = %(generation)s
"""
_STANDING = """
SELECT new.position, l.generation, live.position, live.shape, h.position
FROM projections.builds b
CROSS JOIN ledger.head h
LEFT JOIN projections.checkpoints new USING (projection, generation)
LEFT JOIN projections.live l ON l.projection = b.projection
LEFT JOIN projections.checkpoints live ON live.projection = l.projection AND live.generation = l.generation
WHERE b.rebuild = %(rebuild)s AND b.projection = %(projection)s
"""
_LOCK = "SELECT pg_try_advisory_lock(hashtext('projections.rebuild'), %(rebuild)s::integer)"


class FillFailed(Exception):
    """A worker gave up; `str()` says why, in one line without personal data."""


async def drive(
    dsn: str,
    clock: Clock,
    engine: Engine,
    projections: Sequence[Projection],
    rebuild: int,
    fill: Fill,
) -> bool:
    """Take a rebuild through its stages until it is over, paused, or differing; False when another
    process drives it. What goes wrong pauses it and is kept as its `error`.

    Raises OperationRefused for one that is not for this release to make, and psycopg.OperationalError and
    Unavailable: the next to drive it goes on.
    """
    async with connected(dsn, "ledger_projector", name="rebuild") as conn:
        if not rebuilds.ours(await rebuilds.load(conn, rebuild), projections):
            raise OperationRefused(f"rebuild {rebuild} was begun by a later release: use that one's command.")
        row = await (await conn.execute(_LOCK, {"rebuild": rebuild})).fetchone()
        if row is None or not row[0]:
            return False
        driver = _Driver(conn, clock, engine, projections, rebuild, fill)
        try:
            await driver.run()
        except psycopg.OperationalError:
            raise
        except (FillFailed, NotTogether, OperationRefused) as error:
            await _pause(conn, rebuild, f"{type(error).__name__}: {error}")
        except Exception as error:  # the edge: kept with the rebuild, for the operator
            await _pause(conn, rebuild, described(error))
        return True


async def _pause(conn: AsyncConnection[TupleRow], rebuild: int, error: str) -> None:
    with suppress(OperationRefused):  # cancelled meanwhile: then what it misses is what was dropped
        await rebuilds.failed(conn, rebuild, error)


class _Standing(NamedTuple):
    """Where a new generation stands, the live one, and the log."""

    position: int
    live: int | None
    live_position: int | None
    live_shape: int | None
    head: int

    def behind(self, position: int) -> bool:
        return self.live_position is not None and self.live_position < position


class _Stopped(Exception):
    """Paused or cancelled meanwhile."""


class _Driver:
    def __init__(
        self,
        conn: AsyncConnection[TupleRow],
        clock: Clock,
        engine: Engine,
        projections: Iterable[Projection],
        rebuild: int,
        fill: Fill,
    ) -> None:
        self._conn = conn
        self._clock = clock
        self._engine = engine
        self._projections = {projection.name: projection for projection in projections}
        self._rebuild = rebuild
        self._fill = fill

    async def run(self) -> None:
        stages = {
            "filling": self._filling,
            "indexing": self._indexing,
            "catching up": self._catching_up,
            "comparing": self._comparing,
        }
        try:
            while (stage := stages.get((await self._going_on()).state)) is not None:
                await stage()
        except _Stopped:
            return

    async def _going_on(self) -> Rebuild:
        """How it stands now. Raises _Stopped when it is not to go on."""
        found = await rebuilds.load(self._conn, self._rebuild)
        if found.paused or found.state == "cancelled":
            raise _Stopped
        return found

    async def _next(self, state: str) -> None:
        if not await rebuilds.to_stage(self._conn, self._rebuild, state):
            raise _Stopped

    async def _filling(self) -> None:
        found = await self._going_on()
        left = await (await self._conn.execute(_SHARES_LEFT, {"rebuild": self._rebuild})).fetchall()
        filling = [asyncio.create_task(self._share(row[0])) for row in left]
        try:
            if found.total is None:
                await self._count(found)
            # Whatever becomes of one share, the others go on to their ends.
            results = await asyncio.gather(*filling, return_exceptions=True)
        finally:
            for task in filling:
                task.cancel()
        await self._going_on()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if not all(results):
            raise FillFailed("a worker stopped before its share was done")
        await self._next("indexing")

    async def _share(self, share: int) -> bool:
        """A worker may be killed: another takes its place, as long as there is progress."""
        place = {"rebuild": self._rebuild, "share": share}
        attempts, reached = 0, ""
        while True:
            try:
                return await self._fill(self._rebuild, share)
            except FillFailed:
                row = await (await self._conn.execute(_SHARE_AT, place)).fetchone()
                assert row is not None
                attempts = attempts + 1 if row[0] == reached else 1
                reached = row[0]
                if attempts == FILL_ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(POLL_SECONDS)

    async def _count(self, found: Rebuild) -> None:
        members = [Member(self._projections[build.projection], build.generation) for build in found.builds]
        counting = {"upto": found.upto, "without": unfollowed(members)}
        row = await (await self._conn.execute(_COUNT, counting)).fetchone()
        assert row is not None
        await self._conn.execute(_COUNTED, {"rebuild": self._rebuild, "events": row[0]})

    async def _indexing(self) -> None:
        """Attaching builds the indexes. The checkpoint appears together with the partition: from then on
        the ordinary engine keeps it up to date."""
        for build in (await self._going_on()).builds:
            found = await self._going_on()
            if build.attached:
                continue
            key = {"projection": build.projection, "generation": build.generation}
            async with self._conn.transaction():
                await self._conn.execute("SET LOCAL maintenance_work_mem = '256MB'")
                await partitions.attach(self._conn, build.projection, build.generation)
                held = await self._conn.execute(_HOLD, {"rebuild": self._rebuild})
                if held.rowcount == 0:
                    raise _Stopped
                await self._conn.execute(_CHECKPOINT, {**key, "upto": found.upto, "shape": build.shape})
                await self._conn.execute(_ATTACHED, key)
            await partitions.analyze(self._conn, build.projection, build.generation)
        await self._next("catching up")

    async def _catching_up(self) -> None:
        loop = asyncio.get_running_loop()
        patience: float | None = None
        goal: int | None = None
        async with self._advancing():
            while True:
                found = await self._going_on()
                standing = [await self._standing(build) for build in found.builds]
                goal = standing[0].head if goal is None else goal
                caught_up = all(each.position >= goal for each in standing)
                if caught_up and not any(each.behind(found.upto) for each in standing):
                    break
                if caught_up:
                    patience = patience or loop.time() + LIVE_STUCK_SECONDS
                    if loop.time() > patience:
                        break
                await asyncio.sleep(POLL_SECONDS)
        await self._next("comparing")

    async def _comparing(self) -> None:
        found = await self._going_on()
        await self._clock.refresh(self._conn)
        told: dict[str, dict[str, Any]] = {}
        async with self._advancing():
            for build in found.builds:
                told[build.projection] = {"rebuild": found.id, **await self._compared(build, found.upto)}
            operator = Operator(found.who, found.reason)
            for build in found.builds:
                details = told[build.projection]
                await switching.record(
                    self._conn, operator, "compare", build.projection, build.generation,
                    details.get("position", found.upto), details,
                )  # fmt: skip
                details.pop("differences", None)
            differing = not all(details.get("equal", True) for details in told.values())
            if differing and not found.accept_differences:
                await self._next("differing")
            else:
                accepted = {name: {**details, "accepted": differing} for name, details in told.items()}
                await rebuilds.switch(self._conn, found, operator, accepted)

    async def _compared(self, build: Build, upto: int) -> dict[str, Any]:
        """What came of comparing, for the record. There may be nothing to compare with: a view that is new,
        or one whose live generation is stuck where the rebuild left it behind long ago."""
        projection = self._projections[build.projection]
        if projection.broken is not None:
            broken = projection.broken.encode()
            row = await (await self._conn.execute(broken, {"generation": build.generation})).fetchone()
            if row is not None:
                raise OperationRefused(f"{projection.name}: {row[0]}")
        standing = await self._standing(build)
        if standing.live is None or standing.behind(upto):
            return {"compared": False, "live_position": standing.live_position}
        assert standing.live_shape is not None
        # What the live generation has no column for is new, not different.
        shared = projection.as_of(min(standing.live_shape, build.shape))
        now = self._clock.now()
        compared = await compare(self._conn, shared, standing.live, build.generation, now=now)
        added = [column.name for column in projection.columns if column not in shared.columns]
        return {**_told(compared), "added": added}

    @asynccontextmanager
    async def _advancing(self) -> AsyncIterator[None]:
        """The ordinary engine, here too: there may be no worker anywhere."""
        running = asyncio.create_task(self._engine.run(), name="rebuild catching up")
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _standing(self, build: Build) -> _Standing:
        parameters = {"rebuild": self._rebuild, "projection": build.projection}
        row = await (await self._conn.execute(_STANDING, parameters)).fetchone()
        assert row is not None
        return _Standing(*row)


def _told(compared: Comparison) -> dict[str, Any]:
    return {
        "compared": True,
        "position": compared.position,
        "equal": compared.equal,
        "rows": compared.other.rows,
        "digest": compared.other.sum,
        "live_rows": compared.live.rows,
        "live_digest": compared.live.sum,
        "differences": summary(compared.differences),
    }
