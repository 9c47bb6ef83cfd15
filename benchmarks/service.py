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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.process_stats import Cpu, list_service_processes, read_peak_mb, read_service_cpu
from ledger.postgres.cluster import SUPERUSER

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.005
COMMAND_POLL_SECONDS = 0.01
WAL_FILE_BYTES = 16_000_000
FIRST_WAL_FILES = 30


class ServiceResponse(NamedTuple):
    """An HTTP response: header names in lower case, the body decoded from JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Build(NamedTuple):
    """A checkout of this repository that is measured. It runs in its own environment `.venv` where it has
    one, else in ours."""

    name: str
    root: Path

    @property
    def python(self) -> str:
        """The Python that runs it."""
        own = self.root / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable

    def build_command(self, *arguments: str) -> list[str]:
        """The command line of `ledger ARGUMENTS…`: by the command that is installed in its own environment,
        since an earlier build may have its main module elsewhere."""
        installed = self.root / ".venv" / "bin" / "ledger"
        return [self.python, *([str(installed)] if installed.exists() else ["-m", "ledger"]), *arguments]

    def build_environment(self) -> dict[str, str]:
        """Our environment without the service's settings, so that every run measures the defaults."""
        return build_environment() | {"PYTHONPATH": str(self.root)}


THIS_BUILD = Build("this build", Path(__file__).resolve().parents[1])


class Service:
    """`ledger serve` of one build on one data directory, with an embedded Postgres and these `settings`
    (environment variables)."""

    def __init__(
        self, data_dir: Path, *, build: Build = THIS_BUILD, settings: Mapping[str, str] | None = None
    ) -> None:
        self.build = build
        self.data_dir = data_dir
        self._settings = dict(settings or {})
        self._log = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.secret = ""
        self.operator_key = ""

    def start(self) -> float:
        """Start the service. Returns the seconds until a list was answered with 200. Raises RuntimeError with
        the end of the service's log when it does not start in time."""
        self.port = find_free_port()
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.build.build_command("serve"),
                env=self.join_environment() | {"LEDGER_LOG_LEVEL": "warning", "LEDGER_PORT": str(self.port)},
                cwd=self.build.root,
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

    def call(
        self,
        method: str,
        path: str,
        form: dict[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ServiceResponse:
        """Send one request with the secret key of the development account."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {"Authorization": f"Bearer {self.secret}", **(headers or {})}
            if form is not None:
                sent["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, urlencode(form) if form else None, sent)
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

    def wait_until_caught_up(self, *, timeout_seconds: float, plural: str = "events") -> float:
        """Wait until a list is answered from a projection at the head. Returns the seconds that took. Raises
        RuntimeError after `timeout_seconds`."""
        started = time.perf_counter()
        while "ledger-behind-events" in self.call("GET", f"/v1/{plural}?limit=1").headers:
            if time.perf_counter() - started > timeout_seconds:
                raise RuntimeError(f"the projections did not catch up in {timeout_seconds:.0f} s")
        return time.perf_counter() - started

    def read_memory_mb(self) -> float:
        """Resident memory of the largest process that answers requests, in MB, without its database."""
        return max(each.memory_mb for each in list_service_processes(self.pid) if each.role == "api")

    def read_cpu(self) -> Cpu:
        """CPU seconds that all processes of the service have used so far."""
        return read_service_cpu(self.pid)

    @property
    def pid(self) -> int:
        """The process that was started; the others are its children."""
        assert self._process is not None
        return self._process.pid

    @property
    def dsn(self) -> str:
        """A connection string for the owner of the database: the service's own logins may not rewrite the
        log."""
        return make_conninfo(json.loads((self.data_dir / "database.json").read_text())["dsn"], user=SUPERUSER)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        """A connection of the owner of the database, in autocommit mode."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            yield conn

    def write_first_wal(self) -> None:
        """Write WAL, then a checkpoint: from then on its files are used again, as in a database that has run
        for some minutes. A new database makes each file first, and commits wait for that: ten times in
        100,000 POSTs, up to a tenth of a second each."""
        message = "SELECT pg_logical_emit_message(false, 'benchmark', repeat('x', %s))"
        with self.connect() as conn:
            for _ in range(FIRST_WAL_FILES):
                conn.execute(message, (WAL_FILE_BYTES,))
            conn.execute("CHECKPOINT")

    def run_command(self, *arguments: str) -> str:
        """Run `ledger ARGUMENTS…` beside the service. Returns what it printed. Raises CalledProcessError."""
        return subprocess.run(
            self.build.build_command(*arguments),
            env=self.join_environment(),
            cwd=self.build.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def join_environment(self) -> dict[str, str]:
        """The environment of this service's processes."""
        return self.build.build_environment() | self._settings | {"LEDGER_DATA_DIR": str(self.data_dir)}

    def _answers(self) -> bool:
        """Whether the service has written its keys and answers a list with 200."""
        keys = json.loads((self.data_dir / "dev-keys.json").read_text())
        self.secret, self.operator_key = keys["secret"], keys.get("operator", "")
        return self.call("GET", "/v1/events?limit=1").status == 200


@contextmanager
def run_service(
    data_dir: Path, *, build: Build = THIS_BUILD, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Start a service on the data directory `data_dir`, and use up its database's first files of WAL. Stop it
    afterwards."""
    service = Service(data_dir, build=build, settings=settings)
    service.start()
    try:
        service.write_first_wal()
        yield service
    finally:
        service.stop()


class ApiProcess(NamedTuple):
    """An API process by itself, without projections."""

    port: int
    pid: int


@contextmanager
def run_api(environment: Mapping[str, str]) -> Iterator[ApiProcess]:
    """Start `ledger api` on the database that the environment names. Stop it afterwards."""
    port = find_free_port()
    settings = {"LEDGER_LOG_LEVEL": "warning", "LEDGER_PORT": str(port), "LEDGER_WORKERS": "1"}
    process = subprocess.Popen(
        THIS_BUILD.build_command("api"),
        env={**environment, **settings},
        cwd=THIS_BUILD.root,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_start(process, "ledger api", lambda: is_listening(port))
        yield ApiProcess(port, process.pid)
    finally:
        stop_process(process)


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
            THIS_BUILD.build_command(*arguments),
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
def run_yardstick(application: str, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Serve an application of `benchmarks.yardsticks` with uvicorn: of `constant_app` unless its name has a
    module. Yields its port."""
    port = find_free_port()
    name = application if ":" in application else f"constant_app:{application}"
    command = [
        sys.executable, "-m", "uvicorn", f"benchmarks.yardsticks.{name}", f"--port={port}",
        "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env=os.environ | dict(environment or {}),
        cwd=THIS_BUILD.root,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_start(process, f"uvicorn with {application}", lambda: is_listening(port))
        yield port
    finally:
        stop_process(process)


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


def is_listening(port: int) -> bool:
    """Whether a process listens on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
