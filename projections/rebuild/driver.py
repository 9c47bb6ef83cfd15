"""Driving a rebuild: new generations beside the live ones, filled, caught up, compared, then switched to.

    filling → indexing → catching up → comparing → switched, or differing: the operator looks, then decides

Each stage is kept in the database, and whoever drives a rebuild holds a lock that ends with its connection:
so one whose driver or worker was killed, or whose database was, goes on behind its last committed page when
the next takes it up. It has no side effects: no Event's id, no delivery, no position changes (invariant 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.errors import OperationRefused
from ledger.postgres.connections import connected, went_away
from ledger.store.log import position_at
from projections.engine import operations, partitions
from projections.engine.batch import Member, unfollowed
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.projection import Projection, described
from projections.rebuild import promotion, records
from projections.rebuild.comparison import Comparison, NotTogether, compare, summary
from projections.rebuild.generations import LiveChanged
from projections.rebuild.records import Build, Rebuild
from projections.rebuild.shards import Fill, FillFailed, filled

POLL_SECONDS = 0.1
# A full disk may refuse to keep even that the rebuild has stopped for it.
PAUSE_ATTEMPTS_MAX = 60
PAUSE_RETRY_SECONDS = 1.0
# How long a live generation that has not come to where the rebuild began is waited for.
LIVE_STUCK_SECONDS = 10.0

# As they are read: of rows with a term, streams that ended before it are not.
_COUNT = """
SELECT count(*) FROM ledger.events
WHERE notification_id <= %(upto)s AND topic <> ALL (%(without)s::text[])
AND (%(since)s = 0 OR originator_id IN (
    SELECT originator_id FROM ledger.events WHERE notification_id > %(since)s))
"""
_COUNTED = "UPDATE projections.rebuilds SET events = %(events)s WHERE id = %(rebuild)s"
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
        if not records.ours(await records.load(conn, rebuild), projections):
            raise OperationRefused(f"rebuild {rebuild} was begun by a later release: use that one's command.")
        row = await (await conn.execute(_LOCK, {"rebuild": rebuild})).fetchone()
        if row is None or not row[0]:
            return False
        await clock.refresh(conn)
        driver = _Driver(conn, clock, engine, projections, rebuild, fill)
        try:
            await driver.run()
        except psycopg.OperationalError as error:
            if conn.broken or went_away(error):
                raise
            await _pause(conn, rebuild, described(error))
        except FillFailed as error:
            await _pause(conn, rebuild, f"a worker gave up: {error}")
        except (NotTogether, OperationRefused) as error:
            await _pause(conn, rebuild, str(error))
        except Exception as error:  # the edge: kept with the rebuild, for the operator
            await _pause(conn, rebuild, described(error))
        return True


async def _pause(conn: AsyncConnection[TupleRow], rebuild: int, error: str) -> None:
    for attempt in range(PAUSE_ATTEMPTS_MAX):
        try:
            with suppress(OperationRefused):  # cancelled meanwhile: then what it misses is what was dropped
                await records.failed(conn, rebuild, error)
            return
        except psycopg.OperationalError as failure:
            if conn.broken or went_away(failure) or attempt + 1 == PAUSE_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(PAUSE_RETRY_SECONDS)


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
        found = await records.load(self._conn, self._rebuild)
        if found.paused or found.state == "cancelled":
            raise _Stopped
        return found

    async def _next(self, state: str, error: str | None = None) -> None:
        if not await records.to_stage(self._conn, self._rebuild, state, error):
            raise _Stopped

    async def _filling(self) -> None:
        found = await self._going_on()
        counting = asyncio.create_task(self._count(found), name="rebuild counting")
        try:
            done = await filled(self._conn, self._rebuild, self._fill)
            await counting
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
        if done:
            await self._next("indexing")

    async def _count(self, found: Rebuild) -> None:
        if found.total is not None:
            return
        now = self._clock.now()
        members = [
            Member(projection, build.generation, partitions.rows_since(now, projection.days_kept))
            for build in found.builds
            for projection in [self._projections[build.projection]]
        ]
        first = min(member.since for member in members)
        since = await position_at(self._conn, first - 1e-6) if first else 0
        counting = {"upto": found.upto, "without": unfollowed(members), "since": since}
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
        # Also for one that another has begun: what of it is done is told as of when the stage began.
        await self._next("comparing")
        found = await self._going_on()
        await self._clock.refresh(self._conn)
        operator = Operator(found.who, found.reason)
        told: dict[str, dict[str, Any]] = {}
        async with self._advancing():
            for build in found.builds:
                await self._going_on()
                details = {"rebuild": found.id, **await self._compared(build, found.upto)}
                await operations.record(
                    self._conn, operator, "compare", build.projection, build.generation,
                    details.get("position", found.upto), details,
                )  # fmt: skip
                details.pop("differences", None)
                told[build.projection] = details
            # Nothing was live: then there is nothing that it could differ from.
            differing = not all(each.get("equal", each["live"] is None) for each in told.values())
            if differing and not found.accept_differences:
                await self._next("differing", "; ".join(_not_compared(told)) or None)
                return
            accepted = {name: {**details, "accepted": differing} for name, details in told.items()}
            # Rolled back meanwhile: another is live, and has to be compared with.
            with suppress(LiveChanged):
                if not await promotion.switch(self._conn, found, operator, accepted):
                    raise _Stopped

    async def _compared(self, build: Build, upto: int) -> dict[str, Any]:
        """What came of comparing, for the record. There may be nothing to compare with, a view that is new;
        or no way to, a live generation that is stuck where the rebuild left it behind long ago."""
        projection = self._projections[build.projection]
        if projection.broken is not None:
            broken = projection.broken.encode()
            row = await (await self._conn.execute(broken, {"generation": build.generation})).fetchone()
            if row is not None:
                raise OperationRefused(f"{projection.name}: {row[0]}")
        standing = await self._standing(build)
        if standing.live is None or standing.behind(upto):
            return {"compared": False, "live": standing.live, "live_position": standing.live_position}
        assert standing.live_shape is not None
        # What the live generation has no column for is new, not different.
        shared = projection.as_of(min(standing.live_shape, build.shape))
        now = self._clock.now()
        compared = await compare(self._conn, shared, standing.live, build.generation, now=now)
        added = [column.name for column in projection.columns if column not in shared.columns]
        return {"live": standing.live, **_told(compared), "added": added}

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
        if row[0] is None:
            await self._going_on()  # cancelled at this moment
            raise OperationRefused(
                f"generation {build.generation} of {build.projection} is gone: cancel this."
            )
        return _Standing(*row)


def _not_compared(told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name} could not be compared: generation {each['live']}, which is live, stands still at "
        f"{each['live_position']}"
        for name, each in told.items()
        if not each["compared"] and each["live"] is not None
    ]


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
