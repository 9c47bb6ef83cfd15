"""The server process of an embedded database: start and stop it.

The postmaster (PostgreSQL's word for its main process) listens on a Unix socket alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.errors import SettingError
from ledger.postgres.binaries import ServerBinaries
from ledger.postgres.cluster import find_reason
from ledger.postgres.leftovers import read_pid_file
from ledger.postgres.socket_dir import choose_socket_dir, remove_sockets

_POLL_SECONDS = 0.01
_START_TIMEOUT_SECONDS = 120.0  # crash recovery may have max_wal_size (1 GB) to replay
# The service drains for 8 s and has to exit within 10 s; crash recovery makes up for SIGQUIT.
_STOP_TIMEOUT_SECONDS = 1.0
_RETRY_SECONDS = 5.0


class Postmaster:
    """The server of the cluster in `cluster_dir`. `settings` are server options (`-c`, `a=b`); they take
    precedence. `socket_dir` is where clients connect."""

    def __init__(
        self, cluster_dir: Path, binaries: ServerBinaries, settings: Sequence[str], *, log_file: Path
    ) -> None:
        self._cluster_dir = cluster_dir
        self._binaries = binaries
        self._settings = settings
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self.socket_dir = choose_socket_dir(cluster_dir, binaries.user)

    def start(self, *, after_crash: bool) -> None:
        """Return once the server accepts connections. Raises SettingError with PostgreSQL's reason.

        After a crash it is tried again for a while: where processes cannot be listed, those of a killed
        postmaster need a moment to notice, and a new one refuses to start until then.
        """
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        retry_until = time.monotonic() + _RETRY_SECONDS * after_crash
        while True:
            self._process = self._spawn()
            if self._wait_until_ready(self._process):
                return
            self._process = None
            if time.monotonic() > retry_until:
                reason = find_reason(self._log_file.read_text(errors="replace"))
                raise SettingError(
                    f"the database in {self._cluster_dir} does not start: {reason} ({self._log_file})"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, first_signal: signal.Signals) -> None:
        """End the server by `first_signal`, then by harder ones while it still runs.

        SIGINT: a fast shutdown, which ends sessions. SIGQUIT: as in a crash; the next start recovers.
        """
        process, self._process = self._process, None
        for signal_number in (first_signal, signal.SIGQUIT, signal.SIGKILL):
            if process is not None and process.poll() is None:
                process.send_signal(signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_TIMEOUT_SECONDS)
        remove_sockets(self._cluster_dir, [self.socket_dir])

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [str(self._binaries.bin_dir / "postgres"), "-D", str(self._cluster_dir)]
        for setting in (
            "listen_addresses=",
            f'unix_socket_directories="{self.socket_dir}"',
            "timezone=UTC",
        ):
            command += ["-c", setting]
        with open(os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            # In a session of its own the server does not get the terminal's Ctrl-C: the service drains first.
            return subprocess.Popen(
                [*command, *self._settings],
                start_new_session=True,
                **streams,
                **self._binaries.user.get_process_options(),
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server accepts connections; False when it ended instead. Raises SettingError."""
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while process.poll() is None:
            lines = read_pid_file(self._cluster_dir)
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                raise SettingError(
                    f"the database is not ready after {_START_TIMEOUT_SECONDS:.0f} s ({self._log_file})"
                )
            time.sleep(_POLL_SECONDS)
        return False
