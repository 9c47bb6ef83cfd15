"""Pages of 100 items with members expanded, against the same pages without, over one connection.

What differs is reading the expanded objects, rendering them and sending a larger body. Nothing but the reads
can be saved: one statement for each level of expansion is what it should take.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, compare
from benchmarks.service import Service, run_service

ITEMS = 100
CUSTOMERS = 20
CATCH_UP_TIMEOUT_SECONDS = 60.0
PLAIN = "without expand"
EXPANSIONS = {
    "balance_transactions": ("source", "source.customer"),
    "charges": ("customer", "balance_transaction.source"),
    "disputes": ("charge.customer",),
}


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures for each list of EXPANSIONS, with each of its members."""
    with run_service(directory / "expansion") as service:
        _create_payments(service)
        return [
            figure
            for plural, members in EXPANSIONS.items()
            for figure in _measure_list(service, plural, members, effort)
        ]


def _measure_list(service: Service, plural: str, members: tuple[str, ...], effort: Effort) -> list[Figure]:
    outcomes: dict[str, list[Outcome]] = {}

    def measure(name: str, query: str) -> float:
        path = f"/v1/{plural}?limit={ITEMS}{query}"
        request = Request(service.port, "GET", path, secret=service.secret)
        outcome = run_load(request, connections=1, seconds=effort.seconds)
        outcomes.setdefault(name, []).append(outcome)
        return outcome.rate

    queries = {PLAIN: ""} | {member: f"&expand%5B%5D=data.{member}" for member in members}
    rates = alternate({name: partial(measure, name, query) for name, query in queries.items()}, effort.rounds)
    milliseconds = {name: median(each.median_ms for each in found) for name, found in outcomes.items()}
    return [
        compare(
            f"lists with expansion, 1 connection, load by {get_generator_name()}",
            f"GET /v1/{plural}?limit={ITEMS}&expand[]=data.{member}",
            rates[member],
            PLAIN,
            rates[PLAIN],
            note=f"p50 {milliseconds[member]:.1f} ms, {PLAIN} {milliseconds[PLAIN]:.1f} ms",
        )
        for member in members
    ]


def _create_payments(service: Service) -> None:
    """ITEMS charges of CUSTOMERS customers, all disputed."""
    card = {"source": "tok_createDispute"}
    customers = [
        service.create("/v1/customers", {"name": f"Jenny {number}", **card})["id"]
        for number in range(CUSTOMERS)
    ]
    for number in range(ITEMS):
        form = {"amount": "2000", "currency": "usd", "customer": customers[number % CUSTOMERS]}
        service.create("/v1/charges", form)
    service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
