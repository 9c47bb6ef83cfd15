"""What a worker does for operators beside applying the log: it drives rebuilds, and samples the live rows.

Any worker takes up, within seconds, a rebuild that lost its driver or was requested through the API. The
sampler replays a few streams at a time and compares them with the live rows: its cost is bounded, in time it
covers busy projections as a whole, and rows that differ stay in the metrics until a full check finds none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ledger.background import BackgroundLoop
from ledger.postgres.connections import open_connection
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register_missing
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.shards import BackfillShard
from projections.rebuild.verification import KEYS_SHOWN_MAX, Verification, verify

REBUILD_POLL_SECONDS = 1.0
SWEEP_RETRY_SECONDS = 60.0
SAMPLE_STREAMS = 20

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
        self._sweep_at = 0.0
        self._loop = BackgroundLoop("rebuilds", self._supervise)

    async def start(self) -> None:
        """Look for rebuilds every REBUILD_POLL_SECONDS until `close`."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop. A rebuild under way keeps what it has committed, and another process takes it up."""
        await self._loop.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

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
        async with open_connection(self._store.dsn, "ledger_projector", name="rebuilds") as conn:
            # A projection whose first rebuild was cancelled has no generation until it is registered.
            await register_missing(conn, PROJECTIONS)
            now = asyncio.get_running_loop().time()
            if now >= self._sweep_at and not await records.drop_cancelled_generations(conn):
                self._sweep_at = now + SWEEP_RETRY_SECONDS
            return await records.list_runnable(conn, PROJECTIONS)


class Sampler:
    """Compares a few streams of each projection with its live rows, every `pause_seconds`."""

    def __init__(self, store: Store, *, pause_seconds: float) -> None:
        self._store = store
        self._pause_seconds = pause_seconds
        self._last_errors: dict[str, str] = {}
        self._paused_once = False
        self._loop = BackgroundLoop("sampling", self._sample)

    async def start(self) -> None:
        """Begin with a pause: a process that starts has other things to do."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the sample under way, within seconds."""
        await self._loop.close()

    async def _sample(self) -> float:
        if self._paused_once:
            store = self._store
            for result in await verify(
                store.dsn, store.codec, store.clock, PROJECTIONS, sample=SAMPLE_STREAMS
            ):
                self._log_result(result)
        self._paused_once = True
        return self._pause_seconds

    def _log_result(self, result: Verification) -> None:
        if result.error is not None:
            if self._last_errors.get(result.projection) != result.error:
                log.warning(
                    "projection could not be verified", projection=result.projection, reason=result.error
                )
            self._last_errors[result.projection] = result.error
            return
        self._last_errors.pop(result.projection, None)
        if result.differing:
            log.error(
                "rows differ from a replay of the log",
                projection=result.projection,
                generation=result.generation,
                position=result.position,
                keys=result.keys[:KEYS_SHOWN_MAX],
            )
