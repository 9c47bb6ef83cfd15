"""The server process of an embedded database: start it, stop it, and shut down one left by a killed service.

The postmaster (PostgreSQL's word for its main process) listens on a Unix socket alone. The caller holds the
data directory's lock, so a postmaster that already runs on the cluster is an orphan.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.errors import SettingError
from ledger.postgres.binaries import ServerBinaries
from ledger.postgres.cluster import find_reason

_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES_MAX = 103  # sun_path without its NUL on macOS; Linux has four more
_SOCKET_PARENT_DIR = Path("/tmp")  # not TMPDIR, which may be long, or root's own  # noqa: S108
_POLL_SECONDS = 0.01
_START_TIMEOUT_SECONDS = 120.0  # crash recovery may have max_wal_size (1 GB) to replay
# The service drains for 8 s and has to exit within 10 s; crash recovery makes up for SIGQUIT.
_STOP_TIMEOUT_SECONDS = 1.0
_ORPHAN_TIMEOUT_SECONDS = 5.0


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
        self.socket_dir = self._choose_socket_dir()

    def start(self) -> None:
        """Return once the server accepts connections. Raises SettingError with PostgreSQL's reason."""
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        # The backends of a killed postmaster need a moment to notice; a new one refuses to start until then.
        pid_file_exists = (self._cluster_dir / "postmaster.pid").exists()
        retry_until = time.monotonic() + _ORPHAN_TIMEOUT_SECONDS * pid_file_exists
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
        _remove_socket_dir(self.socket_dir)

    def _choose_socket_dir(self) -> Path:
        """The cluster's directory; another one if its path is too long for a socket, or has a comma or quote,
        which would split the setting."""
        path = os.fsencode(self._cluster_dir / _SOCKET_NAME)
        if len(path) <= _SOCKET_PATH_BYTES_MAX and not set(path) & set(b',"'):
            return self._cluster_dir
        socket_dir = Path(tempfile.mkdtemp(prefix="ledger-", dir=_SOCKET_PARENT_DIR))
        self._binaries.user.chown(socket_dir)
        return socket_dir

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
            lines = _read_pid_file(self._cluster_dir)
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                raise SettingError(
                    f"the database is not ready after {_START_TIMEOUT_SECONDS:.0f} s ({self._log_file})"
                )
            time.sleep(_POLL_SECONDS)
        return False


def stop_orphan(cluster_dir: Path) -> None:
    """Shut down the postmaster that a killed service left running. Raises SettingError if it does not stop.

    It is not taken over: it is not our child, so we could not wait for it, and it may have other settings
    and binaries.
    """
    lines = _read_pid_file(cluster_dir)
    if len(lines) < 5:
        return
    pid, socket_dir = abs(int(lines[0])), Path(lines[4])
    # The process id may be another process's by now. A server of this cluster accepts connections, or has
    # the cluster in its command line.
    if _accepts_connections(socket_dir) or _is_server_of(pid, cluster_dir):
        for signal_number in (signal.SIGINT, signal.SIGQUIT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
            deadline = time.monotonic() + _ORPHAN_TIMEOUT_SECONDS
            while _process_exists(pid) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        if _process_exists(pid):
            raise SettingError(f"the database server of {cluster_dir} did not stop: kill process {pid}")
    elif _process_exists(pid):
        # PostgreSQL would take the process that has this id now for a postmaster.
        (cluster_dir / "postmaster.pid").unlink(missing_ok=True)
    _remove_socket_dir(socket_dir)


def _remove_socket_dir(socket_dir: Path) -> None:
    """Remove a directory made for the socket; the cluster stays."""
    if socket_dir.parent == _SOCKET_PARENT_DIR and socket_dir.name.startswith("ledger-"):
        shutil.rmtree(socket_dir, ignore_errors=True)


def _accepts_connections(socket_dir: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(socket_dir / _SOCKET_NAME))
        return True
    return False


def _process_exists(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _is_server_of(pid: int, cluster_dir: Path) -> bool:
    """Whether the process was started on `cluster_dir`, as far as /proc shows: a server that is shutting
    down no longer accepts connections."""
    with contextlib.suppress(OSError):
        return os.fsencode(cluster_dir) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _read_pid_file(cluster_dir: Path) -> Sequence[str]:
    """Lines of `postmaster.pid`: 0 process id, 4 socket directory, 7 status (`ready` once it accepts)."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return (cluster_dir / "postmaster.pid").read_text().splitlines()
    return ()
