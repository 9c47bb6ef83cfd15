"""Two API processes against one: `LEDGER_WORKERS` of 2 beside 1, in turns.

The load generator, Postgres and both processes share the machine's cores, so the plain ratio of the rates
says more about the machine than about the service. Two more figures exclude what is not the service. "Without
the load generator" scales each rate to all cores: rate x cores / (cores - cores that the generator used), as
if it ran elsewhere. "A core for each API process" is twice the CPU that one process takes for a request,
divided by what two take: the ratio where no core is shared. The projections may have a process of their own:
the note says so by the CPU of background processes.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

from benchmarks.http import LoadMeasurement, format_cpu, measure_load
from benchmarks.load import get_generator_name
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare
from benchmarks.routes import DISPUTE, SESSIONS, create_requests
from benchmarks.service import run_service

CONNECTIONS = 64
SECONDS_MIN = 1.0
ROUTES = (SESSIONS, DISPUTE)
ONE = "1 API process"
GOAL = Goal(1.6)


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Three ratios for each route of ROUTES."""
    seconds = max(SECONDS_MIN, effort.seconds)
    measurements: dict[tuple[str, int], list[LoadMeasurement]] = {}
    with (
        run_service(directory / "workers_1", settings={"LEDGER_WORKERS": "1"}) as one,
        run_service(directory / "workers_2", settings={"LEDGER_WORKERS": "2"}) as two,
    ):
        services = {1: one, 2: two}
        requests = {workers: create_requests(service) for workers, service in services.items()}
        for _ in range(effort.rounds):
            for route in ROUTES:
                for workers, service in services.items():
                    measurement = measure_load(
                        service, requests[workers][route], connections=CONNECTIONS, seconds=seconds
                    )
                    measurements.setdefault((route, workers), []).append(measurement)
    return [
        figure
        for route in ROUTES
        for figure in _build_figures(route, measurements[route, 1], measurements[route, 2])
    ]


def scale_to_all_cores(measurement: LoadMeasurement, cores: int) -> float:
    """The rate as if the load generator ran on another machine."""
    outcome = measurement.outcome
    generator_cores = outcome.generator_seconds * outcome.rate / outcome.completed
    return outcome.rate * cores / max(cores - generator_cores, 1.0)


def _build_figures(route: str, one: list[LoadMeasurement], two: list[LoadMeasurement]) -> list[Figure]:
    group = f"two API processes, {CONNECTIONS} connections, load by {get_generator_name()}"
    cores = os.cpu_count() or 1
    note = f"CPU of one request: {format_cpu(two)}; with one process: {format_cpu(one)}"
    generator = median(each.outcome.generator_seconds / each.outcome.completed * 1e6 for each in two)
    return [
        compare(
            group,
            f"{route}: rate",
            [each.outcome.rate for each in two],
            ONE,
            [each.outcome.rate for each in one],
            note=note,
        ),
        compare(
            group,
            f"{route}: without the load generator",
            [scale_to_all_cores(each, cores) for each in two],
            ONE,
            [scale_to_all_cores(each, cores) for each in one],
            goal=GOAL,
            note=f"the generator takes {generator:.0f} µs a request of {cores} cores",
        ),
        compare(
            group,
            f"{route}: a core for each API process",
            [2e6 / each.cpu_microseconds().api for each in two],
            ONE,
            [1e6 / each.cpu_microseconds().api for each in one],
            goal=GOAL,
            note="from the API processes' CPU of one request",
        ),
    ]
