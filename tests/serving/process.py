"""The `run_ledger` command as an operator meets it: a process with an environment, its output and its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICE_KEY = "the-service-key-of-these-tests-0123456789"
START_SECONDS = 30.0
STOP_SECONDS = 10.0  # what SIGTERM promises


def build_environment(data_dir: Path, *, release: Path = REPOSITORY, **settings: object) -> dict[str, str]:
    """This process's environment without its LEDGER_ variables, and `settings` as such; the sources are
    those of `release`."""
    inherited_variables = {
        name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")
    }
    ledger_settings = {"data_dir": data_dir, "port": 0} | settings
    return (
        inherited_variables
        | {"PYTHONPATH": str(release), "TMPDIR": str(data_dir.parent)}
        | {f"LEDGER_{name.upper()}": str(value) for name, value in ledger_settings.items()}
    )


def run_ledger(data_dir: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """A command run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ledger", *arguments],
        env=build_environment(data_dir, **settings),
        cwd=data_dir.parent,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def run_refused(data_dir: Path, *arguments: str, **settings: Any) -> str:
    """The one line on standard error with which a command ends that cannot work."""
    completed = run_ledger(data_dir, *arguments, **settings)
    assert completed.returncode == 1, completed
    assert completed.stdout == ""
    assert re.fullmatch(r"ledger: .+\n", completed.stderr), completed.stderr
    return completed.stderr.strip()


class ServeProcess:
    """A `ledger serve` that runs."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        self._output = data_dir.with_name(f"{data_dir.name}.out")
        with self._log.open("wb") as log, self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ledger", "serve"],
                env=build_environment(data_dir, **settings),
                cwd=data_dir.parent,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        self.url = ""
        self.wait_until(self._is_listening, seconds=START_SECONDS)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until(self, condition: Any, *, seconds: float) -> None:
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
        """SIGTERM, and the end that it promises."""
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) == 0, self.log

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def kill_group(self) -> None:
        """Whatever the test came to: nothing of it runs on."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def run_serve(data_dir: Path, **settings: Any) -> Iterator[ServeProcess]:
    """A service that runs until it is stopped, at the latest at the end."""
    service = ServeProcess(data_dir, **settings)
    try:
        yield service
        if service.process.poll() is None:
            service.stop()
    finally:
        service.kill_group()


def list_children(pid: int) -> dict[int, str]:
    """Command lines of the direct children by process id."""
    completed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    lines = (line.split(maxsplit=1) for line in completed.stdout.splitlines())
    return {int(child): command for child, command in lines}
