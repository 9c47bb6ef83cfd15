"""Processes that are forked from one in which the service is imported already: the imports take a second of
processor time, longer than the work of most commands.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ledger.__main__ import main

PRELOADED = (
    __name__,
    "alembic.command",
    "anyio._backends._asyncio",
    "pydantic.v1",
    "uvicorn.lifespan.on",
    "ledger.cli.audit.group",
    "ledger.cli.import_file",
    "ledger.cli.service.serve",
    "projections.composition",
    "projections.operate.cli",
)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([*PRELOADED])


class ForkedProcess:
    """A process that calls `function`, in a group of its own; the methods are those of `subprocess.Popen`.
    Its output goes to the files `output` and `errors`. It ends with this process at the latest."""

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: Any,
        output: Path,
        errors: Path | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.output = output
        self.errors = errors or output
        self._process: BaseProcess = _forks.Process(
            target=_run,
            args=(function, arguments, output, errors, dict(environment or os.environ), directory),
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self._process.exitcode

    def send_signal(self, signal: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def start_ledger(arguments: Sequence[str], **places: Any) -> ForkedProcess:
    """A process that runs `ledger` with these arguments; `places` as for ForkedProcess."""
    return ForkedProcess(_run_ledger, *arguments, **places)


def _run(
    function: Callable[..., object],
    arguments: Sequence[Any],
    output: Path,
    errors: Path | None,
    environment: dict[str, str],
    directory: Path | None,
) -> None:
    gc.freeze()  # or each service would look at all that the process which it is forked from has imported
    os.setsid()
    for file, stream in ((output, sys.stdout), (errors, sys.stderr)):
        if file is not None:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    if directory is not None:
        os.chdir(directory)
    function(*arguments)


def _run_ledger(*arguments: str) -> None:
    sys.argv = ["ledger", *arguments]
    main()
