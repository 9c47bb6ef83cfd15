"""A primary that is lost or hangs while requests run: they wait for it, are asked again elsewhere, and end in
time. Its connections pass proxies that a test can end or stop; a server is stopped itself, by signals.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from tests.api.conftest import parse_log
from tests.api.service import SERVICE_KEY, START_SECONDS, Service
from tests.api.test_lost_connections import Request, Requests
from tests.forks import ForkedProcess, start_ledger
from tests.serving.process import build_environment, list_children
from tests.serving.tcp_proxy import TcpProxy, open_tcp_proxy

REQUEST_SECONDS = 10.0
SHORT_REQUEST_SECONDS = 1.5
MORE_SECONDS = 3.0
"""How much longer than its limit a request may take, on a machine that is busy."""
RECOVERY_SECONDS = 60.0
STOP_SECONDS = 10.0
LOST_SECONDS = 2.0


class Site(NamedTuple):
    """A service, the proxy through which it reaches its database, and requests to it."""

    service: Service
    proxy: TcpProxy
    requests: Requests


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A running, migrated server of this module's own."""
    place = Path(tempfile.mkdtemp(prefix="lost-primary-"))
    place.chmod(0o755)
    server = EmbeddedPostgres(place / "data", settings={"fsync": "off", "shared_buffers": "16MB"})
    server.start()
    migrate(server.dsn())
    yield server
    server.destroy()
    shutil.rmtree(place)


@contextmanager
def open_site(server: EmbeddedPostgres) -> Iterator[Site]:
    parameters = conninfo_to_dict(server.dsn())
    with ExitStack() as stack:
        path = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        proxy = stack.enter_context(open_tcp_proxy(path))
        dsn = make_conninfo(server.dsn(), host="127.0.0.1", port=proxy.port, sslmode="disable")
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        milliseconds = str(int(REQUEST_SECONDS * 1000))
        service = Service(dsn, directory, LEDGER_REQUEST_TIMEOUT_MS=milliseconds)
        stack.callback(service.stop)
        http = stack.enter_context(httpx.Client(base_url=service.url, timeout=30))
        yield Site(service, proxy, Requests(service, http))


def send_together(requests: Requests) -> float:
    """Send requests of every kind at once; none may fail. Returns the seconds of the longest."""
    sends = [*requests.reads(), *requests.writes()]

    def send_one(send: Request) -> float:
        started = time.monotonic()
        send()
        return time.monotonic() - started

    with ThreadPoolExecutor(len(sends)) as threads:
        return max(threads.map(send_one, sends))


def measure_loops(service: Service) -> dict[str, float]:
    text = httpx.get(f"{service.url}/metrics", timeout=30).text
    found = re.findall(r'^ledger_background_seconds_since_last_step\{loop="(.+?)"\} ([\d.e+-]+)$', text, re.M)
    return {name: float(seconds) for name, seconds in found}


def test_a_primary_that_hangs_or_restarts_costs_no_request_an_error(server: EmbeddedPostgres) -> None:
    with open_site(server) as (service, proxy, requests):
        send_together(requests)
        proxy.silence()
        assert send_together(requests) < REQUEST_SECONDS + MORE_SECONDS
        # What follows the log has no request whose limit ends its wait. But it is known to wait.
        assert max(measure_loops(service).values()) > LOST_SECONDS
        proxy.kill()
        starting = threading.Timer(LOST_SECONDS, proxy.start)
        starting.start()
        assert send_together(requests) < REQUEST_SECONDS + MORE_SECONDS
        starting.join()
        deadline = time.monotonic() + RECOVERY_SECONDS
        while max(measure_loops(service).values()) > LOST_SECONDS or is_behind(requests):
            assert time.monotonic() < deadline, measure_loops(service)
            time.sleep(0.1)
        assert count_doubled(server.dsn()) == 0


def is_behind(requests: Requests) -> bool:
    return "ledger-behind-events" in requests.raw.get("/v1/customers").headers


def count_doubled(dsn: str) -> int:
    """How many of the requests with a name of their own made more than one customer."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "SELECT count(*) FROM (SELECT FROM ledger.events WHERE idempotency_key IS NOT NULL "
            "AND topic = 'customer.created' GROUP BY account, idempotency_key HAVING count(*) > 1) AS doubled"
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    """Stop the server and all its processes, by SIGSTOP."""
    with psycopg.connect(server.dsn()) as conn:
        backend = conn.execute("SELECT pg_backend_pid()").fetchone()
        assert backend is not None
        status = Path(f"/proc/{backend[0]}/status").read_text()
    match = re.search(r"^PPid:\s*(\d+)$", status, re.M)
    assert match is not None
    pids = [int(match[1]), *list_children(int(match[1]))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def started_worker(dsn: str, place: Path) -> Iterator[ForkedProcess]:
    """A worker that has begun to work."""
    log = place / "worker.log"
    log.touch()
    process = start_ledger(
        ["worker"],
        environment=build_environment(
            place / "worker", database_url=dsn, secret_key=SERVICE_KEY, health_port=0
        ),
        directory=place,
        output=place / "worker.out",
        errors=log,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (opened := [entry["port"] for entry in parse_log(log.read_text()) if "port" in entry]):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        while httpx.get(f"http://127.0.0.1:{opened[0]}/readyz").status_code != 200:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_no_request_and_no_end_takes_longer_than_its_limit_while_the_server_hangs(
    server: EmbeddedPostgres,
) -> None:
    milliseconds = str(int(SHORT_REQUEST_SECONDS * 1000))
    with ExitStack() as stack:
        data_dir = stack.enter_context(tempfile.TemporaryDirectory())
        http = stack.enter_context(httpx.Client(timeout=30))
        # One process with all loops, for which no supervisor sees to its end; and a worker.
        settings = {"LEDGER_REQUEST_TIMEOUT_MS": milliseconds, "LEDGER_WORKERS": "0"}
        service = Service(server.dsn(), Path(data_dir), **settings)
        worker = stack.enter_context(started_worker(server.dsn(), Path(data_dir)))
        http.base_url = service.url
        requests = Requests(service, http)
        raw, operator = requests.raw, requests.operator
        asks = [
            lambda: raw.get(f"/v1/customers/{requests.customer}"),
            lambda: raw.get("/v1/customers"),
            lambda: raw.get("/v1/balance"),
            lambda: raw.get(f"/v1/files/{requests.file.id}/contents"),
            lambda: raw.post("/v1/customers", "name=hung", idempotency_key="hung"),
            lambda: raw.post("/v1/customers", "name=hung too"),
            lambda: operator.get("/keys"),
            lambda: operator.post("/keys", {"name": "hung"}),
            lambda: operator.get(f"/audit/objects/{requests.customer}"),
            lambda: operator.post("/projections/customers/verify", {"sample": 1}),
            lambda: http.get(str(requests.link.url)),
        ]

        def ask(number: int) -> tuple[float, httpx.Response]:
            started = time.monotonic()
            answer = asks[number]()
            return time.monotonic() - started, answer

        with stopped(server), ThreadPoolExecutor(len(asks)) as threads:
            for number, (seconds, answer) in enumerate(threads.map(ask, range(len(asks)))):
                assert answer.status_code == 503, (number, answer.text)
                assert answer.headers["stripe-should-retry"] == "true", number
                assert answer.json()["error"]["type"] == "api_error"
                assert seconds < SHORT_REQUEST_SECONDS + MORE_SECONDS, number
            assert http.get("/readyz").status_code == 503
            assert http.get("/healthz").status_code == 200
            started = time.monotonic()
            worker.terminate()
            service.stop()
            assert worker.wait(STOP_SECONDS) == 0
            assert time.monotonic() - started < STOP_SECONDS
