"""The erasure of one customer with as many events as `--events` says, beside a second one that stays.

The events come by an import: charges, refunds, published invoices and imported Events, all with personal
data. Measured is the time until the job is validated; that from the answer to `run` until it has succeeded,
by step; the most memory of any process meanwhile; and the latency of POSTs of others beside it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measurement import Effort
from benchmarks.process_stats import list_service_processes, read_peak_mb
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import Service, run_service

PREVIEW = {"Stripe-Version": "2026-09-30.preview"}
JOBS = "/v1/privacy/redaction_jobs"
GROUP = "erasure of one customer"
EVENTS_PER_ROUND = 5
CATCH_UP_SECONDS = 600.0
TIMEOUT_SECONDS = 300.0
POLL_SECONDS = 0.1
PAUSE_SECONDS = 0.02
SECONDS_GOAL = Goal(10, is_maximum=True)
MEMORY_GOAL_MB = Goal(300, is_maximum=True)
_HEAD = "SELECT position FROM ledger.head"
_STEP = "SELECT step FROM ledger.erasures WHERE job = %s"


class Erasure(NamedTuple):
    """How one erasure went: seconds of the validation before, and of the run, in all and by step; and the
    latencies of the POSTs beside it."""

    validation_seconds: float
    seconds: float
    steps: dict[str, float]
    latencies: list[float]
    memory_mb: dict[str, float]


def measure(directory: Path, effort: Effort) -> list[Figure]:
    """The figures of one erasure. It cannot be repeated: there is one round."""
    with run_service(directory / "erasure_large") as service:
        customer, before = "cus_large", _read_head(service)
        _import(service, generate_lines(customer, effort.events))
        events = _read_head(service) - before
        service.wait_until_caught_up(timeout_seconds=CATCH_UP_SECONDS)
        before_mb = service.read_memory_mb()
        erasure = _erase(service, customer)
    work = f"{events:,} events: run until succeeded"
    steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in erasure.steps.items())
    memory = ", ".join(f"{name} {mb:.0f}" for name, mb in erasure.memory_mb.items())
    latencies = sorted(erasure.latencies)
    return [
        figure(GROUP, f"{events:,} events: validation", [erasure.validation_seconds], "s"),
        figure(GROUP, work, [erasure.seconds], "s", goal=SECONDS_GOAL, note=steps),
        figure(GROUP, "events erased a second", [events / erasure.seconds]),
        figure(
            GROUP, "most memory of a process", [max(erasure.memory_mb.values())], "MB",
            goal=MEMORY_GOAL_MB, note=f"API process before: {before_mb:.0f}; {memory}",
        ),
        figure(
            GROUP, "a POST of another customer meanwhile: p50", [latencies[len(latencies) // 2]], "ms",
            note=f"{len(latencies)} one after the other, the slowest {latencies[-1]:.0f} ms",
        ),
    ]  # fmt: skip


def generate_lines(customer: str, events: int) -> Iterator[dict[str, Any]]:
    """The lines of an import that give the customer so many events."""
    yield {"op": "customer", "id": customer, "name": "Jenny Rosen", "email": "jenny@example.com"}
    for number in range(events // EVENTS_PER_ROUND):
        name = f"large{number}"
        yield {
            "op": "charge", "id": f"ch_{name}", "customer": customer, "amount": 2000 + number % 900,
            "currency": "usd", "description": f"Order {number} of Jenny Rosen",
            "receipt_email": "jenny@example.com", "metadata": {"order": str(number)},
            "billing_details": {"name": "Jenny Rosen", "address": {"city": "Ulm", "country": "DE"}},
        }  # fmt: skip
        yield {
            "op": "refund", "id": f"re_{name}", "charge": f"ch_{name}", "amount": 100,
            "metadata": {"why": f"Jenny asked for {number}"},
        }  # fmt: skip
        shown = {"customer": customer, "customer_email": "jenny@example.com", "amount_due": number}
        yield {
            "op": "event", "id": f"evt_{name}", "type": "invoice.paid",
            "object": {"id": f"in_past_{name}", "object": "invoice", **shown},
        }  # fmt: skip
        yield {
            "op": "resource", "type": "invoice", "id": f"in_{name}", "event_type": "invoice.created",
            "object": shown,
        }  # fmt: skip


def _read_head(service: Service) -> int:
    with service.connect() as conn:
        row = conn.execute(_HEAD).fetchone()
    assert row is not None
    return int(row[0])


def _import(service: Service, lines: Iterator[dict[str, Any]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=CATCH_UP_SECONDS)
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    connection.request(
        "POST", "/internal/v1/import", content, {"Authorization": f"Bearer {service.operator_key}"}
    )
    response = connection.getresponse()
    refused = [line for line in response.read().splitlines() if b'"error"' in line]
    connection.close()
    if response.status != 200 or refused:
        raise RuntimeError(f"the import was refused: {response.status} {refused[:1]}")


def _erase(service: Service, customer: str) -> Erasure:
    form = {"objects[customers][0]": customer, "validation_behavior": "error"}
    asked = time.perf_counter()
    job = _call(service, "POST", JOBS, form)["id"]
    _wait_for_status(service, job, "ready")
    validated = time.perf_counter()
    _forget_peaks(service)
    steps: dict[str, float] = {}
    with service.connect() as conn, _OtherPosts(service) as others:
        _call(service, "POST", f"{JOBS}/{job}/run")
        started = last = time.perf_counter()
        step = ""
        while _call(service, "GET", f"{JOBS}/{job}")["status"] != "succeeded":
            row = conn.execute(_STEP, (job,)).fetchone()
            now = time.perf_counter()
            if row is not None and row[0] != step:
                if step:
                    steps[step] = now - last
                step, last = row[0], now
            if now - started > TIMEOUT_SECONDS:
                raise RuntimeError(f"the erasure has not ended; its step is {step}")
            time.sleep(POLL_SECONDS)
        ended = time.perf_counter()
        steps[step] = ended - last
    memory_mb: dict[str, float] = {}
    for each in list_service_processes(service.pid):
        if each.role != "postgres":
            memory_mb[each.name] = max(memory_mb.get(each.name, 0.0), read_peak_mb(each.pid))
    return Erasure(validated - asked, ended - started, steps, others.latencies_ms, memory_mb)


def _wait_for_status(service: Service, job: str, status: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (found := _call(service, "GET", f"{JOBS}/{job}")["status"]) != status:
        if found == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"the job is {found}, not {status}")
        time.sleep(POLL_SECONDS)


def _call(service: Service, method: str, path: str, form: dict[str, str] | None = None) -> Any:
    response = service.call(method, path, form, PREVIEW)
    if response.status != 200:
        raise RuntimeError(f"{method} {path} returned {response.status}: {response.body}")
    return response.body


def _forget_peaks(service: Service) -> None:
    """From now on the kernel counts the most memory of each process anew."""
    for each in list_service_processes(service.pid):
        Path(f"/proc/{each.pid}/clear_refs").write_text("5")


class _OtherPosts:
    """Creates customers one after the other while it is open, and remembers how long each took."""

    def __init__(self, service: Service) -> None:
        self.latencies_ms: list[float] = []
        self._service = service
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _OtherPosts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._has_ended.is_set():
            started = time.perf_counter()
            self._service.create("/v1/customers", {"name": "Somebody else"})
            self.latencies_ms.append((time.perf_counter() - started) * 1000)
            time.sleep(PAUSE_SECONDS)
