"""Runs `ledger` on a terminal, as somebody who types at it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.serving.process import PROGRAM, START_SECONDS, build_environment

SETTLE_SECONDS = 0.5
"""After a question: Python misses a Ctrl-C that comes just before it waits for a line."""


class TerminalProcess:
    """A command whose input, output and errors are one terminal, of its own; `with` ends it."""

    def __init__(self, data_dir: Path, *arguments: str, **settings: Any) -> None:
        self.shown = ""
        master, terminal = pty.openpty()
        self._master: int | None = master
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], env=build_environment(data_dir, **settings), cwd=data_dir.parent,
            stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(START_SECONDS)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def await_question(self, *, seconds: float = START_SECONDS) -> None:
        """Wait until it asks, and waits for an answer."""
        deadline = time.monotonic() + seconds
        while "[y/N]: " not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()
        time.sleep(SETTLE_SECONDS)

    def type(self, text: str) -> None:
        """Type this, once."""
        assert self._master is not None
        os.write(self._master, text.encode())

    def wait(self, *, seconds: float = START_SECONDS) -> int:
        """The exit status, once it has ended. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        return self.process.wait(0)

    def _read(self) -> None:
        """Add what is printed within a tenth of a second."""
        if self._master is None:
            time.sleep(0.1)
            return
        with contextlib.suppress(OSError):  # the other end is closed
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += os.read(self._master, 4096).decode()


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C is typed on. What runs in the background of a shell
    ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
