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
from typing import LiteralString

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

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
_NEWEST = """
SELECT extract(epoch FROM raised_at)::float8, extract(epoch FROM ended_at)::float8 FROM alerts.alerts
WHERE kind = %s ORDER BY id DESC LIMIT 1
"""
_ANY_ACTIVE = "SELECT 1 FROM alerts.alerts WHERE state = 'active'"
_VERIFIED_AT = """
SELECT extract(epoch FROM checked_at)::float8 FROM projections.verified WHERE projection = 'customers'
"""
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
        *(figure("alerts: raised", work, raised[kind], "s", goal=GOAL) for kind, work in KINDS.items()),
        *(figure("alerts: resolved", work, resolved[kind], "s", goal=GOAL) for kind, work in KINDS.items()),
    ]


Seconds = dict[str, list[float]]


def _measure_worker(service: Service, raised: Seconds, resolved: Seconds) -> None:
    worker = next(each.pid for each in list_service_processes(service.pid) if each.name == "worker")
    with service.connect() as conn:
        os.kill(worker, signal.SIGSTOP)
        try:
            service.create("/v1/customers", {"name": "Jenny"})
            _note(conn, {"worker_stalled": _ask(conn, _NOW)}, raised, is_raised=True)
        finally:
            os.kill(worker, signal.SIGCONT)
        _note(conn, {"worker_stalled": _ask(conn, _NOW)}, resolved, is_raised=False)
        _wait(lambda: not conn.execute(_ANY_ACTIVE).fetchall())


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
        _wait(lambda: bool(conn.execute(_ATTEMPTS).fetchall()))
        begun = {"endpoint_failing": _ask(conn, _NOW)}
        conn.execute(_CHANGE, ("x", customer))
        begun["projection_drift"] = _verify(service, conn)
        blocker.execute(_LOCK)
        service.create("/v1/customers", {"name": "nobody seals"})
        begun["projection_stalled"] = begun["unsealed_events"] = _ask(conn, _NOW)
        _note(conn, begun, raised, is_raised=True)
        blocker.rollback()
        begun["projection_stalled"] = begun["unsealed_events"] = _ask(conn, _NOW)
        receiver.status = 200  # type: ignore[attr-defined]
        _wait(lambda: not conn.execute(_FAILING).fetchall())
        begun["endpoint_failing"] = _ask(conn, _NOW)
        conn.execute(_CHANGE, ("jenny@example.com", customer))
        begun["projection_drift"] = _verify(service, conn)
        _note(conn, begun, resolved, is_raised=False)
    service.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")


def _verify(service: Service, conn: psycopg.Connection) -> float:
    """Compare all rows of customers with the log; returns when that was known. The command fails when one
    differs."""
    with suppress(CalledProcessError):
        service.run_command("projections", "verify", "customers", "--json")
    return _ask(conn, _VERIFIED_AT)


def _note(conn: psycopg.Connection, begun: dict[str, float], seconds: Seconds, *, is_raised: bool) -> None:
    """Wait until an alert of each kind was raised, or resolved, since then, and note how long it took."""
    for kind, at in begun.items():
        _wait(lambda kind=kind, at=at: _find(conn, kind, is_raised=is_raised) >= at)
        seconds[kind].append(_find(conn, kind, is_raised=is_raised) - at)


def _find(conn: psycopg.Connection, kind: str, *, is_raised: bool) -> float:
    """When the newest alert of the kind was raised, or resolved; 0 if it was not."""
    row = conn.execute(_NEWEST, (kind,)).fetchone()
    at = None if row is None else row[0 if is_raised else 1]
    return float(at or 0.0)


def _ask(conn: psycopg.Connection, query: LiteralString) -> float:
    row = conn.execute(query).fetchone()
    assert row is not None
    return float(row[0])


def _wait(condition: Callable[..., bool]) -> None:
    """Wait until the condition is true. Raises RuntimeError after TIMEOUT_SECONDS."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing changed in {TIMEOUT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


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
