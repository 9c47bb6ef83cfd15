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
from benchmarks.history import copy_history, history
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compared, figure
from benchmarks.store import SECRET_KEY
from ledger.clock import Clock
from ledger.postgres.connections import connected
from ledger.store.codec import Codec, State
from ledger.store.notifications import Wake
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.engine.registry import PROJECTIONS
from projections.projection import Projection
from projections.read_models.lists import CUSTOMERS
from projections.rebuild import generations, records
from projections.rebuild.driver import drive
from projections.rebuild.processes import Workers

GROUP = "rebuild of all views"
SEED = 1
LOG_DAYS = 20.0
STOCK_EVENTS = 1500
# Where customers are as old as they come to be: the first events of a history are mostly new ones.
STOCK_AFTER = 20_000
STOCK_TIMEOUT_SECONDS = 120.0
ROUNDS_MAX = 2
POLL_SECONDS = 0.25
STAGES = ("filling", "indexing", "catching up", "comparing")
GOAL = Goal(20)
OPERATOR = Operator("benchmark", "measured")

_POSTMASTER = r"SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int"
_SERVING = "SELECT pid FROM pg_stat_activity"


class Run(NamedTuple):
    """One measurement: seconds on the clock, seconds of computing here (and in workers) and in Postgres."""

    events: int
    seconds: float
    client: float
    postgres: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def rate_of_a_core(self) -> float:
        return self.events / (self.client + self.postgres)


class Rebuilt(NamedTuple):
    """A rebuild: what it took, how long each stage was, the most memory a worker had."""

    run: Run
    stages: dict[str, float]
    worker_mb: float


def run(server: Server, effort: Effort) -> list[Figure]:
    """A log of a tenth as many events is rebuilt once, for the memory; the long one in turns with the stock
    runner, first with nothing live to compare with, which is not counted."""
    short = _log(server, "rebuilding_short", effort.events // 10)
    dsn = _log(server, "rebuilding", effort.events)
    states, few = _some(STOCK_AFTER, STOCK_EVENTS)
    stock_dsn = server.empty("rebuilding_stock")
    environment = stock.environment(stock_dsn, server.password, ids="text")
    last = stock.fill(environment, few)

    def stock_view() -> None:
        stock.catch_up(environment, last, timeout_seconds=STOCK_TIMEOUT_SECONDS)

    views_dsn = server.ledger("rebuilding_stock_views")
    views = stock_projections.Contestant(views_dsn, server.password, states, few)
    small = _rebuild(short, effort.events // 10)
    _rebuild(dsn, effort.events, workers=2)
    by_workers: dict[int, list[Rebuilt]] = {1: [], 2: []}
    one_view: list[Rebuilt] = []
    stock_one: list[Run] = []
    stock_all: list[Run] = []
    for _ in range(min(effort.rounds, ROUNDS_MAX)):
        for workers, made in by_workers.items():
            made.append(_rebuild(dsn, effort.events, workers=workers))
        one_view.append(_rebuild(dsn, effort.events, [CUSTOMERS]))
        stock_all.append(_measured(views_dsn, len(few), views.make))
        stock.forget_view(stock_dsn)
        stock_one.append(_measured(stock_dsn, len(few), stock_view))
    return _figures(effort.events, by_workers, one_view, stock_all, stock_one, small)


def _figures(
    events: int,
    by_workers: dict[int, list[Rebuilt]],
    one_view: list[Rebuilt],
    stock_all: list[Run],
    stock_one: list[Run],
    small: Rebuilt,
) -> list[Figure]:
    views = f"{len(PROJECTIONS)} views"
    same, single = f"stock ProjectionRunner, {views}", "the same, one view"
    figures = [
        compared(
            GROUP,
            f"{events:,} events, {views}, {workers} worker{'s' * (workers > 1)}",
            [one.run.rate for one in made],
            same,
            [one.rate for one in stock_all],
            note="; ".join(f"{name} {median(one.stages[name] for one in made):.1f} s" for name in STAGES),
        )
        for workers, made in by_workers.items()
    ]
    alone = by_workers[1]
    figures += [
        compared(
            GROUP,
            f"{name}, by the second of computing",
            [one.run.rate_of_a_core for one in made],
            yardstick,
            [one.rate_of_a_core for one in theirs],
            goal=GOAL if yardstick is same else None,
            note="worker, driver and Postgres",
        )
        for name, made, yardstick, theirs in (
            (views, alone, same, stock_all),
            (views, alone, single, stock_one),
            ("the customers alone", one_view, single, stock_one),
        )
    ]
    for name, of in (("worker and driver", lambda run: run.client), ("Postgres", lambda run: run.postgres)):
        taken = [of(one.run) * 1e6 / events for one in alone]
        stock_taken = [
            median(of(one) * 1e6 / one.events for one in theirs) for theirs in (stock_all, stock_one)
        ]
        note = f"stock {stock_taken[0]:,.0f} ms, one view {stock_taken[1]:,.0f} ms"
        figures.append(figure(GROUP, f"computing for 1,000 events: {name}", taken, "ms", note=note))
    figures.append(
        figure(
            GROUP,
            "most memory of a worker",
            [one.worker_mb for one in alone],
            "MB",
            note=f"{small.worker_mb:.0f} MB over {small.run.events:,} events",
        )
    )
    return figures


def _some(after: int, count: int) -> tuple[dict[str, State], list[StoredEvent]]:
    """`count` events of the history that follow the first `after`, and what these had come to."""
    codec = Codec(SECRET_KEY)
    states: dict[str, State] = {}
    stored: list[StoredEvent] = []
    for number, (event, state, _) in enumerate(history(SEED, after + count)):
        if number < after:
            states[event.originator_id] = state
        else:
            stored.append(codec.to_stored_event(event))
    return states, stored


def _log(server: Server, name: str, events: int) -> str:
    dsn = server.ledger(name)
    copy_history(dsn, Codec(SECRET_KEY), SEED, events, days=LOG_DAYS)
    return dsn


def _rebuild(
    dsn: str, events: int, views: Sequence[Projection] = PROJECTIONS, *, workers: int = 1
) -> Rebuilt:
    """Rebuild, switch, and drop what was live before."""
    stages = dict.fromkeys(STAGES, 0.0)
    peak = [0.0]
    taken = _measured(dsn, events, lambda: asyncio.run(_driven(dsn, views, workers, stages, peak)))
    asyncio.run(_retire(dsn))
    return Rebuilt(taken, stages, peak[0])


async def _driven(
    dsn: str, views: Sequence[Projection], workers: int, stages: dict[str, float], peak: list[float]
) -> None:
    clock = Clock()
    engine = Engine(dsn, Codec(SECRET_KEY), clock, Wake(dsn, "ledger_projector"))
    fill = Workers(dsn, SECRET_KEY).fill
    async with connected(dsn, "ledger_projector", name="benchmark") as conn:
        number = await records.begin(conn, views, OPERATOR, workers=workers)
        driving = asyncio.create_task(drive(dsn, clock, engine, PROJECTIONS, number, fill))
        since = time.perf_counter()
        while not driving.done():
            await asyncio.wait([driving], timeout=POLL_SECONDS)
            found = await records.load(conn, number)
            now = time.perf_counter()
            if found.state in stages:
                stages[found.state] += now - since
            since = now
            peak[0] = max([peak[0], *map(_peak_mb, _children())])
        await driving
        await engine.close()
    if found.state != "switched":
        raise RuntimeError(f"the rebuild is {found.state}: {found.error}")


async def _retire(dsn: str) -> None:
    async with connected(dsn, "ledger_projector", name="benchmark") as conn:
        for projection in PROJECTIONS:
            for generation in await generations.older(conn, projection.name):
                await generations.retire(conn, projection.name, generation, OPERATOR)


def _measured(dsn: str, events: int, act: Callable[[], None]) -> Run:
    with psycopg.connect(dsn, autocommit=True) as conn:
        client, postgres, started = _computed(), _computed_by_postgres(conn), time.perf_counter()
        act()
        seconds = time.perf_counter() - started
        return Run(events, seconds, _computed() - client, _computed_by_postgres(conn) - postgres)


def _computed() -> float:
    """Seconds that this process and the workers it has ended have computed."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _computed_by_postgres(conn: psycopg.Connection[tuple[int, ...]]) -> float:
    """Seconds of the whole server, also of what has ended."""
    postmaster = conn.execute(_POSTMASTER).fetchone()
    assert postmaster is not None
    serving = [pid for (pid,) in conn.execute(_SERVING).fetchall()]
    ticks = sum(map(int, _stat(postmaster[0])[11:15]))
    ticks += sum(sum(map(int, _stat(pid)[11:13])) for pid in serving)
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat behind the name; times are 11 to 14: own, own in the kernel, then those
    of children that have ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 15


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
