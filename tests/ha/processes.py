"""Real programs of a cluster: each in a session of its own, with its output in a file, ended by its id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 10.0


def find_free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now. All are held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


class Program:
    """A program that can be started again after it has ended, as a supervisor would."""

    def __init__(
        self, command: Sequence[str | Path], place: Path, environment: Mapping[str, str], name: str
    ) -> None:
        self.command = [str(part) for part in command]
        self.place = place
        self.environment = dict(environment)
        self.log_file = place / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and what it started in its session."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, whatever its state."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it with SIGTERM; at once if it takes too long."""
        if self.process is not None and self.is_running:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()
