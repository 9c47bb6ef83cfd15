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

from ledger.postgres.connections import connected
from ledger.store.store import Store
from projections.engine import registry
from projections.engine.engine import Engine
from projections.engine.registry import PROJECTIONS
from projections.projection import described
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.shards import Fill
from projections.rebuild.verification import KEYS_SHOWN_MAX, verify

REBUILD_POLL_SECONDS = 1.0
SWEEP_RETRY_SECONDS = 60.0
SAMPLE_STREAMS = 20

log = structlog.get_logger()


class Periodic:
    """Does something again and again until closed; what goes wrong is told, and tried again."""

    def __init__(self, name: str, do: Callable[[], Awaitable[None]], *, pause_seconds: float) -> None:
        self._name = name
        self._do = do
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
        failing = ""
        while True:
            await asyncio.sleep(self._pause_seconds)
            try:
                await self._do()
                failing = ""
            except Exception as error:  # the edge: told, waited out, tried again
                if described(error) != failing:
                    failing = described(error)
                    log.warning(f"{self._name} cannot go on now", reason=failing)


def rebuilding(store: Store, engine: Callable[[], Engine], fill: Fill) -> Periodic:
    """Drives the rebuilds that nobody drives, each for itself, and tidies up after cancelled ones."""
    sweep_at = 0.0

    async def one(number: int) -> None:
        own = engine()
        try:
            await drive(store.dsn, store.clock, own, PROJECTIONS, number, fill)
        finally:
            await own.close()

    async def look() -> list[int]:
        nonlocal sweep_at
        async with connected(store.dsn, "ledger_projector", name="rebuilds") as conn:
            # A view whose first build was cancelled is nobody's until it is registered.
            await registry.ensure(conn)
            now = asyncio.get_running_loop().time()
            if now >= sweep_at and not await records.sweep(conn):
                sweep_at = now + SWEEP_RETRY_SECONDS
            return await records.unfinished(conn, PROJECTIONS)

    async def take_up() -> None:
        at_work: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for number in await look():
                    if number not in at_work:
                        at_work[number] = asyncio.create_task(one(number), name=f"rebuild {number}")
                if not at_work:
                    return
                await asyncio.sleep(REBUILD_POLL_SECONDS)
                for number in [number for number, task in at_work.items() if task.done()]:
                    at_work.pop(number).result()
        finally:
            for task in at_work.values():
                task.cancel()
            await asyncio.gather(*at_work.values(), return_exceptions=True)

    return Periodic("rebuilds", take_up, pause_seconds=REBUILD_POLL_SECONDS)


def sampling(store: Store, *, pause_seconds: float) -> Periodic:
    """Compares a few streams with what is live."""
    unchecked: dict[str, str] = {}

    async def look() -> None:
        for found in await verify(store.dsn, store.codec, store.clock, PROJECTIONS, sample=SAMPLE_STREAMS):
            if found.error is not None:
                if unchecked.get(found.projection) != found.error:
                    log.warning("cannot be verified", projection=found.projection, reason=found.error)
                unchecked[found.projection] = found.error
                continue
            unchecked.pop(found.projection, None)
            if found.differing:
                log.error(
                    "rows differ from a replay", projection=found.projection, generation=found.generation,
                    position=found.position, keys=found.keys[:KEYS_SHOWN_MAX],
                )  # fmt: skip

    return Periodic("sampling", look, pause_seconds=pause_seconds)
