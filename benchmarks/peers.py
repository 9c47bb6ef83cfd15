"""Two other services on the routes that they share with ours, under the same load, in turns.

localstripe (PyPI) imitates Stripe for tests. It is one asyncio process that keeps all objects in memory. At
each write it writes all of them to one file in /tmp, without making that durable; a list goes through all.
The stock application is the `eventsourcing` library behind FastAPI, with Postgres
(`yardsticks/stock_app.py`); it has no list of customers, and its events are the library's notifications.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.database import run_server
from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, compare
from benchmarks.routes import CATCH_UP_TIMEOUT_SECONDS
from benchmarks.service import (
    THIS_BUILD,
    await_start,
    find_free_port,
    is_listening,
    run_service,
    run_yardstick,
    stop_process,
)
from benchmarks.yardsticks import stock

CONNECTIONS = (1, 16)
CUSTOMERS = 100
OURS, LOCALSTRIPE, STOCK = "ours", "localstripe", "stock Application with FastAPI"
LOCALSTRIPE_PROGRAM = THIS_BUILD.root / ".clients" / "localstripe" / "bin" / "localstripe"
LOCALSTRIPE_FILE = Path("/tmp/localstripe.pickle")
LOCALSTRIPE_KEY = "sk_test_benchmark"
FORM = "name=Jenny+Rosen&email=jenny%40example.com"
RETRIEVE, PAGE, EVENTS, CREATE = (
    "GET /v1/customers/{id}",
    "GET /v1/customers?limit=10",
    "GET /v1/events?limit=10",
    "POST /v1/customers",
)


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Our rates beside each peer's. Where localstripe is not installed, beside the stock application's
    only."""
    with (
        run_service(directory / "peers") as service,
        run_server(directory / "peers_stock") as server,
        run_yardstick(
            "stock_app:app",
            stock.build_environment(server.create_empty_database("peers"), server.password, ids="uuid"),
        ) as stock_port,
        _run_localstripe() as localstripe_port,
    ):
        requests = {OURS: _create_requests(service.port, service.secret)}
        service.wait_until_caught_up(timeout_seconds=CATCH_UP_TIMEOUT_SECONDS)
        requests[STOCK] = _create_requests(stock_port, "")
        del requests[STOCK][PAGE]
        if localstripe_port:
            requests[LOCALSTRIPE] = _create_requests(localstripe_port, LOCALSTRIPE_KEY)
        return [
            figure
            for connections in CONNECTIONS
            for figure in _measure_connections(requests, connections, effort)
        ]


def _measure_connections(
    requests: Mapping[str, Mapping[str, Request]], connections: int, effort: Effort
) -> list[Figure]:
    outcomes: dict[tuple[str, str], list[Outcome]] = {}

    def measure(who: str, name: str) -> float:
        outcome = run_load(requests[who][name], connections=connections, seconds=effort.seconds)
        outcomes.setdefault((who, name), []).append(outcome)
        return outcome.rate

    def get_median_ms(who: str, name: str) -> float:
        return median(each.median_ms for each in outcomes[who, name])

    figures = []
    group = f"peers, {connections} connection{'s' * (connections > 1)}, load by {get_generator_name()}"
    for name in requests[OURS]:
        peers = [who for who in requests if name in requests[who]]
        rates = alternate({who: partial(measure, who, name) for who in peers}, effort.rounds)
        figures += [
            compare(
                group,
                name,
                rates[OURS],
                peer,
                rates[peer],
                note=f"p50 {get_median_ms(OURS, name):.2f} and {get_median_ms(peer, name):.2f} ms",
            )
            for peer in peers
            if peer != OURS
        ]
    return figures


def _create_requests(port: int, secret: str) -> dict[str, Request]:
    """The requests to one service, on CUSTOMERS customers created for them. The POST is last: localstripe
    gets slower with each object. It has no keyed POSTs, so nobody gets a key."""
    post = Request(port, "POST", "/v1/customers", secret, FORM)
    customer = ""
    for _ in range(CUSTOMERS):
        customer = str(post.send()["id"])
    return {
        RETRIEVE: Request(port, "GET", f"/v1/customers/{customer}", secret),
        PAGE: Request(port, "GET", "/v1/customers?limit=10", secret),
        EVENTS: Request(port, "GET", "/v1/events?limit=10", secret),
        CREATE: post,
    }


@contextmanager
def _run_localstripe() -> Iterator[int | None]:
    """Its port, or None where it is not installed. Its file of objects is deleted unless it was there
    before."""
    if not LOCALSTRIPE_PROGRAM.exists():
        print("localstripe is not installed: make bench-peers installs it", file=sys.stderr)
        yield None
        return
    had_file = LOCALSTRIPE_FILE.exists()
    port = find_free_port()
    process = subprocess.Popen(
        [LOCALSTRIPE_PROGRAM, "--port", str(port), "--from-scratch"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_start(process, "localstripe", lambda: is_listening(port))
        yield port
    finally:
        stop_process(process)
        if not had_file:
            LOCALSTRIPE_FILE.unlink(missing_ok=True)
