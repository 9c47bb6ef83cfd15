"""What readers of the feed cost who writes: POSTs with none, with 1,000 in another API process of the ledger,
and with 1,000 in the process that answers the POSTs.

The three take turns on one ledger. At 200 events a second every reader gets every event. At full load nothing
passes the readers' filter: if it did, they would be sent a thousand times what is written. All share the
machine's cores, so rates and latencies also have what the readers' own process takes; the CPU of the process
that answers does not, but in the same process it has what the streams take.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from benchmarks.feed.latency import (
    EVENTS_PER_SECOND,
    PACED_SECONDS,
    PACED_SECONDS_QUICK,
    READERS,
    create_customers,
    read_head,
)
from benchmarks.feed.readers import run_readers
from benchmarks.http import EARLIER
from benchmarks.load import get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.paced_load import send_each, summarize
from benchmarks.process_stats import list_service_processes, read_cpu_clock
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.service import Service, run_api

NONE, OTHER, SAME = "no readers", "another process", "the same process"
NOTHING_PASSES = "types=file.uploaded"
CONNECTIONS = 16
ROUNDS_MIN = 5
LOAD_SECONDS_MIN = 1.0
SETTLE_SECONDS = 0.5
IDLE_SECONDS = 32.0
"""Two heartbeats of each stream."""
IDLE_SECONDS_QUICK = 4.0
GOAL = Goal(1.03, is_maximum=True)
RATE_GOAL = Goal(0.97)


class _Turn(NamedTuple):
    """What one turn measured: p50 and p99 of the POSTs or, at full load, their rate; and the CPU that the
    process that answers took for one of them."""

    median_ms: float
    p99_ms: float
    rate: float
    cpu_us: float


Turns = Mapping[str, Sequence[_Turn]]
"""By where the readers are: one of each round."""


def measure(service: Service, effort: Effort, *, earlier: Service | None) -> list[Figure]:
    """The cost at a steady pace, at full load and while nothing happens; and beside an earlier build."""
    with run_api(service.join_environment()) as other:
        ports = {NONE: 0, OTHER: other.port, SAME: service.port}
        paced: dict[str, list[_Turn]] = {name: [] for name in ports}
        loaded: dict[str, list[_Turn]] = {name: [] for name in ports}
        for _ in range(max(ROUNDS_MIN, effort.rounds) if effort.rounds > 1 else 1):
            for name, port in ports.items():
                with _run_readers(service, port, ""):
                    paced[name].append(_send_paced(service, effort))
                with _run_readers(service, port, NOTHING_PASSES):
                    loaded[name].append(_send_load(service, effort))
        idle = _measure_idle(service, other.port, other.pid, effort)
    figures = [*_build_paced_figures(paced), *_build_load_figures(loaded), *idle]
    return figures + (_compare_builds(service, earlier, effort) if earlier else [])


def find_api_process(service: Service) -> int:
    """The process that answers the requests of a service with one API process."""
    processes = [each for each in list_service_processes(service.pid) if each.role == "api"]
    return max(processes, key=lambda each: each.name == "api").pid


@contextmanager
def _run_readers(service: Service, port: int, filter_: str) -> Iterator[None]:
    """Readers at `port` while this is open; none when it is 0. They must not have ended before."""
    service.wait_until_caught_up(timeout_seconds=60)
    if not port:
        time.sleep(SETTLE_SECONDS)
        yield
        return
    after = read_head(service)
    with run_readers(port, service.operator_key, [filter_] * READERS, after=after) as readers:
        time.sleep(SETTLE_SECONDS)
        yield
        readers.take_report()


def _send_paced(service: Service, effort: Effort) -> _Turn:
    seconds = PACED_SECONDS if effort.rounds > 1 else PACED_SECONDS_QUICK
    requests = list(islice(create_customers(service), round(seconds * EVENTS_PER_SECOND)))
    pid = find_api_process(service)
    before = read_cpu_clock(pid)
    answers = send_each(requests, per_second=EVENTS_PER_SECOND)
    cpu_us = (read_cpu_clock(pid) - before) / len(answers) * 1e6
    return _Turn(*summarize(answers), EVENTS_PER_SECOND, cpu_us)


def _send_load(service: Service, effort: Effort) -> _Turn:
    pid = find_api_process(service)
    before = read_cpu_clock(pid)
    outcome = run_load(
        next(create_customers(service)),
        connections=CONNECTIONS,
        seconds=max(LOAD_SECONDS_MIN, effort.seconds),
    )
    cpu_us = (read_cpu_clock(pid) - before) / outcome.completed * 1e6
    return _Turn(outcome.median_ms, outcome.p99_ms, outcome.rate, cpu_us)


def _build_paced_figures(turns: Turns) -> Iterator[Figure]:
    group = f"feed, POST /v1/customers with {READERS:,} readers, {EVENTS_PER_SECOND} events/s"
    for name in (OTHER, SAME):
        goal = GOAL if name == OTHER else None
        yield _compare(group, f"CPU of the process that answers, readers in {name}", turns, name, "cpu_us",
                       goal)  # fmt: skip
        yield _compare(group, f"p50, readers in {name}", turns, name, "median_ms")
        yield _compare(group, f"p99, readers in {name}", turns, name, "p99_ms")


def _build_load_figures(turns: Turns) -> Iterator[Figure]:
    load = f"{CONNECTIONS} connections, load by {get_generator_name()}"
    group = f"feed, POST /v1/customers with {READERS:,} readers whom nothing passes, {load}"
    for name in (OTHER, SAME):
        yield _compare(group, f"rate, readers in {name}", turns, name, "rate", RATE_GOAL)
        yield _compare(group, f"CPU of the process that answers, readers in {name}", turns, name, "cpu_us")
        yield _compare(group, f"p99, readers in {name}", turns, name, "p99_ms")


def _compare(group: str, work: str, turns: Turns, name: str, field: str, goal: Goal | None = None) -> Figure:
    ours, without = ([getattr(turn, field) for turn in turns[each]] for each in (name, NONE))
    unit = {"rate": "/s", "cpu_us": "µs"}.get(field, "ms")
    return compare(group, work, ours, NONE, without, unit=unit, goal=goal)


def _measure_idle(service: Service, port: int, pid: int, effort: Effort) -> list[Figure]:
    """CPU and memory of an API process with readers while nothing is recorded, beside the same without."""
    seconds = IDLE_SECONDS if effort.rounds > 1 else IDLE_SECONDS_QUICK
    group = f"feed, {READERS:,} idle readers"
    memory_before = _read_resident_mb(pid)
    with run_readers(port, service.operator_key, [""] * READERS, after=read_head(service)) as readers:
        time.sleep(SETTLE_SECONDS)
        readers.take_report()
        with_readers = _measure_idle_cpu(pid, seconds)
        memory = _read_resident_mb(pid)
        heartbeats = sum(each.heartbeats for each in readers.take_report().readers)
    time.sleep(SETTLE_SECONDS)
    without = _measure_idle_cpu(pid, seconds)
    note = f"{heartbeats:,} heartbeats in {seconds:.0f} s; without readers {without:.2f} ms"
    return [
        figure(group, "CPU of the process in a second", [with_readers], "ms", note=note),
        figure(group, "memory of a reader", [(memory - memory_before) * 1000 / READERS], "kB"),
    ]


def _measure_idle_cpu(pid: int, seconds: float) -> float:
    """Milliseconds of CPU in a second."""
    before = read_cpu_clock(pid)
    time.sleep(seconds)
    return (read_cpu_clock(pid) - before) / seconds * 1000


def _read_resident_mb(pid: int) -> float:
    (process,) = [each for each in list_service_processes(pid) if each.pid == pid]
    return process.memory_mb


def _compare_builds(service: Service, earlier: Service, effort: Effort) -> list[Figure]:
    """POSTs to this build without a reader, beside a build that may have no feed."""
    services = {service.build.name: service, EARLIER: earlier}
    paced: dict[str, list[_Turn]] = {name: [] for name in services}
    loaded: dict[str, list[_Turn]] = {name: [] for name in services}
    for _ in range(max(ROUNDS_MIN, effort.rounds)):
        for name, each in services.items():
            each.wait_until_caught_up(timeout_seconds=60)
            paced[name].append(_send_paced(each, effort))
            loaded[name].append(_send_load(each, effort))
    group = f"feed, POST /v1/customers without a reader, against the {EARLIER}"
    ours = service.build.name

    def build(work: str, turns: Turns, field: str, unit: str, goal: Goal | None = None) -> Figure:
        values, others = ([getattr(turn, field) for turn in turns[each]] for each in (ours, EARLIER))
        return compare(group, work, values, EARLIER, others, unit=unit, goal=goal)

    load = f"{CONNECTIONS} connections"
    return [
        build(f"rate, {load}", loaded, "rate", "/s", RATE_GOAL),
        build(f"CPU of the process that answers, {load}", loaded, "cpu_us", "µs", GOAL),
        build(f"p99, {load}", loaded, "p99_ms", "ms"),
        build(f"p50, {EVENTS_PER_SECOND} a second", paced, "median_ms", "ms"),
        build(f"CPU of the process that answers, {EVENTS_PER_SECOND} a second", paced, "cpu_us", "µs", GOAL),
    ]
