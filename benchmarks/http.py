"""HTTP: our routes with everything running, against FastAPI routes that do nothing, on the same server
software.

A POST is durable before it is answered, and the projections apply it during the measurement. After each of
our measurements the next contestant waits until the projections have caught up. The note says how long that
took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compare_rates, figure
from benchmarks.service import Service, run_yardstick

CONNECTIONS = (1, 16, 64)
CATCH_UP_TIMEOUT_SECONDS = 60.0
FEED_EVENTS_MIN = 20

FORM, CONSTANT, RAW = "FastAPI Form()", "FastAPI constant", "raw ASGI"
RAW_NOTE = "the limit of server software and load generator together"


class ConnectionRun:
    """The measurements of all contestants at one number of connections, with their latencies."""

    def __init__(self, service: Service, seconds: float, connections: int) -> None:
        self._service = service
        self._seconds = seconds
        self._connections = connections
        self.outcomes: dict[str, list[Outcome]] = {}
        self.catch_up_seconds: dict[str, list[float]] = {}

    def measure(self, name: str, request: Request) -> float:
        """Responses per second of one contestant. Keeps its latencies under `name`."""
        outcome = run_load(request, connections=self._connections, seconds=self._seconds)
        self.outcomes.setdefault(name, []).append(outcome)
        if request.port == self._service.port:
            seconds = self._service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
            self.catch_up_seconds.setdefault(name, []).append(seconds)
        return outcome.rate

    def format_note(self, name: str) -> str:
        """The contestant's latencies, and how long the projections took after its POSTs."""
        outcomes = self.outcomes[name]
        text = (
            f"p50 {median(outcome.median_ms for outcome in outcomes):.1f} ms, "
            f"p99 {median(one.p99_ms for one in outcomes):.1f} ms"
        )
        if name.startswith("POST"):
            text += f"; caught up in {median(self.catch_up_seconds[name]):.2f} s"
        return text


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures for every route at 1, 16 and 64 connections."""
    figures: list[Figure] = []
    with (
        run_service(directory / "http") as service,
        run_yardstick("app") as fastapi_port,
        run_yardstick("raw") as raw_port,
    ):
        ledger_requests = _create_requests(service)
        yardsticks = {
            FORM: Request(fastapi_port, "POST", "/form", form="customer=cus_0000000000000000000000"),
            CONSTANT: Request(fastapi_port, "GET", "/constant"),
            RAW: replace(ledger_requests["POST /v1/customer_sessions"], port=raw_port),
        }
        for connections in CONNECTIONS:
            connection_run = ConnectionRun(service, effort.seconds, connections)
            requests: Mapping[str, Request] = ledger_requests | yardsticks
            rates = alternate(
                {name: partial(connection_run.measure, name, request) for name, request in requests.items()},
                effort.rounds,
            )
            group = f"HTTP, {connections} connection{'s' * (connections > 1)}, load by {get_generator_name()}"
            for name in ledger_requests:
                yardstick_name = FORM if name.startswith("POST") else CONSTANT
                figures.append(
                    compare_rates(
                        group,
                        name,
                        rates[name],
                        yardstick_name,
                        rates[yardstick_name],
                        goal=_get_goal(name),
                        note=connection_run.format_note(name),
                    )
                )
            figures.append(figure(group, "POST /v1/customer_sessions to raw ASGI", rates[RAW], note=RAW_NOTE))
    return figures


@contextmanager
def run_service(data_dir: Path) -> Iterator[Service]:
    """Start a service on the data directory `data_dir`. Stop it afterwards."""
    service = Service(data_dir)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _create_requests(service: Service) -> dict[str, Request]:
    """Requests such as integrators send, on objects created for them. SDKs send an Idempotency-Key with every
    POST; "no key" is the same request without one."""
    customer = service.create("/v1/customers", {"name": "Jenny Rosen", "email": "jenny@example.com"})["id"]
    dispute = _create_dispute(service)
    for number in range(FEED_EVENTS_MIN):
        service.create(f"/v1/customers/{customer}", {"metadata[visit]": str(number)})
    session_form = f"customer={customer}&components[pricing_table][enabled]=true"
    customer_form = "name=Jenny+Rosen&email=jenny%40example.com&metadata[order]=6735"
    post = partial(Request, service.port, "POST", secret=service.secret)
    get = partial(Request, service.port, "GET", secret=service.secret)
    return {
        "POST /v1/customer_sessions": post("/v1/customer_sessions", form=session_form, keyed=True),
        "POST /v1/customer_sessions, no key": post("/v1/customer_sessions", form=session_form),
        "POST /v1/customers": post("/v1/customers", form=customer_form, keyed=True),
        "POST /v1/customers, no key": post("/v1/customers", form=customer_form),
        "GET /v1/disputes/{id}": get(f"/v1/disputes/{dispute}"),
        "GET /v1/events?limit=10": get("/v1/events?limit=10"),
    }


def _create_dispute(service: Service) -> str:
    """Create a dispute with a test card. Returns its id."""
    form = {"amount": "2000", "currency": "usd", "source": "tok_createDispute"}
    charge = service.create("/v1/charges", form)["id"]
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        disputes = service.call("GET", f"/v1/disputes?charge={charge}").body.get("data")
        if disputes:
            return str(disputes[0]["id"])
    raise RuntimeError("the test card opened no dispute")


def _get_goal(name: str) -> Goal | None:
    if name.startswith("POST /v1/customer_sessions"):
        return Goal(1.5)
    return Goal(1.0) if name == "GET /v1/disputes/{id}" else None
