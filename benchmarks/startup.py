"""How long `ledger serve` takes to start with its embedded Postgres, and how much memory it uses."""

from __future__ import annotations

from pathlib import Path

from benchmarks.load import Request, run_load
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import Service

GROUP = "start and memory"
CATCH_UP_TIMEOUT_SECONDS = 60.0


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Seconds until the first list is answered, and resident memory of the serving process, idle and after
    load."""
    service = Service(directory / "startup")
    try:
        first_start_seconds = service.start()
        idle_mb = service.read_memory_mb()
        customer = service.create("/v1/customers", {"name": "Jenny Rosen"})["id"]
        form = f"customer={customer}&components[pricing_table][enabled]=true"
        request = Request(service.port, "POST", "/v1/customer_sessions", service.secret, form, keyed=True)
        outcome = run_load(request, connections=16, seconds=effort.seconds * effort.rounds)
        service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
        loaded_mb = service.read_memory_mb()
        restart_seconds = []
        for _ in range(effort.rounds):
            service.stop()
            restart_seconds.append(service.start())
    finally:
        service.stop()
    note = f"after about {outcome.rate * effort.seconds * effort.rounds:,.0f} POSTs"
    return [
        figure(
            GROUP, "start to first 200, existing data", restart_seconds, "s", goal=Goal(2, is_maximum=True)
        ),
        figure(GROUP, "start to first 200, new database", [first_start_seconds], "s"),
        figure(GROUP, "memory, idle", [idle_mb], "MB"),
        figure(GROUP, "memory, after load", [loaded_mb], "MB", note=note),
    ]
