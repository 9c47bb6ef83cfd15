"""Where the CPU of a POST goes: http, wire, decide, encode, database, project.

The service's Python processes are sampled by themselves (`sampler/sitecustomize.py`): each sample belongs to
the layer of its innermost module that has one. Shares of samples are multiplied by the CPU that /proc counts
for these processes during the load, so the layers add up to it. Postgres is read from /proc alone, by the
login of each session.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.http import BATCH_SECONDS, EARLIER
from benchmarks.load import Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.process_stats import list_service_processes
from benchmarks.report import Figure, compare, figure
from benchmarks.routes import CATCH_UP_TIMEOUT_SECONDS, CUSTOMERS, SESSIONS, create_requests
from benchmarks.service import THIS_BUILD, Build, Service, run_service

CONNECTIONS = 16
SECONDS_MIN = 1.5
"""Shorter loads give too few samples."""
ROUTES = (SESSIONS, CUSTOMERS)
SAMPLER = Path(__file__).resolve().parent / "sampler"

HTTP, PROJECT, OTHER = "http", "project", "other background work"
LAYERS = {
    "wire": ("ledger.wire",),
    "encode": ("ledger.store.codec", "ledger.commands.session_secrets"),
    "decide": ("ledger.commands", "ledger.domain", "ledger.objects", "ledger.ids", "ledger.call"),
    "database": ("ledger.store", "ledger.queries", "ledger.postgres", "psycopg", "psycopg_pool"),
    HTTP: ("ledger.api", "ledger.metrics", "uvicorn", "starlette", "fastapi", "uvloop"),
}
"""The modules of each layer. Those of `encode` come before the packages that they are in."""
WHOLE_STACKS = {
    PROJECT: ("projections",),
    OTHER: ("ledger.tree", "ledger.webhooks", "ledger.deadlines", "ledger.background"),
}
"""Work of its own, whatever it calls."""
MAIN = ".__main__"
"""At the end of every stack; in an earlier build that of `projections` starts the service."""
LAYER_NAMES = (HTTP, "wire", "decide", "encode", "database", PROJECT, OTHER)

PYTHON, POSTGRES = "Python in all", "Postgres in all"

Costs = Mapping[str, float]


def get_layer(modules: Sequence[str]) -> str:
    """The layer of a sample, its modules from the innermost outward. The event loop itself is part of
    http, in a process that answers requests."""
    modules = [each for each in modules if not each.endswith(MAIN)]
    for layer, packages in WHOLE_STACKS.items():
        if any(_is_in(module, packages) for module in modules):
            return layer
    for module in modules:
        for layer, packages in LAYERS.items():
            if _is_in(module, packages):
                return layer
    return HTTP


def count_layers(lines: Iterable[str], since: float, until: float) -> Counter[str]:
    """Samples by layer, of those taken between two monotonic times."""
    counts: Counter[str] = Counter()
    for line in lines:
        moment, *modules = line.split()
        if since <= float(moment) <= until:
            counts[get_layer(modules)] += 1
    return counts


def run(directory: Path, effort: Effort) -> list[Figure]:
    """CPU of one POST by layer, for each route of ROUTES."""
    builds = [THIS_BUILD, *([Build(EARLIER, effort.against)] if effort.against else [])]
    costs: dict[tuple[str, str], list[Costs]] = {}
    with ExitStack() as stack:
        services = [_start_sampled(stack, directory, build) for build in builds]
        requests = [create_requests(service) for service, _ in services]
        for _ in range(effort.rounds):
            for route in ROUTES:
                for build, (service, samples), named in zip(builds, services, requests, strict=True):
                    seconds = max(SECONDS_MIN, effort.seconds)
                    cost = _measure_layers(service, samples, named[route], seconds)
                    costs.setdefault((build.name, route), []).append(cost)
    return [
        each
        for route in ROUTES
        for each in _build_figures(route, costs[THIS_BUILD.name, route], costs.get((EARLIER, route)))
    ]


def _start_sampled(stack: ExitStack, directory: Path, build: Build) -> tuple[Service, Path]:
    name = build.name.replace(" ", "_")
    samples = directory / f"samples_{name}"
    samples.mkdir()
    path = os.pathsep.join((str(SAMPLER), str(build.root)))
    settings = {"PYTHONPATH": path, "BENCHMARK_SAMPLES": str(samples)}
    return stack.enter_context(
        run_service(directory / f"layers_{name}", build=build, settings=settings)
    ), samples


def _measure_layers(service: Service, samples: Path, request: Request, seconds: float) -> Costs:
    """CPU µs of one request: by layer in the Python processes, by login in Postgres."""
    before = {each.pid: each.cpu_seconds for each in list_service_processes(service.pid)}
    since = time.monotonic()
    outcome = run_load(request, connections=CONNECTIONS, seconds=seconds)
    time.sleep(BATCH_SECONDS)
    until = time.monotonic()
    seconds_by_part: defaultdict[str, float] = defaultdict(float)
    for process in list_service_processes(service.pid):
        used = process.cpu_seconds - before.get(process.pid, 0.0)
        file = samples / str(process.pid)
        if process.role == "postgres":
            seconds_by_part[f"Postgres: {process.name}"] += used
        elif file.exists():
            counts = count_layers(file.read_text().splitlines(), since, until)
            for layer, count in counts.items():
                if process.role == "background" and layer == HTTP:
                    layer = OTHER
                seconds_by_part[layer] += used * count / counts.total()
    service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
    return {part: used / outcome.completed * 1e6 for part, used in seconds_by_part.items()}


def _build_figures(route: str, ours: Sequence[Costs], earlier: Sequence[Costs] | None) -> list[Figure]:
    group = f"CPU of one {route}, {CONNECTIONS} connections, load by {get_generator_name()}"
    logins = sorted({part for cost in (*ours, *(earlier or ())) for part in cost if part not in LAYER_NAMES})
    python_total = [_sum_layers(cost) for cost in ours]
    figures = []
    for part in (*LAYER_NAMES, PYTHON, *logins, POSTGRES):
        values = _select(ours, part)
        if max(values) < 0.5:
            continue
        share = median(values) / median(python_total)
        note = f"{share:.0%} of Python" if part in LAYER_NAMES else ""
        if earlier is not None and min(earlier_values := _select(earlier, part)) > 0:
            figures.append(compare(group, part, values, EARLIER, earlier_values, unit="µs", note=note))
        else:
            figures.append(figure(group, part, values, "µs", note=note))
    return figures


def _select(costs: Sequence[Costs], part: str) -> list[float]:
    if part == PYTHON:
        return [_sum_layers(cost) for cost in costs]
    if part == POSTGRES:  # an earlier build may have other logins
        return [sum(cost.values()) - _sum_layers(cost) for cost in costs]
    return [cost.get(part, 0.0) for cost in costs]


def _sum_layers(cost: Costs) -> float:
    return sum(cost.get(layer, 0.0) for layer in LAYER_NAMES)


def _is_in(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
