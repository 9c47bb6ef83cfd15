"""HTTP: our routes with everything running, against FastAPI routes that do nothing, on one server software.

A POST is durable before it is answered and its projections follow during the measurement; after each one
the next contestant waits until they have caught up, and how long that took is the note.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.load import Outcome, Request, generator, load
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compared, figure
from benchmarks.service import Service, yardstick

CONNECTIONS = (1, 16, 64)
CATCH_UP_TIMEOUT_SECONDS = 60.0
EVENTS_IN_THE_FEED_MIN = 20

FORM, CONSTANT, RAW = "FastAPI Form()", "FastAPI constant", "raw ASGI"
LIMIT = "what server software and load generator reach together"


class Session:
    """Takes the measurements of all contestants at one number of connections, and keeps their latencies."""

    def __init__(self, service: Service, seconds: float, connections: int) -> None:
        self._service = service
        self._seconds = seconds
        self._connections = connections
        self.outcomes: dict[str, list[Outcome]] = {}
        self.catching_up: dict[str, list[float]] = {}

    def measure(self, name: str, request: Request) -> float:
        outcome = load(request, connections=self._connections, seconds=self._seconds)
        self.outcomes.setdefault(name, []).append(outcome)
        if request.port == self._service.port:
            waited = self._service.caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
            self.catching_up.setdefault(name, []).append(waited)
        return outcome.rate

    def note(self, name: str) -> str:
        outcomes = self.outcomes[name]
        text = (
            f"p50 {median(one.median_ms for one in outcomes):.1f} ms, "
            f"p99 {median(one.p99_ms for one in outcomes):.1f} ms"
        )
        if name.startswith("POST"):
            text += f"; caught up in {median(self.catching_up[name]):.2f} s"
        return text


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Figures of every route at 1, 16 and 64 connections."""
    figures: list[Figure] = []
    with serving(directory / "http") as service, yardstick("app") as fastapi, yardstick("raw") as bare:
        ours = _requests(service)
        yardsticks = {
            FORM: Request(fastapi, "POST", "/form", form="customer=cus_0000000000000000000000"),
            CONSTANT: Request(fastapi, "GET", "/constant"),
            RAW: replace(ours["POST /v1/customer_sessions"], port=bare),
        }
        for connections in CONNECTIONS:
            session = Session(service, effort.seconds, connections)
            requests: Mapping[str, Request] = ours | yardsticks
            rates = alternate(
                {name: partial(session.measure, name, request) for name, request in requests.items()},
                effort.rounds,
            )
            group = f"HTTP, {connections} connection{'s' * (connections > 1)}, load by {generator()}"
            for name in ours:
                against = FORM if name.startswith("POST") else CONSTANT
                figures.append(
                    compared(
                        group,
                        name,
                        rates[name],
                        against,
                        rates[against],
                        goal=_goal(name),
                        note=session.note(name),
                    )
                )
            figures.append(figure(group, "the same POST to raw ASGI", rates[RAW], note=LIMIT))
    return figures


@contextmanager
def serving(data_dir: Path) -> Iterator[Service]:
    """A service started on a data directory of its own."""
    service = Service(data_dir)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _requests(service: Service) -> dict[str, Request]:
    """What integrators send, on objects made for it. SDKs send an Idempotency-Key with every POST."""
    customer = service.create("/v1/customers", {"name": "Jenny Rosen", "email": "jenny@example.com"})["id"]
    dispute = _dispute(service)
    for number in range(EVENTS_IN_THE_FEED_MIN):
        service.create(f"/v1/customers/{customer}", {"metadata[visit]": str(number)})
    session = f"customer={customer}&components[pricing_table][enabled]=true"
    jenny = "name=Jenny+Rosen&email=jenny%40example.com&metadata[order]=6735"
    post = partial(Request, service.port, "POST", secret=service.secret)
    get = partial(Request, service.port, "GET", secret=service.secret)
    return {
        "POST /v1/customer_sessions": post("/v1/customer_sessions", form=session, keyed=True),
        "POST /v1/customer_sessions, no key": post("/v1/customer_sessions", form=session),
        "POST /v1/customers": post("/v1/customers", form=jenny, keyed=True),
        "POST /v1/customers, no key": post("/v1/customers", form=jenny),
        "GET /v1/disputes/{id}": get(f"/v1/disputes/{dispute}"),
        "GET /v1/events?limit=10": get("/v1/events?limit=10"),
    }


def _dispute(service: Service) -> str:
    """The id of a dispute, opened by a test card."""
    form = {"amount": "2000", "currency": "usd", "source": "tok_createDispute"}
    charge = service.create("/v1/charges", form)["id"]
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        found = service.call("GET", f"/v1/disputes?charge={charge}").body.get("data")
        if found:
            return str(found[0]["id"])
    raise RuntimeError("no dispute was opened for the test card")


def _goal(name: str) -> Goal | None:
    if name.startswith("POST /v1/customer_sessions"):
        return Goal(1.5)
    return Goal(1.0) if name == "GET /v1/disputes/{id}" else None
