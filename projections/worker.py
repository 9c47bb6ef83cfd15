"""What a worker does for operators beside applying the log: it drives rebuilds, retries streams whose records
can be read again, and samples the live rows.

Any worker takes up, within seconds, a rebuild that lost its driver or was requested through the API. The
sampler replays a few streams at a time and compares them with the live rows: its cost is bounded, in time it
covers busy projections as a whole, and rows that differ stay in the metrics until a full check finds none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.lru import LruCache
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register_missing
from projections.engine.retry import FIRST_PARKED, RETRY_PAGE_STREAMS, retry_readable
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.shards import BackfillShard
from projections.rebuild.verification import KEYS_SHOWN_MAX, Verification, verify

REBUILD_POLL_SECONDS = 1.0
SWEEP_RETRY_SECONDS = 60.0
SAMPLE_STREAMS = 20
LOGGED_MAX = 1000
PARKED_PAGE_PAUSE_SECONDS = 1.0
PARKED_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


class RebuildSupervisor:
    """Drives the rebuilds that no process drives, side by side, and drops what cancelled ones left behind.

    create_engine   makes the engine that lets one rebuild catch up
    backfill_shard  fills one shard of a rebuild, see `rebuild.shards`
    """

    def __init__(
        self, store: Store, create_engine: Callable[[], Engine], backfill_shard: BackfillShard
    ) -> None:
        self._store = store
        self._create_engine = create_engine
        self._backfill_shard = backfill_shard
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_projector", name="rebuilds", answer_seconds=BACKGROUND_ANSWER_SECONDS
        )
        self._sweep_at = 0.0
        self._loop = BackgroundLoop(
            "rebuilds", self._supervise, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Look for rebuilds every REBUILD_POLL_SECONDS until `close`."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop. A rebuild under way keeps what it has committed, and another process takes it up."""
        await self._loop.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._connection.drop()

    async def _supervise(self) -> float:
        for rebuild_id in [rebuild_id for rebuild_id, task in self._tasks.items() if task.done()]:
            self._tasks.pop(rebuild_id).result()
        for rebuild_id in await self._list_runnable():
            if rebuild_id not in self._tasks:
                self._tasks[rebuild_id] = asyncio.create_task(
                    self._drive(rebuild_id), name=f"rebuild {rebuild_id}"
                )
        return REBUILD_POLL_SECONDS

    async def _drive(self, rebuild_id: int) -> None:
        store, engine = self._store, self._create_engine()
        try:
            await drive(store.dsn, store.clock, engine, PROJECTIONS, rebuild_id, self._backfill_shard)
        finally:
            await engine.close()

    async def _list_runnable(self) -> list[int]:
        async with self._connection as conn:
            # A projection whose first rebuild was cancelled has no generation until it is registered.
            await register_missing(conn, PROJECTIONS)
            now = asyncio.get_running_loop().time()
            if now >= self._sweep_at and not await records.drop_cancelled_generations(conn):
                self._sweep_at = now + SWEEP_RETRY_SECONDS
            return await records.list_runnable(conn, PROJECTIONS)


class ParkedStreamRetry:
    """Applies streams that were parked because a record could not be read, once it can be read: after an
    upgrade, with the right key, or when the record was mended. Begins when the process starts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = FIRST_PARKED
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_projector",
            name="parked streams",
            settings=PLANNER_SETTINGS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._loop = BackgroundLoop(
            "parked streams", self._retry_page, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS
        )

    async def start(self) -> None:
        """Look at all such streams at once, then every PARKED_PAUSE_SECONDS until `close`."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the streams under way."""
        await self._loop.close()
        await self._connection.drop()

    async def _retry_page(self) -> float:
        store = self._store
        async with self._connection as conn:
            await store.clock.refresh(conn)
            applied, last = await retry_readable(
                conn, store.codec, PROJECTIONS_BY_NAME, store.clock.now(), after=self._after,
                limit=RETRY_PAGE_STREAMS,
            )  # fmt: skip
        for projection, stream in applied:
            log.warning("parked stream was applied", projection=projection, stream=stream)
        self._after = last or FIRST_PARKED
        return PARKED_PAGE_PAUSE_SECONDS if last else PARKED_PAUSE_SECONDS


class Sampler:
    """Compares a few streams of each projection with its live rows, every `pause_seconds`."""

    def __init__(self, store: Store, *, pause_seconds: float) -> None:
        self._store = store
        self._pause_seconds = pause_seconds
        self._logged: LruCache[tuple[str, str | None], str] = LruCache(LOGGED_MAX)
        self._next: int | None = None
        self._loop = BackgroundLoop("sampling", self._sample, step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS)

    async def start(self) -> None:
        """Begin with a pause: a process that starts has other things to do."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the sample under way, within seconds."""
        await self._loop.close()

    async def _sample(self) -> float:
        """Sample one projection. One that takes too long does not keep the others from theirs."""
        if self._next is None:
            self._next = 0
            return self._pause_seconds
        projection, store = PROJECTIONS[self._next], self._store
        self._next = (self._next + 1) % len(PROJECTIONS)
        for result in await verify(store.dsn, store.codec, store.clock, [projection], sample=SAMPLE_STREAMS):
            self._log_result(result)
        return 0 if self._next else self._pause_seconds

    def _log_result(self, result: Verification) -> None:
        if result.error is not None:
            if self._is_new(result.projection, result.error):
                log.warning(
                    "projection could not be verified", projection=result.projection, reason=result.error
                )
            return
        self._logged.discard((result.projection, None))
        for parked in result.left_out:
            if self._is_new(result.projection, parked.error, parked.stream):
                log.warning(
                    "stream was left out of the verification",
                    projection=result.projection,
                    stream=parked.stream,
                    position=parked.position,
                    topic=parked.topic,
                    reason=parked.error,
                )
        if result.differing:
            log.error(
                "rows differ from a replay of the log",
                projection=result.projection,
                generation=result.generation,
                position=result.position,
                keys=result.keys[:KEYS_SHOWN_MAX],
            )

    def _is_new(self, projection: str, reason: str, stream: str | None = None) -> bool:
        """Whether this reason was not logged yet for the projection, or for one stream of it."""
        is_new = self._logged.get((projection, stream)) != reason
        self._logged.put((projection, stream), reason)
        return is_new
