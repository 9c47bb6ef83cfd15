"""Catch-up: the engine fills every projection from an empty generation over one history.

The stock ProjectionRunner gets the first of the same stored events, and one upsert per event to do. Our
engine folds the aggregates, renders public Events and writes every projection. One catch-up over the whole
history is measured in as many parts as there are rounds, with the stock runner between the parts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing

from eventsourcing.persistence import StoredEvent

from benchmarks.database import Server
from benchmarks.history import append_in_bulk, generate_history
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.store import open_store, register_projections
from benchmarks.yardsticks import stock
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.read_models.catalog import PROJECTIONS

GROUP = "catch-up of all projections from an empty generation"
SEED = 1
STOCK_EVENTS_MAX = 1500
PART_TIMEOUT_SECONDS = 6.0
CATCH_UP_TIMEOUT_SECONDS = 60.0
GOAL = Goal(20)


class CatchUp:
    """The engine on the first generation of every projection. Each measurement applies the next part."""

    def __init__(self, dsn: str, runner: asyncio.Runner, store: Store, part_events: int) -> None:
        self._runner = runner
        self._part_events = part_events
        self._engine = Engine(dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS)
        runner.run(register_projections(dsn))

    def rate(self) -> float:
        """Events per second over the next part of the history."""
        return self._runner.run(self._run_part())

    def close(self) -> None:
        """Close the engine."""
        self._runner.run(self._engine.close())

    async def _run_part(self) -> float:
        events, elapsed, started = 0, 0.0, time.perf_counter()
        while events < self._part_events and elapsed < PART_TIMEOUT_SECONDS:
            result = await self._engine.advance()
            elapsed = time.perf_counter() - started
            events += result.events
            if result.errors:
                raise RuntimeError(f"failed after {events} events: {result.errors}")
            if result.caught_up:
                break
        return events / elapsed


class StockCatchUp:
    """The stock projection over the same stored events. Each measurement starts from an empty table."""

    def __init__(self, dsn: str, password: str, events: Sequence[StoredEvent]) -> None:
        self._dsn = dsn
        self._environment = stock.build_environment(dsn, password, ids="text")
        self._event_count = len(events)
        self._last_id = stock.insert_events(self._environment, events)

    def rate(self) -> float:
        """Events per second over all the events."""
        stock.drop_tables(self._dsn)
        started = time.perf_counter()
        stock.catch_up(self._environment, self._last_id, timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
        return self._event_count / (time.perf_counter() - started)


def run(server: Server, effort: Effort) -> list[Figure]:
    """The rate of the catch-up, and of the bulk append that wrote the history."""
    dsn = server.create_ledger_database("projections")
    changes = list(generate_history(SEED, effort.events))
    with open_store(dsn) as (runner, store):
        started = time.perf_counter()
        runner.run(append_in_bulk(store.journal, changes))
        append_rate = len(changes) / (time.perf_counter() - started)
        stock_events = [store.codec.to_stored_event(change.event) for change in changes[:STOCK_EVENTS_MAX]]
        stock_catch_up = StockCatchUp(
            server.create_empty_database("projections_stock"), server.password, stock_events
        )
        with closing(CatchUp(dsn, runner, store, len(changes) // effort.rounds)) as catch_up:
            rates = alternate({"ours": catch_up.rate, "stock": stock_catch_up.rate}, effort.rounds)
    work = f"{len(changes):,} events, {len(PROJECTIONS)} projections"
    note = f"the stock runner: {len(stock_events):,} of these events, one upsert each"
    return [
        compare(GROUP, work, rates["ours"], "stock ProjectionRunner", rates["stock"], goal=GOAL, note=note),
        figure(GROUP, "bulk append of these events", [append_rate]),
    ]
