"""Starting `ledger serve` with its embedded Postgres, and the memory it takes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.load import Request, load
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import Service

GROUP = "start and memory"
CATCH_UP_TIMEOUT_SECONDS = 60.0


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Seconds until a first list is answered; resident memory of the serving process, idle and after load."""
    service = Service(directory / "startup")
    try:
        first = service.start()
        idle = service.memory_mb()
        customer = service.create("/v1/customers", {"name": "Jenny Rosen"})["id"]
        form = f"customer={customer}&components[pricing_table][enabled]=true"
        request = Request(service.port, "POST", "/v1/customer_sessions", service.secret, form, keyed=True)
        loaded = load(request, connections=16, seconds=effort.seconds * effort.rounds)
        service.caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
        after = service.memory_mb()
        again = []
        for _ in range(effort.rounds):
            service.stop()
            again.append(service.start())
    finally:
        service.stop()
    note = f"after about {loaded.rate * effort.seconds * effort.rounds:,.0f} POSTs"
    return [
        figure(GROUP, "start to first 200, existing data", again, "s", goal=Goal(2, most=True)),
        figure(GROUP, "the same, making the database", [first], "s"),
        figure(GROUP, "memory, idle", [idle], "MB"),
        figure(GROUP, "memory, after load", [after], "MB", note=note),
    ]
