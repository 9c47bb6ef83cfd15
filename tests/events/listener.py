"""A command that prints Events until it is stopped, in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.api.service import SERVICE_KEY, Service
from tests.forks import ForkedProcess, start_ledger
from tests.webhooks.receiver import wait_until

STOP_SECONDS = 10


class Listening:
    """The running command, and what it has printed so far."""

    def __init__(self, process: ForkedProcess, output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors

    @property
    def errors(self) -> str:
        return self._errors.read_text() if self._errors.exists() else ""

    @property
    def lines(self) -> list[str]:
        """Whole lines."""
        text = self._output.read_text() if self._output.exists() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def documents(self) -> list[Any]:
        """Lines of JSON."""
        return [json.loads(line) for line in self.lines]

    def wait_for(self, object_type: str, count: int) -> list[Any]:
        """The first `count` documents of this type: `event`, `forward`."""
        wait_until(lambda: len(self._of_type(object_type)) >= count)
        return self._of_type(object_type)

    def _of_type(self, object_type: str) -> list[Any]:
        return [document for document in self.documents if document["object"] == object_type]

    def stop(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def run_listening(service: Service, place: Path, *arguments: str) -> Iterator[Listening]:
    """`ledger` with these arguments on the service's database, from when it listens."""
    settings = {
        "LEDGER_DATABASE_URL": service.dsn,
        "LEDGER_SECRET_KEY": SERVICE_KEY,
        "LEDGER_TEST_CLOCK": "true",
    }
    output, errors = place / "output", place / "errors"
    process = start_ledger(
        arguments, environment=os.environ | settings, directory=place, output=output, errors=errors
    )
    listening = Listening(process, output, errors)
    try:
        wait_until(lambda: listening.errors or listening.lines or process.poll() is not None)
        assert process.poll() is None, listening.errors
        yield listening
    finally:
        process.kill()
