"""Processes under measurement: `ledger serve` on a data directory, and the yardsticks' uvicorn.

Each is started on a free loopback port, spoken to until it answers, and ended by its own process id.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.005


class ServiceResponse(NamedTuple):
    """An answer with its JSON decoded."""

    status: int
    headers: dict[str, str]
    body: Any


class Service:
    """`ledger serve` on one data directory, everything running, with an embedded Postgres."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._log = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.secret = ""

    def start(self) -> float:
        """Start; the seconds until the first list was answered with 200."""
        self.port = find_free_port()
        settings = {
            "LEDGER_DATA_DIR": str(self._data_dir),
            "LEDGER_PORT": str(self.port),
            "LEDGER_LOG_LEVEL": "warning",
        }
        keys = self._data_dir / "dev-keys.json"
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ledger", "serve"],
                env=_build_environment() | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while time.perf_counter() - started < START_TIMEOUT_SECONDS:
            if self._process.poll() is not None:
                break
            if keys.exists():
                try:
                    self.secret = json.loads(keys.read_text())["secret"]
                    if self.call("GET", "/v1/events?limit=1").status == 200:
                        return time.perf_counter() - started
                except (OSError, ValueError):
                    pass
            time.sleep(POLL_SECONDS)
        output = self._log.read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"ledger serve did not come up:\n{output}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop_process(process)

    def call(self, method: str, path: str, form: dict[str, str] | None = None) -> ServiceResponse:
        """One request of a test account's backend."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {self.secret}"}
            if form is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, urlencode(form) if form else None, headers)
            response = connection.getresponse()
            return ServiceResponse(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                json.loads(response.read()),
            )
        finally:
            connection.close()

    def create(self, path: str, form: dict[str, str]) -> Any:
        """The object made by a POST. Raises RuntimeError when it was refused."""
        response = self.call("POST", path, form)
        if response.status != 200:
            raise RuntimeError(f"POST {path} was answered {response.status}: {response.body}")
        return response.body

    def wait_until_caught_up(self, *, timeout_seconds: float) -> float:
        """Wait until a list is answered from projections at the head; the seconds it took."""
        started = time.perf_counter()
        while "ledger-behind-events" in self.call("GET", "/v1/events?limit=1").headers:
            if time.perf_counter() - started > timeout_seconds:
                raise RuntimeError(f"the projections did not catch up in {timeout_seconds:.0f} s")
        return time.perf_counter() - started

    def read_memory_mb(self) -> float:
        """Resident memory of the serving process, without its database, in MB."""
        assert self._process is not None
        process = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True
        )
        return int(process.stdout) * 1024 / 1e6


@contextmanager
def run_yardstick(application: str) -> Iterator[int]:
    """An application of `benchmarks.yardstick_app` served by uvicorn; its port."""
    port = find_free_port()
    command = [
        sys.executable, "-m", "uvicorn", f"benchmarks.yardstick_app:{application}", f"--port={port}",
        "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        started = time.perf_counter()
        while not _is_listening(port):
            if process.poll() is not None or time.perf_counter() - started > START_TIMEOUT_SECONDS:
                raise RuntimeError(f"uvicorn did not come up with {application}")
            time.sleep(POLL_SECONDS)
        yield port
    finally:
        stop_process(process)


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for one that does not heed it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _build_environment() -> dict[str, str]:
    """Ours without settings of the service: every run measures the defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
