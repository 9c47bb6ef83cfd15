"""The processes that are measured: `ledger …` commands, and the yardsticks' uvicorn.

Each server listens on a free loopback port; starting it waits until it answers. Each process is stopped by
its own process id.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from benchmarks.process_stats import read_peak_mb

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.005
COMMAND_POLL_SECONDS = 0.01


class ServiceResponse(NamedTuple):
    """An HTTP response: header names in lower case, the body decoded from JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Service:
    """`ledger serve` on one data directory: API and projections in one process, with an embedded Postgres."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._log = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.secret = ""

    def start(self) -> float:
        """Start the service. Returns the seconds until a list was answered with 200. Raises RuntimeError with
        the end of the service's log when it does not start in time."""
        self.port = find_free_port()
        settings = {
            "LEDGER_DATA_DIR": str(self._data_dir),
            "LEDGER_PORT": str(self.port),
            "LEDGER_LOG_LEVEL": "warning",
        }
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                build_ledger_command("serve"),
                env=build_environment() | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            await_start(self._process, "ledger serve", self._answers)
        except RuntimeError as error:
            self.stop()
            raise RuntimeError(f"{error}:\n{self._log.read_text(errors='replace')[-2000:]}") from None
        return time.perf_counter() - started

    def stop(self) -> None:
        """Stop the service, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            stop_process(process)

    def call(self, method: str, path: str, form: dict[str, str] | None = None) -> ServiceResponse:
        """Send one request with the secret key of the development account."""
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
        """Create an object by a POST. Returns it. Raises RuntimeError when the status is not 200."""
        response = self.call("POST", path, form)
        if response.status != 200:
            raise RuntimeError(f"POST {path} returned {response.status}: {response.body}")
        return response.body

    def wait_until_caught_up(self, *, timeout_seconds: float) -> float:
        """Wait until a list is answered from projections at the head. Returns the seconds that took. Raises
        RuntimeError after `timeout_seconds`."""
        started = time.perf_counter()
        while "ledger-behind-events" in self.call("GET", "/v1/events?limit=1").headers:
            if time.perf_counter() - started > timeout_seconds:
                raise RuntimeError(f"the projections did not catch up in {timeout_seconds:.0f} s")
        return time.perf_counter() - started

    def read_memory_mb(self) -> float:
        """Resident memory of the serving process in MB, without its database."""
        assert self._process is not None
        process = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True
        )
        return int(process.stdout) * 1024 / 1e6

    def _answers(self) -> bool:
        """Whether the service has written its keys and answers a list with 200."""
        self.secret = json.loads((self._data_dir / "dev-keys.json").read_text())["secret"]
        return self.call("GET", "/v1/events?limit=1").status == 200


class CommandUse(NamedTuple):
    """What a command used, and what it printed."""

    seconds: float
    memory_mb: float
    output: str


def run_ledger_command(dsn: str, secret_key: bytes, *arguments: str) -> CommandUse:
    """Run `ledger ARGUMENTS…` on the database. Raises RuntimeError when it fails."""
    started, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(
            build_ledger_command(*arguments),
            env=build_environment() | {"LEDGER_DATABASE_URL": dsn, "LEDGER_SECRET_KEY": secret_key.decode()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        while process.poll() is None:
            peak = max(peak, read_peak_mb(process.pid))
            time.sleep(COMMAND_POLL_SECONDS)
        seconds = time.perf_counter() - started
        file.seek(0)
        output = file.read()
    if process.returncode:
        raise RuntimeError(f"ledger {' '.join(arguments)} failed:\n{output[-2000:]}")
    return CommandUse(seconds, peak, output)


@contextmanager
def run_yardstick(application: str) -> Iterator[int]:
    """Serve an application of `benchmarks.yardstick_app` with uvicorn. Yields its port."""
    port = find_free_port()
    command = [
        sys.executable, "-m", "uvicorn", f"benchmarks.yardstick_app:{application}", f"--port={port}",
        "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        await_start(process, f"uvicorn with {application}", lambda: _is_listening(port))
        yield port
    finally:
        stop_process(process)


def build_ledger_command(*arguments: str) -> list[str]:
    """The command line of `ledger ARGUMENTS…` in this Python environment."""
    return [sys.executable, "-m", "ledger", *arguments]


def build_environment() -> dict[str, str]:
    """Our environment without the service's settings, so that every run measures the defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}


def await_start(process: subprocess.Popen[bytes], name: str, answers: Callable[[], bool]) -> None:
    """Wait until `answers` returns true; an OSError or ValueError from it counts as false.

    Raises RuntimeError when the process has ended, or does not answer within START_TIMEOUT_SECONDS.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, ValueError):
            if answers():
                return
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{name} did not start in time")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and SIGKILL when the process has not ended after STOP_TIMEOUT_SECONDS."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_free_port() -> int:
    """A loopback port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
