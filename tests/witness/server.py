"""`ledger witness` in a process of its own, as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ledger.tlog.keys import VerifierKey
from tests.api.service import ROOT

STOP_SECONDS = 20
# Dies as by kill -9 once the next checkpoint is on disk, before anybody is told.
_DIE_AFTER_WRITE = """
import os, signal
from ledger.witness.storage import WitnessStorage
write = WitnessStorage.write_checkpoint
def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
WitnessStorage.write_checkpoint = write_and_die
from ledger.__main__ import main
main()
"""


class WitnessProcess:
    """A running witness of these logs; `log` has everything that it logs."""

    def __init__(
        self, place: Path, logs: Sequence[VerifierKey], *arguments: str, dies_after_write: bool = False
    ) -> None:
        place.mkdir(exist_ok=True)
        self.directory = place / "witness"
        self._log_file = place / "witness.log"
        program = ["-c", _DIE_AFTER_WRITE] if dies_after_write else ["-m", "ledger"]
        logs_arguments = [part for key in logs for part in ("--log", str(key))]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, "witness", "--data", self.directory, "--port", "0",
                 *logs_arguments, *arguments],
                cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        url = re.search(r"http://\S+", self._process.stdout.readline())
        assert url is not None, self.log
        self.url = url[0]
        self.keys = [VerifierKey.parse(self._process.stdout.readline().split()[1])]

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        return self._process.wait(STOP_SECONDS)

    def pause(self, *, resume: bool = False) -> None:
        """Let it accept connections and answer nothing, until it is resumed."""
        self._process.send_signal(signal.SIGCONT if resume else signal.SIGSTOP)

    def stop(self) -> None:
        self._process.terminate()
        assert self.wait() == 0, self.log


@contextmanager
def run_witness(place: Path, logs: Sequence[VerifierKey], *arguments: str) -> Iterator[WitnessProcess]:
    """A witness that is stopped at the end."""
    witness = WitnessProcess(place, logs, *arguments)
    try:
        yield witness
    finally:
        witness.stop()
