"""HTTP: our routes with everything running, against FastAPI routes that do nothing, on the same server
software.

A POST is durable before it is answered, and the projections apply it during the measurement. After each of
our measurements the next contestant waits until the projections have caught up. CPU is read from /proc: that
of the process that answers, of the service's other processes, and of its Postgres, so that a busy machine
still gives comparable figures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.bounds import BARE, INSERT, build_bound_figures, run_bounds
from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Contestant, Effort, alternate
from benchmarks.process_stats import Cpu
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.routes import (
    CATCH_UP_TIMEOUT_SECONDS,
    CUSTOMERS,
    DISPUTE,
    DISPUTE_PAGE,
    EVENT_PAGE,
    SESSIONS,
    create_requests,
)
from benchmarks.service import Build, Service, run_service, run_yardstick

CONNECTIONS = (1, 16, 64)
BATCH_SECONDS = 0.1
"""After this pause the projections have applied what the load left to them."""

FORM, CONSTANT, RAW = "FastAPI Form()", "FastAPI constant", "raw ASGI"
EARLIER = "earlier build"
RAW_NOTE = "the limit of server software and load generator together"
GOALS = {
    (SESSIONS, 1): 0.6, (SESSIONS, 16): 1.5, (SESSIONS, 64): 1.5, (CUSTOMERS, 16): 1.0,
    (EVENT_PAGE, 16): 1.0, (DISPUTE_PAGE, 16): 1.0, (DISPUTE, 16): 1.5,
}  # fmt: skip
"""By route and number of connections."""
P99_GOALS_MS = {(SESSIONS, 16): 8.0}


class LoadMeasurement(NamedTuple):
    """One load on a service: what the generator saw, the CPU it took, how long projections took after it."""

    outcome: Outcome
    cpu: Cpu
    catch_up_seconds: float

    def cpu_microseconds(self) -> Cpu:
        """CPU of one request."""
        return Cpu(*(seconds / self.outcome.completed * 1e6 for seconds in self.cpu))


def measure_load(
    service: Service,
    requests: Request | Sequence[Request],
    *,
    connections: int,
    seconds: float,
    may_fail: bool = False,
) -> LoadMeasurement:
    """Send the load and wait until the projections have caught up."""
    before = service.read_cpu()
    outcome = run_load(requests, connections=connections, seconds=seconds, may_fail=may_fail)
    time.sleep(BATCH_SECONDS)
    cpu = service.read_cpu() - before
    return LoadMeasurement(
        outcome, cpu, service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
    )


def format_cpu(measurements: Sequence[LoadMeasurement]) -> str:
    """The CPU of one request by role."""
    parts = zip(*(each.cpu_microseconds() for each in measurements), strict=True)
    api, background, postgres = map(median, parts)
    return f"API process {api:.0f}, background {background:.0f}, Postgres {postgres:.0f} µs"


class ConnectionRun:
    """The measurements of all contestants at one number of connections."""

    def __init__(self, effort: Effort, connections: int) -> None:
        self._effort = effort
        self._connections = connections
        self._rates: dict[str, list[float]] = {}
        self._measurements: dict[str, list[LoadMeasurement]] = {}

    def measure(
        self,
        services: Mapping[str, Service],
        requests: Mapping[str, Mapping[str, Request]],
        measure_insert: Contestant,
    ) -> None:
        """Measure in turns: `requests` by contestant (a build, or the yardsticks) and name. The insert only
        with one connection."""
        contestants: dict[str, Contestant] = {
            f"{who}: {name}": partial(self._measure, f"{who}: {name}", services.get(who), request)
            for name in dict.fromkeys(name for named in requests.values() for name in named)
            for who, named in requests.items()
            if (request := named.get(name)) is not None
        }
        if self._connections == 1:
            contestants[f"yardstick: {INSERT}"] = measure_insert
        self._rates = alternate(contestants, self._effort.rounds)

    def build_figures(self, names: Sequence[str], *, is_compared: bool) -> list[Figure]:
        """The rate of each route beside its yardstick's; then p99, and the CPU of one request."""
        count = f"{self._connections} connection{'s' * (self._connections > 1)}"
        group = f"HTTP, {count}, load by {get_generator_name()}"
        figures = []
        for name in names:
            yardstick = FORM if name.startswith("POST") else CONSTANT
            bound = GOALS.get((name, self._connections))
            goal = Goal(bound) if bound else None
            yardstick_rates = self._rates[f"yardstick: {yardstick}"]
            rates, note = self._rates[f"ours: {name}"], self._format_note(name)
            figures.append(compare(group, name, rates, yardstick, yardstick_rates, goal=goal, note=note))
            if is_compared:
                figures.append(compare(group, name, rates, EARLIER, self._rates[f"{EARLIER}: {name}"]))
        raw = figure(group, f"{SESSIONS} to raw ASGI", self._rates[f"yardstick: {RAW}"], note=RAW_NOTE)
        yardsticks = {name.removeprefix("yardstick: "): each for name, each in self._rates.items()}
        ours = self._rates[f"ours: {SESSIONS}"]
        bounds = build_bound_figures(group, SESSIONS, ours, FORM, yardsticks, connections=self._connections)
        return [
            *figures,
            raw,
            *bounds,
            *self._build_p99_figures(group),
            *self._build_cpu_figures(names, f"CPU of one request, {count}", is_compared=is_compared),
        ]

    def _measure(self, contestant: str, service: Service | None, request: Request) -> float:
        if service is None:
            return run_load(request, connections=self._connections, seconds=self._effort.seconds).rate
        measurement = measure_load(
            service, request, connections=self._connections, seconds=self._effort.seconds
        )
        self._measurements.setdefault(contestant, []).append(measurement)
        return measurement.outcome.rate

    def _build_p99_figures(self, group: str) -> list[Figure]:
        return [
            figure(
                group,
                f"{name}: p99",
                [each.outcome.p99_ms for each in self._measurements[f"ours: {name}"]],
                "ms",
                goal=Goal(bound, is_maximum=True),
            )
            for (name, connections), bound in P99_GOALS_MS.items()
            if connections == self._connections
        ]

    def _build_cpu_figures(self, names: Sequence[str], group: str, *, is_compared: bool) -> list[Figure]:
        figures = []
        for name in names:
            ours = self._measurements[f"ours: {name}"]
            values, note = [each.cpu_microseconds().total for each in ours], format_cpu(ours)
            if is_compared:
                earlier = self._measurements[f"{EARLIER}: {name}"]
                earlier_values = [each.cpu_microseconds().total for each in earlier]
                note += f"; {EARLIER}: {format_cpu(earlier)}"
                figures.append(compare(group, name, values, EARLIER, earlier_values, unit="µs", note=note))
            else:
                figures.append(figure(group, name, values, "µs", note=note))
        return figures

    def _format_note(self, name: str) -> str:
        """The route's latencies, and how long the projections took after its POSTs."""
        measurements = self._measurements[f"ours: {name}"]
        text = (
            f"p50 {median(each.outcome.median_ms for each in measurements):.1f} ms, "
            f"p99 {median(each.outcome.p99_ms for each in measurements):.1f} ms"
        )
        if name.startswith("POST"):
            text += f"; caught up in {median(each.catch_up_seconds for each in measurements):.2f} s"
        return text


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures for every route at 1, 16 and 64 connections."""
    figures: list[Figure] = []
    with (
        ExitStack() as stack,
        run_yardstick("app") as fastapi_port,
        run_yardstick("raw") as raw_port,
        run_bounds(directory, effort.seconds) as bounds,
    ):
        services = {"ours": stack.enter_context(run_service(directory / "http"))}
        if effort.against:
            earlier = Build(EARLIER, effort.against)
            services[EARLIER] = stack.enter_context(run_service(directory / "http_earlier", build=earlier))
        requests = {who: create_requests(service) for who, service in services.items()}
        names = list(requests["ours"])
        requests["yardstick"] = {
            FORM: Request(fastapi_port, "POST", "/form", form="customer=cus_0000000000000000000000"),
            CONSTANT: Request(fastapi_port, "GET", "/constant"),
            RAW: replace(requests["ours"][SESSIONS], port=raw_port),
            BARE: replace(requests["ours"][SESSIONS], port=bounds.bare_port),
        }
        for connections in CONNECTIONS:
            connection_run = ConnectionRun(effort, connections)
            connection_run.measure(services, requests, bounds.measure_insert)
            figures += connection_run.build_figures(names, is_compared=bool(effort.against))
    return figures
