"""The driver of a rebuild: the one process that takes it from state to state until it ends or waits.

The state is in the database and the driver holds an advisory lock that ends with its connection, so when the
driver, a backfill process or the database is killed, the next driver continues after the last committed page.
Driving has no side effects: no Event gets another id, nothing is delivered, no position changes (README,
invariant 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg

from ledger.clock import Clock
from ledger.errors import InvalidProjectionState
from ledger.logs import describe_error
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, fetch_one, open_connection
from ledger.postgres.sessions import is_disconnect
from ledger.store.positions import find_last_position
from projections.engine import operations, partitions
from projections.engine.batch import Target, ignored_topics
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.projection import Projection
from projections.rebuild import promotion, records
from projections.rebuild.comparison import Comparison, NoCommonPosition, compare, differences_json
from projections.rebuild.generations import LiveGenerationChanged
from projections.rebuild.records import Build, Rebuild
from projections.rebuild.shards import BackfillFailed, BackfillShard, backfill_shards
from projections.rebuild.states import RebuildAction, RebuildState, TransitionRefused, transition

POLL_SECONDS = 0.1
# A full disk may refuse even the UPDATE that records the pause.
PAUSE_ATTEMPTS_MAX = 60
PAUSE_RETRY_SECONDS = 1.0
# How long the driver waits for a live generation that is still behind the rebuild's `upto`.
LIVE_STALLED_SECONDS = 10.0

# Counts what the backfill reads. Where rows are kept for some days only, it skips streams that ended before.
_COUNT_EVENTS = """
SELECT count(*) FROM ledger.events
WHERE notification_id <= %(upto)s AND topic <> ALL (%(without)s::text[])
AND (%(since)s = 0 OR originator_id IN (
    SELECT originator_id FROM ledger.events WHERE notification_id > %(since)s))
"""
_UPDATE_EVENT_COUNT = "UPDATE projections.rebuilds SET events = %(events)s WHERE id = %(rebuild)s"
_INSERT_CHECKPOINT = """
INSERT INTO projections.checkpoints (projection, generation, position, recorded_at, shape)
SELECT %(projection)s, %(generation)s, %(upto)s,
       coalesce((SELECT recorded_at FROM ledger.events WHERE notification_id = %(upto)s), 'epoch'), %(shape)s
"""
# The rebuild may have been cancelled while the index was built. A checkpoint without a table would fail for
# ever, so it is inserted only while this lock keeps the state from changing.
_LOCK_INDEXING_REBUILD = (
    "SELECT FROM projections.rebuilds WHERE id = %(rebuild)s AND state = %(indexing_state)s FOR SHARE"
)
_MARK_ATTACHED = """
UPDATE projections.builds SET attached = true
WHERE projection = %(projection)s AND generation = %(generation)s
"""
_SELECT_POSITIONS = """
SELECT new.position, l.generation, live.position, live.shape, h.position
FROM projections.builds b
CROSS JOIN ledger.head h
LEFT JOIN projections.checkpoints new USING (projection, generation)
LEFT JOIN projections.live l ON l.projection = b.projection
LEFT JOIN projections.checkpoints live ON live.projection = l.projection AND live.generation = l.generation
WHERE b.rebuild = %(rebuild)s AND b.projection = %(projection)s
"""
_TRY_DRIVER_LOCK = "SELECT pg_try_advisory_lock(hashtext('projections.rebuild'), %(rebuild)s::integer)"


async def drive(
    dsn: str,
    clock: Clock,
    engine: Engine,
    projections: Sequence[Projection],
    rebuild_id: int,
    backfill_shard: BackfillShard,
) -> bool:
    """Take a rebuild through its states until it has ended, is paused, or waits for an operator; False when
    another process drives it. A failure pauses it and is kept as its `error`.

    Raises InvalidProjectionState for a rebuild that a later release began, and psycopg.OperationalError or
    Unavailable when the connection is lost: the next driver continues.
    """
    async with open_connection(
        dsn, "ledger_projector", name="rebuild", answer_seconds=LONG_ANSWER_SECONDS
    ) as conn:
        if not records.can_build(await records.load(conn, rebuild_id), projections):
            raise InvalidProjectionState(
                f"rebuild {rebuild_id} was started by a later release: use that release's `ledger` command."
            )
        row = await fetch_one(conn, _TRY_DRIVER_LOCK, {"rebuild": rebuild_id})
        if row is None or not row[0]:
            return False
        await clock.refresh(conn)
        driver = _Driver(conn, clock, engine, projections, rebuild_id, backfill_shard)
        try:
            await driver.run()
        except psycopg.OperationalError as error:
            if conn.broken or is_disconnect(error):
                raise
            await _pause_on_error(conn, rebuild_id, describe_error(error))
        except BackfillFailed as error:
            await _pause_on_error(conn, rebuild_id, f"backfill failed: {error}")
        except (NoCommonPosition, InvalidProjectionState) as error:
            await _pause_on_error(conn, rebuild_id, str(error))
        except Exception as error:  # whatever failed is kept with the rebuild, for the operator
            await _pause_on_error(conn, rebuild_id, describe_error(error))
        return True


async def _pause_on_error(conn: Conn, rebuild_id: int, error: str) -> None:
    for attempt in range(PAUSE_ATTEMPTS_MAX):
        try:
            # Refused when it was cancelled meanwhile: the error then comes from a dropped table.
            with suppress(TransitionRefused):
                await records.pause_on_error(conn, rebuild_id, error)
            return
        except psycopg.OperationalError as failure:
            if conn.broken or is_disconnect(failure) or attempt + 1 == PAUSE_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(PAUSE_RETRY_SECONDS)


class _Positions(NamedTuple):
    """The positions of a new generation, of the live one, and of the head of the log."""

    position: int
    live_generation: int | None
    live_position: int | None
    live_shape: int | None
    head: int

    def live_is_behind(self, position: int) -> bool:
        """Whether there is a live generation and it has not reached `position`."""
        return self.live_position is not None and self.live_position < position


class _StopDriving(Exception):
    """The rebuild was paused or cancelled meanwhile."""


class _Driver:
    def __init__(
        self,
        conn: Conn,
        clock: Clock,
        engine: Engine,
        projections: Iterable[Projection],
        rebuild_id: int,
        backfill_shard: BackfillShard,
    ) -> None:
        self._conn = conn
        self._clock = clock
        self._engine = engine
        self._projections = {projection.name: projection for projection in projections}
        self._rebuild_id = rebuild_id
        self._backfill_shard = backfill_shard

    async def run(self) -> None:
        stages = {
            RebuildState.BACKFILLING: self._backfill,
            RebuildState.INDEXING: self._build_indexes,
            RebuildState.CATCHING_UP: self._catch_up,
            RebuildState.COMPARING: self._compare_and_promote,
        }
        try:
            while (stage := stages.get((await self._load_running()).state)) is not None:
                await stage()
        except _StopDriving:
            return

    async def _load_running(self) -> Rebuild:
        """The rebuild as it is now. Raises _StopDriving when it was paused or cancelled."""
        rebuild = await records.load(self._conn, self._rebuild_id)
        if rebuild.paused or rebuild.state is RebuildState.CANCELLED:
            raise _StopDriving
        return rebuild

    async def _move(self, action: RebuildAction, error: str | None = None) -> None:
        try:
            await transition(self._conn, self._rebuild_id, action, error=error)
        except TransitionRefused:
            raise _StopDriving from None

    async def _backfill(self) -> None:
        rebuild = await self._load_running()
        count_task = asyncio.create_task(self._count_events(rebuild), name="rebuild counting")
        try:
            done = await backfill_shards(self._conn, self._rebuild_id, self._backfill_shard)
            await count_task
        finally:
            count_task.cancel()
            await asyncio.gather(count_task, return_exceptions=True)
        if done:
            await self._move(RebuildAction.BUILD_INDEXES)

    async def _count_events(self, rebuild: Rebuild) -> None:
        if rebuild.total is not None:
            return
        now = self._clock.now()
        targets = [
            Target.create(self._projections[build.projection], build.generation, now)
            for build in rebuild.builds
        ]
        earliest = min(target.retention_start for target in targets)
        since = await find_last_position(self._conn, datetime.fromtimestamp(earliest, UTC)) if earliest else 0
        parameters = {"upto": rebuild.upto, "without": ignored_topics(targets), "since": since}
        row = await fetch_one(self._conn, _COUNT_EVENTS, parameters)
        assert row is not None
        await self._conn.execute(_UPDATE_EVENT_COUNT, {"rebuild": self._rebuild_id, "events": row[0]})

    async def _build_indexes(self) -> None:
        """Attach each generation, which builds its indexes. Its checkpoint is inserted in the same
        transaction: from then on the engine keeps it up to date."""
        for build in (await self._load_running()).builds:
            rebuild = await self._load_running()
            if build.attached:
                continue
            key = {"projection": build.projection, "generation": build.generation}
            async with self._conn.transaction():
                await self._conn.execute("SET LOCAL maintenance_work_mem = '256MB'")
                await partitions.attach(self._conn, build.projection, build.generation)
                lock_parameters = {"rebuild": self._rebuild_id, "indexing_state": RebuildState.INDEXING}
                if (await self._conn.execute(_LOCK_INDEXING_REBUILD, lock_parameters)).rowcount == 0:
                    raise _StopDriving
                await self._conn.execute(
                    _INSERT_CHECKPOINT, {**key, "upto": rebuild.upto, "shape": build.shape}
                )
                await self._conn.execute(_MARK_ATTACHED, key)
            await partitions.analyze(self._conn, build.projection, build.generation)
        await self._move(RebuildAction.CATCH_UP)

    async def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        target_position: int | None = None
        async with self._run_engine():
            while True:
                rebuild = await self._load_running()
                all_positions = [await self._load_positions(build) for build in rebuild.builds]
                target_position = all_positions[0].head if target_position is None else target_position
                caught_up = all(positions.position >= target_position for positions in all_positions)
                if caught_up and not any(
                    positions.live_is_behind(rebuild.upto) for positions in all_positions
                ):
                    break
                if caught_up:
                    deadline = deadline or loop.time() + LIVE_STALLED_SECONDS
                    if loop.time() > deadline:
                        break
                await asyncio.sleep(POLL_SECONDS)
        await self._move(RebuildAction.COMPARE)

    async def _compare_and_promote(self) -> None:
        # Also when a comparison was interrupted: its progress is counted from this transition on.
        await self._move(RebuildAction.COMPARE)
        rebuild = await self._load_running()
        await self._clock.refresh(self._conn)
        operator = Operator(rebuild.who, rebuild.reason)
        details_by_name: dict[str, dict[str, Any]] = {}
        async with self._run_engine():
            # An operator may have restored a record, and resumes because of that.
            await self._engine.retry_readable()
            for build in rebuild.builds:
                await self._load_running()
                details = {"rebuild": rebuild.id, **await self._compare_generation(build, rebuild.upto)}
                await operations.record(
                    self._conn, operator, "compare", build.projection, build.generation,
                    details.get("position", rebuild.upto), details,
                )  # fmt: skip
                details.pop("differences", None)
                details_by_name[build.projection] = details
            # A projection that has no live generation has nothing to differ from.
            differs = not all(
                build_details.get("equal", build_details["live"] is None)
                for build_details in details_by_name.values()
            )
            if differs and not rebuild.accept_differences:
                error = "; ".join(_explain_not_compared(details_by_name)) or None
                await self._move(RebuildAction.REPORT_DIFFERENCES, error)
                return
            accepted_details = {
                name: {**details, "accepted": differs} for name, details in details_by_name.items()
            }
            try:
                await promotion.promote(self._conn, rebuild, operator, accepted_details)
            except TransitionRefused:
                raise _StopDriving from None
            except LiveGenerationChanged:
                return  # somebody rolled back meanwhile: `run` compares with the generation that is live now

    async def _compare_generation(self, build: Build, upto: int) -> dict[str, Any]:
        """The result of comparing a generation with the live one, for the record. A new projection has no
        live generation; a stalled one, behind where the rebuild began, cannot be compared with."""
        projection = self._projections[build.projection]
        if projection.violation_query is not None:
            broken_query = projection.violation_query.encode()
            row = await fetch_one(self._conn, broken_query, {"generation": build.generation})
            if row is not None:
                raise InvalidProjectionState(f"{projection.name}: {row[0]}")
        positions = await self._load_positions(build)
        if positions.live_generation is None or positions.live_is_behind(upto):
            return {
                "compared": False,
                "live": positions.live_generation,
                "live_position": positions.live_position,
            }
        assert positions.live_shape is not None
        # A column that the live generation does not have is new, not different.
        shared_projection = projection.with_shape(min(positions.live_shape, build.shape))
        now = self._clock.now()
        comparison = await compare(
            self._conn,
            self._engine.row_reader,
            shared_projection,
            positions.live_generation,
            build.generation,
            now=now,
        )
        added_columns = [
            column.name for column in projection.columns if column not in shared_projection.columns
        ]
        return {"live": positions.live_generation, **_comparison_details(comparison), "added": added_columns}

    @asynccontextmanager
    async def _run_engine(self) -> AsyncIterator[None]:
        """Run the engine in this process too: there may be no worker anywhere."""
        try:
            await self._engine.start()
            yield
        finally:
            await self._engine.close()

    async def _load_positions(self, build: Build) -> _Positions:
        parameters = {"rebuild": self._rebuild_id, "projection": build.projection}
        row = await fetch_one(self._conn, _SELECT_POSITIONS, parameters)
        assert row is not None
        if row[0] is None:
            await self._load_running()  # stops here when the rebuild was cancelled at this moment
            raise InvalidProjectionState(
                f"generation {build.generation} of {build.projection} no longer exists: cancel this rebuild."
            )
        return _Positions(*row)


def _explain_not_compared(details_by_name: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name} could not be compared: its live generation {details['live']} is stalled at position "
        f"{details['live_position']}"
        for name, details in details_by_name.items()
        if not details["compared"] and details["live"] is not None
    ]


def _comparison_details(comparison: Comparison) -> dict[str, Any]:
    return {
        "compared": True,
        "position": comparison.position,
        "equal": comparison.equal,
        "rows": comparison.other.rows,
        "digest": comparison.other.sum,
        "live_rows": comparison.live.rows,
        "live_digest": comparison.live.sum,
        "differences": differences_json(comparison.differences),
    }
