"""The health port of a worker: what a load balancer, Kubernetes and Prometheus ask it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.api.worker_health import create_worker_health_app
from ledger.background import BackgroundLoop
from ledger.cli.service import health_port
from ledger.cli.service.health_port import CONNECTIONS_MAX, serve_health
from ledger.config import load_settings
from tests.api.conftest import parse_log
from tests.forks import ForkedProcess, start_ledger
from tests.projections.histories import Author, run_story
from tests.serving.process import SERVICE_KEY, STOP_SECONDS, build_environment, run_refused

WAIT_SECONDS = 60.0
STEP_SECONDS_MAX = 0.3
PATHS = ("/healthz", "/readyz", "/metrics")


class WorkerProcess:
    """A running `ledger worker`, and the address of its health port."""

    def __init__(self, process: ForkedProcess, log: Path) -> None:
        self.process = process
        self._log = log
        deadline = time.monotonic() + WAIT_SECONDS
        while not (opened := self.find("health_port_opened")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{opened[0]['port']}"

    def find(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in parse_log(self._log.read_text()) if entry["event"] == event]


@pytest.fixture
def worker(dsn: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": SERVICE_KEY, "health_port": 0}
    (tmp_path / "log").touch()
    process = start_ledger(
        ["worker"],
        environment=build_environment(tmp_path / "data", **settings),
        directory=tmp_path,
        output=tmp_path / "output",
        errors=tmp_path / "log",
    )
    try:
        yield WorkerProcess(process, tmp_path / "log")
    finally:
        process.kill()
        process.wait()


async def hang() -> None:
    await asyncio.Event().wait()


def wait_until_ready(worker: WorkerProcess) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while httpx.get(f"{worker.url}/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_answers_get_and_head_and_nothing_when_it_is_stopped(worker: WorkerProcess) -> None:
    wait_until_ready(worker)
    assert httpx.get(f"{worker.url}/healthz").json()["status"] == "ok"
    assert "\nledger_append_seconds_count " in httpx.get(f"{worker.url}/metrics").text
    for path in PATHS:
        head = httpx.head(f"{worker.url}{path}")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
    assert httpx.get(f"{worker.url}/v1/customers").json()["error"]["type"] == "invalid_request_error"
    os.kill(worker.process.pid, signal.SIGSTOP)
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"{worker.url}/healthz", timeout=0.5)
    os.kill(worker.process.pid, signal.SIGCONT)
    worker.process.terminate()
    assert worker.process.wait(STOP_SECONDS) == 0


def test_a_port_that_is_taken_is_one_line(dsn: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"database_url": dsn, "secret_key": SERVICE_KEY, "health_port": taken.getsockname()[1]}
        line = run_refused(tmp_path / "data", "worker", **settings)
    assert line.endswith("Address already in use (LEDGER_HOST, LEDGER_HEALTH_PORT)")


def test_a_worker_whose_loop_hangs_is_not_healthy_and_counts_what_it_appends(dsn: str) -> None:
    async def ask_while_a_loop_hangs(author: Author) -> tuple[list[httpx.Response], str]:
        loop = BackgroundLoop("stuck", hang, close_timeout_seconds=0)
        app = create_worker_health_app(author.store, load_settings(), None, step_seconds_max=STEP_SECONDS_MAX)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            async with serve_health(app, sock), httpx.AsyncClient(base_url=base_url) as http:
                await author.create_customer()
                answers = [await http.get("/healthz")]
                await loop.start()
                await asyncio.sleep(2 * STEP_SECONDS_MAX)
                answers.append(await http.get("/healthz"))
                await loop.close()
                answers.append(await http.get("/healthz"))
                return answers, (await http.get("/metrics")).text

    answers, metrics = run_story(dsn, ask_while_a_loop_hangs)
    assert (answers[1].status_code, answers[1].json()["status"]) == (503, "hung")
    # With so short a limit, the loop that listens for notifications hangs too, sooner or later.
    assert ["stuck" in answer.json().get("hung", ()) for answer in answers] == [False, True, False]
    assert "\nledger_append_batch_commands_sum 1.0" in metrics


def test_connections_without_a_request_make_no_worker_unhealthy(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_port, "REQUEST_SECONDS", 0.3)

    async def ask_among_idle_connections(author: Author) -> list[int]:
        app = create_worker_health_app(author.store, load_settings(), None)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            address = sock.getsockname()
            async with serve_health(app, sock), httpx.AsyncClient() as http:
                idle = [await asyncio.open_connection(*address) for _ in range(CONNECTIONS_MAX)]
                statuses = []
                for _ in range(2):
                    statuses.append((await http.get(f"http://127.0.0.1:{address[1]}/healthz")).status_code)
                    async with asyncio.timeout(WAIT_SECONDS):
                        await asyncio.gather(*(reader.read() for reader, _ in idle))  # until they are closed
                for _, writer in idle:
                    writer.close()
                return statuses

    assert run_story(dsn, ask_among_idle_connections) == [503, 200]
