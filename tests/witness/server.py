"""`ledger witness` in a process of its own, as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from ledger.tlog.keys import VerifierKey
from ledger.tree.witnesses.addresses import WitnessAddress
from ledger.witness.app import WitnessApp
from ledger.witness.storage import WitnessStorage
from ledger.witness.witness import Logs, Witness
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


class WitnessThread:
    """A witness in this process, over HTTP all the same: for tests that need many."""

    def __init__(self, directory: Path, logs: Logs) -> None:
        self.directory = directory
        self._storage = WitnessStorage(directory)
        self.witness = Witness(logs, self._storage)
        self.keys = self._storage.verifiers
        config = uvicorn.Config(
            WitnessApp(self.witness, self._storage), http="h11", ws="none", lifespan="off", log_config=None
        )
        self._server = uvicorn.Server(config)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.run, args=([self._sock],))
        self._thread.start()

    @property
    def address(self) -> WitnessAddress:
        """As a log configures it."""
        return WitnessAddress(self.url, tuple(self.keys))

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._storage.close()


@contextmanager
def open_witness(directory: Path, logs: Logs) -> Iterator[WitnessThread]:
    """A witness that is stopped at the end."""
    witness = WitnessThread(directory, logs)
    try:
        yield witness
    finally:
        witness.stop()
