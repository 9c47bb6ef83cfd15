"""What a worker does for operators beside following the log: drives rebuilds, and samples the live rows.

A rebuild that lost its driver, or was asked for by the API, is taken up by any worker within seconds. A few
streams every so often are replayed and compared with what is live: the cost is bounded, the whole of a
busy view is looked at in time, and a row found to differ stays in the metrics until a full check finds none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ledger.postgres.connections import open_connection
from ledger.store.store import Store
from projections.engine import registry
from projections.engine.engine import Engine
from projections.engine.registry import PROJECTIONS
from projections.projection import describe_error
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.shards import BackfillShard
from projections.rebuild.verification import KEYS_SHOWN_MAX, verify

REBUILD_POLL_SECONDS = 1.0
SWEEP_RETRY_SECONDS = 60.0
SAMPLE_STREAMS = 20

log = structlog.get_logger()


class PeriodicTask:
    """Does something again and again until closed; what goes wrong is told, and tried again."""

    def __init__(self, name: str, action: Callable[[], Awaitable[None]], *, pause_seconds: float) -> None:
        self._name = name
        self._action = action
        self._pause_seconds = pause_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        last_error = ""
        while True:
            await asyncio.sleep(self._pause_seconds)
            try:
                await self._action()
                last_error = ""
            except Exception as error:  # the edge: told, waited out, tried again
                if describe_error(error) != last_error:
                    last_error = describe_error(error)
                    log.warning(f"{self._name} cannot go on now", reason=last_error)


def create_rebuild_task(
    store: Store, create_engine: Callable[[], Engine], fill: BackfillShard
) -> PeriodicTask:
    """Drives the rebuilds that nobody drives, each for itself, and tidies up after cancelled ones."""
    sweep_at = 0.0

    async def drive_rebuild(rebuild_id: int) -> None:
        engine = create_engine()
        try:
            await drive(store.dsn, store.clock, engine, PROJECTIONS, rebuild_id, fill)
        finally:
            await engine.close()

    async def list_unfinished() -> list[int]:
        nonlocal sweep_at
        async with open_connection(store.dsn, "ledger_projector", name="rebuilds") as conn:
            # A view whose first build was cancelled is nobody's until it is registered.
            await registry.register_missing(conn)
            now = asyncio.get_running_loop().time()
            if now >= sweep_at and not await records.drop_cancelled_generations(conn):
                sweep_at = now + SWEEP_RETRY_SECONDS
            return await records.list_runnable(conn, PROJECTIONS)

    async def adopt_rebuilds() -> None:
        tasks: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for rebuild_id in await list_unfinished():
                    if rebuild_id not in tasks:
                        tasks[rebuild_id] = asyncio.create_task(
                            drive_rebuild(rebuild_id), name=f"rebuild {rebuild_id}"
                        )
                if not tasks:
                    return
                await asyncio.sleep(REBUILD_POLL_SECONDS)
                for rebuild_id in [number for number, task in tasks.items() if task.done()]:
                    tasks.pop(rebuild_id).result()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    return PeriodicTask("rebuilds", adopt_rebuilds, pause_seconds=REBUILD_POLL_SECONDS)


def create_sampling_task(store: Store, *, pause_seconds: float) -> PeriodicTask:
    """Compares a few streams with what is live."""
    last_errors: dict[str, str] = {}

    async def verify_sample() -> None:
        for result in await verify(store.dsn, store.codec, store.clock, PROJECTIONS, sample=SAMPLE_STREAMS):
            if result.error is not None:
                if last_errors.get(result.projection) != result.error:
                    log.warning("cannot be verified", projection=result.projection, reason=result.error)
                last_errors[result.projection] = result.error
                continue
            last_errors.pop(result.projection, None)
            if result.differing:
                log.error(
                    "rows differ from a replay", projection=result.projection, generation=result.generation,
                    position=result.position, keys=result.keys[:KEYS_SHOWN_MAX],
                )  # fmt: skip

    return PeriodicTask("sampling", verify_sample, pause_seconds=pause_seconds)
