"""How soon a fault is raised as an alert, and how soon the alert resolves once the fault is over, by kind.

A service with its defaults: an API process and a worker. The faults of a round are made at once and mended at
once, but for the stopped worker, which has a turn of its own. A fault begins with the first event that waits
because of it; that of an endpoint with its third failed attempt, that of a row with its verification.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CalledProcessError

import psycopg

from benchmarks.measurement import Effort
from benchmarks.process_stats import list_service_processes
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import Service, run_service

GOAL = Goal(10, is_maximum=True)
TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05
KINDS = {
    "worker_stalled": "a worker that is stopped",
    "projection_stalled": "a projection that a session keeps from moving",
    "unsealed_events": "events that a session keeps from being sealed",
    "projection_drift": "a row that differs from the log",
    "endpoint_failing": "a webhook endpoint that fails",
}
SETTINGS = {
    "LEDGER_WEBHOOK_RETRY_SECONDS_TEST": ",".join(["1"] * 90),
    "LEDGER_VERIFY_PAUSE_SECONDS": "0",
    "LEDGER_LOG_LEVEL": "error",
}

_ACTIVE = "SELECT 1 FROM alerts.alerts WHERE kind = %s AND state = 'active'"
_ATTEMPTS = "SELECT attempts FROM webhooks.endpoint_health WHERE failing AND attempts >= 3"
_FAILING = "SELECT 1 FROM webhooks.endpoint_health WHERE failing"
_LOCK = (
    "SELECT FROM projections.checkpoints WHERE projection = 'refunds' FOR UPDATE; "
    "SELECT FROM ledger.tree_head FOR UPDATE"
)
_CHANGE = "UPDATE projections.customers SET email = %s WHERE id = %s"


def run(directory: Path, effort: Effort) -> list[Figure]:
    """Seconds until each kind is raised, and until it is resolved."""
    raised: dict[str, list[float]] = {kind: [] for kind in KINDS}
    resolved: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with run_service(directory / "alerts", settings=SETTINGS) as service, _run_receiver() as receiver:
        for _ in range(effort.rounds):
            _measure_worker(service, raised, resolved)
            _measure_others(service, receiver, raised, resolved)
    return [
        *(figure("alerts: raised", work, raised[kind], " s", goal=GOAL) for kind, work in KINDS.items()),
        *(figure("alerts: resolved", work, resolved[kind], " s", goal=GOAL) for kind, work in KINDS.items()),
    ]


Seconds = dict[str, list[float]]


def _measure_worker(service: Service, raised: Seconds, resolved: Seconds) -> None:
    worker = next(each.pid for each in list_service_processes(service.pid) if each.name == "worker")
    with service.connect() as conn:
        os.kill(worker, signal.SIGSTOP)
        try:
            service.create("/v1/customers", {"name": "Jenny"})
            raised["worker_stalled"].append(_time(lambda: _is_active(conn, "worker_stalled")))
        finally:
            os.kill(worker, signal.SIGCONT)
        resolved["worker_stalled"].append(_time(lambda: not _is_active(conn, "worker_stalled")))
        _time(lambda: not conn.execute("SELECT 1 FROM alerts.alerts WHERE state = 'active'").fetchall())


def _measure_others(
    service: Service, receiver: ThreadingHTTPServer, raised: Seconds, resolved: Seconds
) -> None:
    customer = service.create("/v1/customers", {"email": "jenny@example.com"})["id"]
    service.wait_until_caught_up(timeout_seconds=TIMEOUT_SECONDS, plural="customers")
    receiver.status = 500  # type: ignore[attr-defined]
    address = f"http://127.0.0.1:{receiver.server_address[1]}/"
    form = {"url": address, "enabled_events[0]": "customer.created"}
    endpoint = service.create("/v1/webhook_endpoints", form)["id"]
    with service.connect() as conn, psycopg.connect(service.dsn) as blocker:
        service.create("/v1/customers", {"name": "nobody is told of"})
        _time(lambda: bool(conn.execute(_ATTEMPTS).fetchall()))
        begun = {"endpoint_failing": time.monotonic()}
        conn.execute(_CHANGE, ("x", customer))
        _verify(service)
        begun["projection_drift"] = time.monotonic()
        blocker.execute(_LOCK)
        service.create("/v1/customers", {"name": "nobody seals"})
        begun["projection_stalled"] = begun["unsealed_events"] = time.monotonic()
        _note(conn, begun, raised, is_active=True)
        blocker.rollback()
        begun["projection_stalled"] = begun["unsealed_events"] = time.monotonic()
        conn.execute(_CHANGE, ("jenny@example.com", customer))
        receiver.status = 200  # type: ignore[attr-defined]
        _verify(service)
        begun["projection_drift"] = time.monotonic()
        _time(lambda: not conn.execute(_FAILING).fetchall())
        begun["endpoint_failing"] = time.monotonic()
        _note(conn, begun, resolved, is_active=False)
    service.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")


def _verify(service: Service) -> None:
    """Compare all rows of customers with the log. The command fails when one differs."""
    with suppress(CalledProcessError):
        service.run_command("projections", "verify", "customers", "--json")


def _note(conn: psycopg.Connection, begun: dict[str, float], seconds: Seconds, *, is_active: bool) -> None:
    """Wait until all of these kinds are active, or are not, and note how long each took."""
    waiting = set(begun)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while waiting:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no change of {', '.join(sorted(waiting))} in {TIMEOUT_SECONDS:.0f} s")
        for kind in [kind for kind in waiting if _is_active(conn, kind) is is_active]:
            seconds[kind].append(max(0.0, time.monotonic() - begun[kind]))
            waiting.discard(kind)
        time.sleep(POLL_SECONDS)


def _is_active(conn: psycopg.Connection, kind: str) -> bool:
    return bool(conn.execute(_ACTIVE, (kind,)).fetchall())


def _time(condition: Callable[[], bool]) -> float:
    """Seconds until the condition is true. Raises RuntimeError after TIMEOUT_SECONDS."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > TIMEOUT_SECONDS:
            raise RuntimeError(f"nothing changed in {TIMEOUT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started


@contextmanager
def _run_receiver() -> Iterator[ThreadingHTTPServer]:
    """A server that answers each POST with its `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(server.status)  # type: ignore[attr-defined]
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status = 500  # type: ignore[attr-defined]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
