"""Requests per second of this build beside an earlier one, in which no person had a key of their own.

Both services run side by side and are measured in turns, one request each, so a slow moment of the machine
meets both. Without `--against` there are only this build's rates.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.http import EARLIER, LoadMeasurement, format_cpu, measure_load
from benchmarks.load import Request, get_generator_name
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.routes import CHARGE_FORM, CUSTOMERS, DISPUTE_PAGE, EVENT_PAGE, SESSIONS, create_requests
from benchmarks.service import THIS_BUILD, Build, Service, run_service

GROUP = "requests with a key for each person"
CONNECTIONS = 16
ROUNDS_MIN = 7
SECONDS_MIN = 1.0
CHARGES, CUSTOMER_CHARGES, CUSTOMER_PAGE = (
    "POST /v1/charges", "POST /v1/charges of one customer", "GET /v1/customers?limit=100",
)  # fmt: skip
GOAL = Goal(0.95)


class Contestant(NamedTuple):
    """A service, its requests by name, and what was measured of each."""

    service: Service
    requests: dict[str, Request]
    measurements: dict[str, list[LoadMeasurement]]

    @classmethod
    def start(cls, service: Service) -> Contestant:
        """Create what the requests are about."""
        made = create_requests(service)
        requests = {name: made[name] for name in (SESSIONS, CUSTOMERS, DISPUTE_PAGE, EVENT_PAGE)}
        customer = service.create("/v1/customers", {"name": "Jenny Rosen"})["id"]
        post = partial(Request, service.port, "POST", "/v1/charges", service.secret, keyed=True)
        requests[CHARGES] = post(CHARGE_FORM)
        requests[CUSTOMER_CHARGES] = post(f"{CHARGE_FORM}&customer={customer}")
        requests[CUSTOMER_PAGE] = Request(service.port, "GET", "/v1/customers?limit=100", service.secret)
        return cls(service, requests, {name: [] for name in requests})

    def measure(self, name: str, seconds: float) -> LoadMeasurement:
        """Send one request again and again."""
        return measure_load(self.service, self.requests[name], connections=CONNECTIONS, seconds=seconds)


def measure(directory: Path, effort: Effort) -> list[Figure]:
    """The rate and the CPU of each request, beside the earlier build's."""
    builds = {"ours": THIS_BUILD}
    if effort.against:
        builds[EARLIER] = Build(EARLIER, effort.against)
    with ExitStack() as stack:
        contestants = {
            name: Contestant.start(
                stack.enter_context(run_service(directory / f"erasure_{number}", build=build))
            )
            for number, (name, build) in enumerate(builds.items())
        }
        _measure_rounds(contestants, effort)
    pairs = [_build_figures(name, contestants) for name in contestants["ours"].requests]
    return [*(rate for rate, _ in pairs), *(cpu for _, cpu in pairs)]


def _measure_rounds(contestants: dict[str, Contestant], effort: Effort) -> None:
    seconds, rounds = max(SECONDS_MIN, effort.seconds), max(ROUNDS_MIN, effort.rounds)
    for contestant in contestants.values():
        for name in contestant.requests:
            contestant.measure(name, effort.seconds)  # caches are warm, tables have statistics
    turns = list(contestants.values())
    for _ in range(rounds):
        for name in contestants["ours"].requests:
            for contestant in turns:
                contestant.measurements[name].append(contestant.measure(name, seconds))
        turns.reverse()  # neither is always the first


def _build_figures(name: str, contestants: dict[str, Contestant]) -> tuple[Figure, Figure]:
    """The rate of a request, and its CPU."""
    title, cpu_title = f"{GROUP}, load by {get_generator_name()}", f"{GROUP}: CPU of one request"
    ours = contestants["ours"].measurements[name]
    rates = [each.outcome.rate for each in ours]
    cpu = [each.cpu_microseconds().total for each in ours]
    note = f"p99 {median(each.outcome.p99_ms for each in ours):.1f} ms"
    if EARLIER not in contestants:
        return figure(title, name, rates, note=note), figure(
            cpu_title, name, cpu, "µs", note=format_cpu(ours)
        )
    earlier = contestants[EARLIER].measurements[name]
    note += f"; {EARLIER}: {median(each.outcome.p99_ms for each in earlier):.1f} ms"
    earlier_rates = [each.outcome.rate for each in earlier]
    earlier_cpu = [each.cpu_microseconds().total for each in earlier]
    cpu_note = f"{format_cpu(ours)}; {EARLIER}: {format_cpu(earlier)}"
    goal = GOAL if name.startswith("POST") else None
    return (
        compare(title, name, rates, EARLIER, earlier_rates, goal=goal, note=note),
        compare(cpu_title, name, cpu, EARLIER, earlier_cpu, unit="µs", note=cpu_note),
    )
