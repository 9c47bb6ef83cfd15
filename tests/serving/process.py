"""Runs the `ledger` command as an operator does: a process with an environment, output and an exit status."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.forks import ForkedProcess, start_ledger

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "ledger")
SERVICE_KEY = "the-service-key-of-these-tests-0123456789"
START_SECONDS = 60.0
COMMAND_SECONDS = 120.0
"""An erasure that is waited for may itself wait until a delivery under way has ended: 33 s."""
LIST_WAIT_MS = 10_000  # so that a list shows what was written before, on a busy machine, too
STOP_SECONDS = 10.0  # what SIGTERM promises


def build_environment(
    data_dir: Path, *, release: Path | None = REPOSITORY, **settings: object
) -> dict[str, str]:
    """This process's environment, with `settings` as its only LEDGER_ variables. The sources are those in the
    folder `release`; with None, those that are installed."""
    inherited_variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LEDGER_") and name != "PYTHONPATH"
    }
    ledger_settings = {"data_dir": data_dir, "port": 0} | settings
    return (
        inherited_variables
        | ({"PYTHONPATH": str(release)} if release else {})
        | {"TMPDIR": str(data_dir.parent)}
        | {f"LEDGER_{name.upper()}": str(value) for name, value in ledger_settings.items()}
    )


def run_ledger(
    data_dir: Path, *arguments: str, program: Sequence[str] | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end: `program`, or by default `ledger` of these sources."""
    environment = build_environment(data_dir, **settings)
    if program is None and "release" not in settings:
        return _run_forked(arguments, environment, data_dir.parent)
    return subprocess.run(
        [*(program or PROGRAM), *arguments],
        env=environment,
        cwd=data_dir.parent,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def run_into(output: int, data_dir: Path, *arguments: str, **settings: Any) -> tuple[int, str]:
    """Exit status and errors of `ledger`, whose answer goes to the file descriptor `output`."""
    completed = subprocess.run(
        [*PROGRAM, *arguments],
        env=build_environment(data_dir, **settings),
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return completed.returncode, completed.stderr


@contextlib.contextmanager
def open_unread_pipe() -> Iterator[int]:
    """The file descriptor of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def _run_forked(
    arguments: Sequence[str], environment: dict[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as place:
        output, errors = Path(place) / "output", Path(place) / "errors"
        process = start_ledger(
            arguments, environment=environment, directory=directory, output=output, errors=errors
        )
        try:
            status = process.wait(COMMAND_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(
            ["ledger", *arguments], status, output.read_text(), errors.read_text()
        )


def run_refused(data_dir: Path, *arguments: str, **settings: Any) -> str:
    """Run a command that must fail, and return its one line on standard error."""
    completed = run_ledger(data_dir, *arguments, **settings)
    assert completed.returncode == 1, completed
    assert completed.stdout == ""
    assert re.fullmatch(r"ledger: .+\n", completed.stderr), completed.stderr
    return completed.stderr.strip()


class ServeProcess:
    """A running `ledger serve`: of `program`, or by default of these sources."""

    def __init__(self, data_dir: Path, *, program: Sequence[str] | None = None, **settings: Any) -> None:
        self.data_dir = data_dir
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        self._output = data_dir.with_name(f"{data_dir.name}.out")
        self.process = self._start(program, settings)
        self.url = ""
        self.wait_until(self._is_listening, seconds=START_SECONDS)

    def _start(
        self, program: Sequence[str] | None, settings: dict[str, Any]
    ) -> ForkedProcess | subprocess.Popen[bytes]:
        environment = build_environment(self.data_dir, **{"list_wait_ms": LIST_WAIT_MS} | settings)
        directory = self.data_dir.parent
        with self._log.open("wb") as log, self._output.open("wb") as output:
            if program is None and "release" not in settings:
                return start_ledger(
                    ["serve"],
                    environment=environment,
                    directory=directory,
                    output=self._output,
                    errors=self._log,
                )
            return subprocess.Popen(
                [*(program or PROGRAM), "serve"],
                env=environment,
                cwd=directory,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until(self, condition: Any, *, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def _is_listening(self) -> bool:
        url_match = re.search(r"http://[\d.]+:\d+", self.output)
        if url_match is None:
            return False
        self.url = url_match[0]
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False

    def stop(self) -> None:
        """Send SIGTERM; the service must exit in time with status 0."""
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) == 0, self.log

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_group(self) -> None:
        """End every process of the service, however the test ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def run_serve(data_dir: Path, **settings: Any) -> Iterator[ServeProcess]:
    """A service that is stopped when the block ends, if the test has not stopped it before."""
    service = ServeProcess(data_dir, **settings)
    try:
        yield service
        if service.process.poll() is None:
            service.stop()
    finally:
        service.kill_group()


def list_children(pid: int, column: str = "comm") -> dict[int, str]:
    """Names of the direct children by process id: `ledger api`, `ledger worker`, `postgres`; with the column
    `args`, their command lines."""
    completed = subprocess.run(
        ["ps", "-o", f"pid=,{column}=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    lines = (line.split(maxsplit=1) for line in completed.stdout.splitlines())
    return {int(child): name for child, name in lines}
