"""Rebuilds all projections over one history: real workers backfill new generations, which are then promoted.

The yardstick is the stock ProjectionRunner on some of the same events: once filling the same projections
(`stock_projections`), once a single table with one upsert per event. The ratio that counts is events per CPU
second, of client and Postgres together on both sides: neither more processes nor a busy machine improve it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import psycopg
from eventsourcing.persistence import StoredEvent

from benchmarks.database import Server
from benchmarks.history import copy_history, generate_history
from benchmarks.measurement import Effort
from benchmarks.process_stats import (
    list_child_pids,
    read_own_cpu_seconds,
    read_peak_mb,
    read_server_cpu_seconds,
)
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.store import SECRET_KEY
from benchmarks.yardsticks import stock, stock_projections
from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from ledger.store.notifications import HeadNotifier
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.lists import CUSTOMERS
from projections.rebuild import generations, records
from projections.rebuild.driver import drive
from projections.rebuild.processes import BackfillProcesses

GROUP = "rebuild of all projections"
SEED = 1
LOG_DAYS = 20.0
STOCK_EVENTS = 1500
STOCK_EVENTS_SKIPPED = 20_000
"""The first events of a history mostly create objects; after these the mix of events is constant."""
STOCK_TIMEOUT_SECONDS = 120.0
ROUNDS_MAX = 2
POLL_SECONDS = 0.25
STAGES = ("filling", "indexing", "catching up", "comparing")
GOAL = Goal(20)
OPERATOR = Operator("benchmark", "measurement")
PROJECTIONS_LABEL = f"{len(PROJECTIONS)} projections"
STOCK_ALL = f"stock ProjectionRunner, {PROJECTIONS_LABEL}"
STOCK_SINGLE = "stock ProjectionRunner, one table"


class Measurement(NamedTuple):
    """The cost of processing `events` events.

    seconds           elapsed
    client_seconds    CPU of this process and of the workers that it started
    postgres_seconds  CPU of the Postgres server
    """

    events: int
    seconds: float
    client_seconds: float
    postgres_seconds: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def rate_per_core(self) -> float:
        """Events per second of CPU time, of client and Postgres together."""
        return self.events / (self.client_seconds + self.postgres_seconds)


class RebuildMeasurement(NamedTuple):
    """A rebuild: its cost, the seconds of each stage, the most memory of a worker."""

    measurement: Measurement
    stage_seconds: dict[str, float]
    worker_mb: float


class Results(NamedTuple):
    """All measurements of a run.

    by_workers      rebuilds of all projections, by number of workers
    customers_only  rebuilds of the projection `customers`
    stock_all       the stock runner filling all projections
    stock_single    the stock runner filling one table
    short           one rebuild of a log a tenth as long
    """

    by_workers: dict[int, list[RebuildMeasurement]]
    customers_only: list[RebuildMeasurement]
    stock_all: list[Measurement]
    stock_single: list[Measurement]
    short: RebuildMeasurement


def run(server: Server, effort: Effort) -> list[Figure]:
    """Rebuild the log in turns with the stock runner, and a log a tenth as long once, to compare the memory.

    The very first rebuild of the log is not counted: it has no live generation to compare with.
    """
    short = _create_log(server, "rebuilding_short", effort.events // 10)
    dsn = _create_log(server, "rebuilding", effort.events)
    states, stock_events = _split_history(STOCK_EVENTS_SKIPPED, STOCK_EVENTS)
    stock_dsn = server.create_empty_database("rebuilding_stock")
    environment = stock.build_environment(stock_dsn, server.password, ids="text")
    last_id = stock.insert_events(environment, stock_events)

    def run_stock_projection() -> None:
        stock.catch_up(environment, last_id, timeout_seconds=STOCK_TIMEOUT_SECONDS)

    stock_rebuild_dsn = server.create_ledger_database("rebuilding_stock_views")
    stock_rebuild = stock_projections.StockRebuild(stock_rebuild_dsn, server.password, states, stock_events)
    short_rebuild = _measure_rebuild(short, effort.events // 10)
    _measure_rebuild(dsn, effort.events, workers=2)
    by_workers: dict[int, list[RebuildMeasurement]] = {1: [], 2: []}
    customers_only: list[RebuildMeasurement] = []
    stock_single: list[Measurement] = []
    stock_all: list[Measurement] = []
    for _ in range(min(effort.rounds, ROUNDS_MAX)):
        for workers, measurements in by_workers.items():
            measurements.append(_measure_rebuild(dsn, effort.events, workers=workers))
        customers_only.append(_measure_rebuild(dsn, effort.events, [CUSTOMERS]))
        stock_all.append(_measure(stock_rebuild_dsn, len(stock_events), stock_rebuild.rebuild))
        stock.drop_tables(stock_dsn)
        stock_single.append(_measure(stock_dsn, len(stock_events), run_stock_projection))
    return _build_figures(Results(by_workers, customers_only, stock_all, stock_single, short_rebuild))


def _build_figures(results: Results) -> list[Figure]:
    return [
        *_build_elapsed_figures(results),
        *_build_per_core_figures(results),
        *_build_cpu_figures(results),
        _build_memory_figure(results),
    ]


def _build_elapsed_figures(results: Results) -> list[Figure]:
    """Events per second elapsed, for each number of workers, with the seconds of each stage."""
    stock_rates = [measurement.rate for measurement in results.stock_all]
    figures = []
    for workers, rebuilds in results.by_workers.items():
        stages = [
            f"{stage} {median(rebuild.stage_seconds[stage] for rebuild in rebuilds):.1f} s"
            for stage in STAGES
        ]
        events = rebuilds[0].measurement.events
        work = f"{events:,} events, {PROJECTIONS_LABEL}, {workers} worker{'s' * (workers > 1)}"
        rates = [rebuild.measurement.rate for rebuild in rebuilds]
        figures.append(compare(GROUP, work, rates, STOCK_ALL, stock_rates, note="; ".join(stages)))
    return figures


def _build_per_core_figures(results: Results) -> list[Figure]:
    """Events per CPU second, with one worker."""
    one_worker = results.by_workers[1]
    return [
        compare(
            GROUP,
            f"{work}, events per CPU second",
            [rebuild.measurement.rate_per_core for rebuild in rebuilds],
            yardstick,
            [measurement.rate_per_core for measurement in stock_measurements],
            goal=GOAL if yardstick == STOCK_ALL else None,
            note="CPU of worker, driver and Postgres",
        )
        for work, rebuilds, yardstick, stock_measurements in (
            (PROJECTIONS_LABEL, one_worker, STOCK_ALL, results.stock_all),
            (PROJECTIONS_LABEL, one_worker, STOCK_SINGLE, results.stock_single),
            ("customers only", results.customers_only, STOCK_SINGLE, results.stock_single),
        )
    ]


def _build_cpu_figures(results: Results) -> list[Figure]:
    """CPU time per 1,000 events with one worker, in Python and in Postgres."""
    figures = []
    for name, field in (("worker and driver", "client_seconds"), ("Postgres", "postgres_seconds")):

        def per_thousand_ms(measurement: Measurement, field: str = field) -> float:
            return float(getattr(measurement, field)) * 1e6 / measurement.events

        milliseconds = [per_thousand_ms(rebuild.measurement) for rebuild in results.by_workers[1]]
        stock_all = median(map(per_thousand_ms, results.stock_all))
        stock_single = median(map(per_thousand_ms, results.stock_single))
        note = f"stock: {PROJECTIONS_LABEL} {stock_all:,.0f} ms, one table {stock_single:,.0f} ms"
        figures.append(figure(GROUP, f"CPU for 1,000 events: {name}", milliseconds, "ms", note=note))
    return figures


def _build_memory_figure(results: Results) -> Figure:
    short = results.short
    return figure(
        GROUP,
        "most memory of a worker",
        [rebuild.worker_mb for rebuild in results.by_workers[1]],
        "MB",
        note=f"{short.worker_mb:.0f} MB over {short.measurement.events:,} events",
    )


def _split_history(skipped: int, count: int) -> tuple[dict[str, State], list[StoredEvent]]:
    """The `count` events of the history after the first `skipped`, and the aggregates before them by
    stream."""
    codec = Codec(SECRET_KEY)
    states: dict[str, State] = {}
    stored: list[StoredEvent] = []
    for number, (event, state, _) in enumerate(generate_history(SEED, skipped + count)):
        if number < skipped:
            states[event.originator_id] = state
        else:
            stored.append(codec.to_stored_event(event))
    return states, stored


def _create_log(server: Server, name: str, events: int) -> str:
    """A database whose log holds the history's first `events` events. Returns its connection string."""
    dsn = server.create_ledger_database(name)
    copy_history(dsn, Codec(SECRET_KEY), SEED, events, days=LOG_DAYS)
    return dsn


def _measure_rebuild(
    dsn: str, events: int, targets: Sequence[Projection] = PROJECTIONS, *, workers: int = 1
) -> RebuildMeasurement:
    """Rebuild, promote, and drop the generations that were live before."""
    stages = dict.fromkeys(STAGES, 0.0)
    peak = [0.0]
    measurement = _measure(
        dsn, events, lambda: asyncio.run(_run_rebuild(dsn, targets, workers, stages, peak))
    )
    asyncio.run(_retire_older(dsn))
    return RebuildMeasurement(measurement, stages, peak[0])


async def _run_rebuild(
    dsn: str, targets: Sequence[Projection], workers: int, stages: dict[str, float], peak: list[float]
) -> None:
    clock = Clock()
    notifier = HeadNotifier(dsn, "ledger_projector")
    engine = Engine(dsn, Codec(SECRET_KEY), clock, notifier, projections=PROJECTIONS)
    fill = BackfillProcesses(dsn, SECRET_KEY).backfill_shard
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        rebuild_id = await records.begin(conn, targets, OPERATOR, workers=workers)
        driver = asyncio.create_task(drive(dsn, clock, engine, PROJECTIONS, rebuild_id, fill))
        since = time.perf_counter()
        while not driver.done():
            await asyncio.wait([driver], timeout=POLL_SECONDS)
            rebuild = await records.load(conn, rebuild_id)
            now = time.perf_counter()
            if rebuild.state in stages:
                stages[rebuild.state] += now - since
            since = now
            peak[0] = max([peak[0], *map(read_peak_mb, list_child_pids())])
        await driver
        await engine.close()
    if rebuild.state != "switched":
        raise RuntimeError(f"the rebuild is {rebuild.state}: {rebuild.error}")


async def _retire_older(dsn: str) -> None:
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        for projection in PROJECTIONS:
            older = await generations.list_older_generations(conn, projection.name)
            await generations.retire(conn, projection.name, older, OPERATOR)


def _measure(dsn: str, events: int, action: Callable[[], None]) -> Measurement:
    with psycopg.connect(dsn, autocommit=True) as conn:
        client, postgres, started = read_own_cpu_seconds(), read_server_cpu_seconds(conn), time.perf_counter()
        action()
        seconds = time.perf_counter() - started
        return Measurement(
            events, seconds, read_own_cpu_seconds() - client, read_server_cpu_seconds(conn) - postgres
        )
