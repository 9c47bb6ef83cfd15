"""Rebuilding all views over one history: new generations filled by real workers, indexed, compared, switched.

The yardstick is the stock ProjectionRunner on some of the same events, making the same views (`stock_views`),
and beside it making a single one with one upsert an event. The ratio that counts is per core: events by the
second of computing, that of the client and of Postgres added up on both sides, so that neither more processes
nor a busy machine make a figure better.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg
from eventsourcing.persistence import StoredEvent

from benchmarks import stock, stock_projections
from benchmarks.database import Server
from benchmarks.history import copy_history, generate_history
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare_rates, figure
from benchmarks.store import SECRET_KEY
from ledger.clock import Clock
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec, State
from ledger.store.notifications import HeadNotifier
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.engine.registry import PROJECTIONS
from projections.projection import Projection
from projections.read_models.lists import CUSTOMERS
from projections.rebuild import generations, records
from projections.rebuild.driver import drive
from projections.rebuild.processes import BackfillProcesses

GROUP = "rebuild of all views"
SEED = 1
LOG_DAYS = 20.0
STOCK_EVENTS = 1500
# Where customers are as old as they come to be: the first events of a history are mostly new ones.
STOCK_EVENTS_SKIPPED = 20_000
STOCK_TIMEOUT_SECONDS = 120.0
ROUNDS_MAX = 2
POLL_SECONDS = 0.25
STAGES = ("filling", "indexing", "catching up", "comparing")
GOAL = Goal(20)
OPERATOR = Operator("benchmark", "measured")

_POSTMASTER = r"SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int"
_BACKEND_PIDS = "SELECT pid FROM pg_stat_activity"


class Measurement(NamedTuple):
    """One measurement: seconds on the clock, seconds of computing here (and in workers) and in Postgres."""

    events: int
    seconds: float
    client_seconds: float
    postgres_seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def rate_per_core(self) -> float:
        return self.events / (self.client_seconds + self.postgres_seconds)


class RebuildMeasurement(NamedTuple):
    """A rebuild: what it took, how long each stage was, the most memory a worker had."""

    measurement: Measurement
    stage_seconds: dict[str, float]
    worker_mb: float


def run(server: Server, effort: Effort) -> list[Figure]:
    """A log of a tenth as many events is rebuilt once, for the memory; the long one in turns with the stock
    runner, first with nothing live to compare with, which is not counted."""
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
        stock.drop_view(stock_dsn)
        stock_single.append(_measure(stock_dsn, len(stock_events), run_stock_projection))
    return _build_figures(effort.events, by_workers, customers_only, stock_all, stock_single, short_rebuild)


def _build_figures(
    events: int,
    by_workers: dict[int, list[RebuildMeasurement]],
    customers_only: list[RebuildMeasurement],
    stock_all: list[Measurement],
    stock_single: list[Measurement],
    short_rebuild: RebuildMeasurement,
) -> list[Figure]:
    label = f"{len(PROJECTIONS)} views"
    all_yardstick, single_yardstick = f"stock ProjectionRunner, {label}", "the same, one view"
    figures = [
        compare_rates(
            GROUP,
            f"{events:,} events, {label}, {workers} worker{'s' * (workers > 1)}",
            [item.measurement.rate for item in measurements],
            all_yardstick,
            [one.rate for one in stock_all],
            note="; ".join(
                f"{name} {median(one.stage_seconds[name] for one in measurements):.1f} s" for name in STAGES
            ),
        )
        for workers, measurements in by_workers.items()
    ]
    one_worker = by_workers[1]
    figures += [
        compare_rates(
            GROUP,
            f"{name}, by the second of computing",
            [one.measurement.rate_per_core for one in made],
            yardstick,
            [one.rate_per_core for one in stock_measurements],
            goal=GOAL if yardstick is all_yardstick else None,
            note="worker, driver and Postgres",
        )
        for name, made, yardstick, stock_measurements in (
            (label, one_worker, all_yardstick, stock_all),
            (label, one_worker, single_yardstick, stock_single),
            ("the customers alone", customers_only, single_yardstick, stock_single),
        )
    ]
    for name, get_seconds in (
        ("worker and driver", lambda run: run.client_seconds),
        ("Postgres", lambda run: run.postgres_seconds),
    ):
        milliseconds = [get_seconds(one.measurement) * 1e6 / events for one in one_worker]
        stock_milliseconds = [
            median(get_seconds(one) * 1e6 / one.events for one in theirs)
            for theirs in (stock_all, stock_single)
        ]
        note = f"stock {stock_milliseconds[0]:,.0f} ms, one view {stock_milliseconds[1]:,.0f} ms"
        figures.append(figure(GROUP, f"computing for 1,000 events: {name}", milliseconds, "ms", note=note))
    figures.append(
        figure(
            GROUP,
            "most memory of a worker",
            [one.worker_mb for one in one_worker],
            "MB",
            note=f"{short_rebuild.worker_mb:.0f} MB over {short_rebuild.measurement.events:,} events",
        )
    )
    return figures


def _split_history(skipped: int, count: int) -> tuple[dict[str, State], list[StoredEvent]]:
    """`count` events of the history that follow the first `skipped`, and what these had come to."""
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
    dsn = server.create_ledger_database(name)
    copy_history(dsn, Codec(SECRET_KEY), SEED, events, days=LOG_DAYS)
    return dsn


def _measure_rebuild(
    dsn: str, events: int, targets: Sequence[Projection] = PROJECTIONS, *, workers: int = 1
) -> RebuildMeasurement:
    """Rebuild, switch, and drop what was live before."""
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
    engine = Engine(dsn, Codec(SECRET_KEY), clock, HeadNotifier(dsn, "ledger_projector"))
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
            peak[0] = max([peak[0], *map(_read_peak_mb, _list_child_pids())])
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
        client, postgres, started = _read_client_seconds(), _read_postgres_seconds(conn), time.perf_counter()
        action()
        seconds = time.perf_counter() - started
        return Measurement(
            events, seconds, _read_client_seconds() - client, _read_postgres_seconds(conn) - postgres
        )


def _read_client_seconds() -> float:
    """Seconds that this process and the workers it has ended have computed."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _read_postgres_seconds(conn: psycopg.Connection[tuple[int, ...]]) -> float:
    """Seconds of the whole server, also of what has ended."""
    postmaster = conn.execute(_POSTMASTER).fetchone()
    assert postmaster is not None
    backend_pids = [pid for (pid,) in conn.execute(_BACKEND_PIDS).fetchall()]
    ticks = sum(map(int, _read_stat(postmaster[0])[11:15]))
    ticks += sum(sum(map(int, _read_stat(pid)[11:13])) for pid in backend_pids)
    return ticks / os.sysconf("SC_CLK_TCK")


def _read_stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat behind the name; times are 11 to 14: own, own in the kernel, then those
    of children that have ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 15


def _list_child_pids() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _read_peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
