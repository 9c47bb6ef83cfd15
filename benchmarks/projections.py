"""Catching up: every read model and the feed from an empty generation over one history.

The stock ProjectionRunner is given the first of the same stored events and one upsert an event to do;
ours folds the aggregates, renders public events and writes four projections. Each round fills new
generations: rebuilding is the same code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from eventsourcing.persistence import StoredEvent

from benchmarks import stock
from benchmarks.database import Server
from benchmarks.history import append_in_bulk, history
from benchmarks.measuring import Effort, alternate
from benchmarks.report import Figure, Goal, compared, figure
from benchmarks.store import running_store
from ledger.database import connected
from ledger.store.store import Store
from projections import registry
from projections.engine import Engine

GROUP = "catch-up of all projections from nothing"
SEED = 1
STOCK_EVENTS_MAX = 2000
CATCH_UP_TIMEOUT_SECONDS = 60.0
GOAL = Goal(20)


class CatchUp:
    """Fills one more generation of every projection each time."""

    def __init__(self, dsn: str, runner: asyncio.Runner, store: Store, events: int) -> None:
        self._dsn = dsn
        self._runner = runner
        self._store = store
        self._events = events
        self._generation = 0

    def rate(self) -> float:
        self._generation += 1
        return self._events / self._runner.run(self._fill())

    async def _fill(self) -> float:
        async with connected(self._dsn, "ledger_projector", name="benchmark") as conn:
            for projection in registry.PROJECTIONS:
                await registry.register(conn, projection, self._generation)
        engine = Engine(self._dsn, self._store.codec, self._store.clock, self._store.wake)
        started = time.perf_counter()
        while not (await engine.advance()).caught_up:
            pass
        elapsed = time.perf_counter() - started
        await engine.close()
        if engine.stats.events != self._events or engine.stats.failing:
            raise RuntimeError(
                f"{engine.stats.events} of {self._events} events applied: {engine.stats.failing}"
            )
        return elapsed


class StockCatchUp:
    """Runs the stock projection over the same stored events, from nothing each time."""

    def __init__(self, dsn: str, password: str, events: Sequence[StoredEvent]) -> None:
        self._dsn = dsn
        self._environment = stock.environment(dsn, password, ids="text")
        self._count = len(events)
        self._last = stock.fill(self._environment, events)

    def rate(self) -> float:
        stock.forget_view(self._dsn)
        started = time.perf_counter()
        stock.catch_up(self._environment, self._last, timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
        return self._count / (time.perf_counter() - started)


def run(server: Server, effort: Effort) -> list[Figure]:
    """The rate of catching up, and that of the bulk append that made the history."""
    ours = server.ledger("projections")
    changes = list(history(SEED, effort.events))
    with running_store(ours) as (runner, store):
        started = time.perf_counter()
        runner.run(append_in_bulk(store.journal, changes))
        appended = len(changes) / (time.perf_counter() - started)
        few = [store.codec.to_stored_event(change.event) for change in changes[:STOCK_EVENTS_MAX]]
        rates = alternate(
            {
                "ours": CatchUp(ours, runner, store, len(changes)).rate,
                "stock": StockCatchUp(server.empty("projections_stock"), server.password, few).rate,
            },
            effort.rounds,
        )
    work = f"{len(changes):,} events, {len(registry.PROJECTIONS)} projections"
    note = f"the stock runner: {len(few):,} of them, one upsert each"
    return [
        compared(GROUP, work, rates["ours"], "stock ProjectionRunner", rates["stock"], goal=GOAL, note=note),
        figure(GROUP, "appending these in bulk", [appended]),
    ]
