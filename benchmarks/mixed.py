"""A mixed load on a service that starts empty: 12 connections, of ten requests six POSTs of customers and
sessions, two of charges, two lists.

It runs in slices, with another build's in turns where there is one. Memory is read after each slice, when the
projections have caught up; disk at the end. wrk knows the latency of all requests only: after the slices, one
slice by the generator in Python has those of POSTs and lists apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.disk import DiskUse, read_disk_use, subtract
from benchmarks.http import EARLIER, LoadMeasurement, format_cpu, measure_load
from benchmarks.load import Latency, Request, get_generator_name, measure_latencies
from benchmarks.measurement import Effort
from benchmarks.process_stats import list_service_processes, read_shared_mb
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.routes import CATCH_UP_TIMEOUT_SECONDS, create_mix
from benchmarks.service import THIS_BUILD, Build, Service, run_service

CONNECTIONS = 12
SLICE_SECONDS = 20.0
POINTS_MAX = 9
SHARE_OF_DISK_MIN = 0.01
RATE_GOAL = Goal(3.0)
MEMORY_GOAL_MB = Goal(180, is_maximum=True)
LEVEL_GOAL_MB = Goal(5, is_maximum=True)
DISK_GOAL = Goal(0.5, is_maximum=True)
WORK = "POSTs of customers, sessions, charges; lists"


class MixedRun:
    """The load on one service, slice by slice."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._mix: Sequence[Request] = create_mix(service)
        with service.connect() as conn:
            self._disk_before = read_disk_use(conn)
        self.slices: list[LoadMeasurement] = []
        self.memory: list[Mapping[str, float]] = []
        self.latencies: Mapping[str, Latency] = {}

    def run_slice(self, seconds: float) -> None:
        """Send the load once."""
        self.slices.append(
            measure_load(self._service, self._mix, connections=CONNECTIONS, seconds=seconds, may_fail=True)
        )
        self.memory.append(read_memory(self._service))

    def measure_latencies(self, seconds: float) -> None:
        """Send the load once by the generator that knows the latency of each method."""
        self.latencies = measure_latencies(self._mix, connections=CONNECTIONS, seconds=seconds)
        self._service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)

    def read_disk_use(self) -> DiskUse:
        """What the load has left on disk so far."""
        with self._service.connect() as conn:
            return subtract(read_disk_use(conn), self._disk_before)


def read_memory(service: Service) -> dict[str, float]:
    """MB of memory: of the largest process that answers requests; of all Python processes together and of
    Postgres, where what processes share counts once."""
    processes = list_service_processes(service.pid)
    return {
        "serving process": max(each.memory_mb for each in processes if each.role == "api"),
        "all Python processes": sum(
            read_shared_mb(each.pid) for each in processes if each.role != "postgres"
        ),
        "Postgres": sum(read_shared_mb(each.pid) for each in processes if each.role == "postgres"),
    }


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Rate, latencies, errors, CPU, memory over time, and disk."""
    builds = [THIS_BUILD, *([Build(EARLIER, effort.against)] if effort.against else [])]
    count = max(1, round(effort.mixed_seconds / SLICE_SECONDS))
    with ExitStack() as stack:
        runs = [
            MixedRun(
                stack.enter_context(
                    run_service(directory / f"mixed_{build.name.replace(' ', '_')}", build=build)
                )
            )
            for build in builds
        ]
        for _ in range(count):
            for each in runs:
                each.run_slice(effort.mixed_seconds / count)
        for each in runs:
            each.measure_latencies(effort.mixed_seconds / count)
        disk = [each.read_disk_use() for each in runs]
    earlier, earlier_disk = (runs[1], disk[1]) if effort.against else (None, None)
    group = (
        f"mixed load, {effort.mixed_seconds:.0f} s, {CONNECTIONS} connections, load by {get_generator_name()}"
    )
    return [
        *_build_load_figures(group, runs[0], earlier),
        *_build_memory_figures(group, runs[0], earlier),
        *_build_disk_figures(f"{group}: disk", disk[0], earlier_disk),
    ]


def _build_load_figures(group: str, ours: MixedRun, earlier: MixedRun | None) -> list[Figure]:
    def build(
        work: str,
        unit: str,
        read: Callable[[LoadMeasurement], float],
        *,
        goal: Goal | None = None,
        note: str = "",
    ) -> Figure:
        values = [read(each) for each in ours.slices]
        if earlier is None:
            return figure(group, work, values, unit, note=note)
        earlier_values = [read(each) for each in earlier.slices]
        return compare(group, work, values, EARLIER, earlier_values, unit=unit, goal=goal, note=note)

    completed = sum(each.outcome.completed for each in ours.slices)
    failed = sum(each.outcome.failed for each in ours.slices)
    note, errors_note = format_cpu(ours.slices), ""
    if earlier is not None:
        errors_note = f"{EARLIER}: {sum(each.outcome.failed for each in earlier.slices)}"
        note += f"; {EARLIER}: {format_cpu(earlier.slices)}"
    return [
        build(WORK, "/s", lambda each: each.outcome.rate, goal=RATE_GOAL, note=f"{completed:,} requests"),
        build("p50", "ms", lambda each: each.outcome.median_ms),
        build("p99", "ms", lambda each: each.outcome.p99_ms),
        *_build_latency_figures(group, ours, earlier),
        figure(group, "errors", [failed], "", goal=Goal(0, is_maximum=True), note=errors_note),
        build("CPU of one request", "µs", lambda each: each.cpu_microseconds().total, note=note),
    ]


def _build_latency_figures(group: str, ours: MixedRun, earlier: MixedRun | None) -> list[Figure]:
    """p50 and p99 of POSTs and of lists: which of them waits."""
    figures = []
    for method, what in (("POST", "POSTs"), ("GET", "lists")):
        for field, name in (("median_ms", "p50"), ("p99_ms", "p99")):
            work, value = f"{name} of {what}", getattr(ours.latencies[method], field)
            if earlier is None:
                figures.append(figure(group, work, [value], "ms"))
            else:
                before = getattr(earlier.latencies[method], field)
                figures.append(compare(group, work, [value], EARLIER, [before], unit="ms"))
    return figures


def _build_memory_figures(group: str, ours: MixedRun, earlier: MixedRun | None) -> list[Figure]:
    """Memory at the end, with that after each slice as a note; and by how much the serving process grew in
    the second half."""
    figures = []
    for role in ours.memory[-1]:
        series = [each[role] for each in ours.memory]
        if not series[-1]:
            continue
        note = "after each slice: " + ", ".join(f"{value:.0f}" for value in _thin(series))
        if earlier is not None:
            note += f"; {EARLIER}: " + ", ".join(f"{each[role]:.0f}" for each in _thin(earlier.memory))
        goal = MEMORY_GOAL_MB if role == "serving process" else None
        figures.append(figure(group, f"memory, {role}", [series[-1]], "MB", goal=goal, note=note))
    serving = [each["serving process"] for each in ours.memory]
    growth = serving[-1] - serving[len(serving) // 2]
    work = "memory, growth of the serving process in the second half"
    return [*figures, figure(group, work, [growth], "MB", goal=LEVEL_GOAL_MB)]


def _thin(values: Sequence) -> Sequence:
    """At most about POINTS_MAX of the values, the last one among them."""
    step = -(-len(values) // POINTS_MAX)
    return values[::-1][::step][::-1]


def _build_disk_figures(group: str, ours: DiskUse, earlier: DiskUse | None) -> list[Figure]:
    """Bytes of an event, of its WAL, and of a row of each table that counts."""
    per_event = ours.table_bytes / ours.events
    wal_per_event = ours.wal_bytes / ours.events
    earlier_per_event = earlier.table_bytes / earlier.events if earlier else None
    earlier_wal_per_event = earlier.wal_bytes / earlier.events if earlier else None
    note = f"{ours.events:,} events"
    figures = [
        _compare_bytes(
            group, "all tables, an event", per_event, earlier_per_event, goal=DISK_GOAL, note=note
        ),
        _compare_bytes(group, "WAL, an event", wal_per_event, earlier_wal_per_event),
    ]
    for name, use in ours.tables.items():
        if (use.table_bytes + use.index_bytes) < SHARE_OF_DISK_MIN * ours.table_bytes or not use.rows:
            continue
        note = (
            f"table {use.table_bytes / use.rows:,.0f}, indexes {use.index_bytes / use.rows:,.0f} B; "
            f"{use.rows / ours.events:.2f} rows an event"
        )
        before = earlier.tables.get(name) if earlier else None
        if earlier and not before:
            note += f"; the {EARLIER} has no such table"
        figures.append(
            _compare_bytes(
                group, f"{name}, a row", use.bytes_per_row, before and before.bytes_per_row, note=note
            )
        )
    return figures


def _compare_bytes(
    group: str, work: str, ours: float, earlier: float | None, *, goal: Goal | None = None, note: str = ""
) -> Figure:
    if not earlier:
        return figure(group, work, [ours], "B", note=note)
    return compare(group, work, [ours], EARLIER, [earlier], unit="B", goal=goal, note=note)
