"""What a killed service left of its embedded server: processes, lock files and sockets.

The caller holds the data directory's lock, so a PostgreSQL program that works in one of its directories is an
orphan. The process id in a lock file proves nothing: by now it may be another process's, or a zombie's, and
PostgreSQL would refuse to start for as long as that id exists.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ledger.errors import SettingError
from ledger.postgres.socket_dir import accepts_connections, remove_sockets

PID_FILE_NAME = "postmaster.pid"
_PROC = Path("/proc")
_PROGRAMS = ("postgres", "initdb")
_POLL_SECONDS = 0.01
_SIGNAL_TIMEOUT_SECONDS = 5.0


class _Process(NamedTuple):
    """A running process of a cluster. The postmaster is PostgreSQL's main process; the others are its
    children, or `initdb` and the server it runs."""

    pid: int
    is_child: bool


def remove_leftovers(cluster_dir: Path) -> bool:
    """End the processes that a killed service left on a cluster, and remove its lock files and sockets.
    Returns whether there was a lock file.

    Raises SettingError if a process does not end. The server is not taken over: it is not our child, so we
    could not wait for it, and it may have other settings and binaries.
    """
    end_processes(cluster_dir)
    # Only now: without its lock file a new server would not notice that processes of the old one still run.
    pid_file = cluster_dir / PID_FILE_NAME
    lines = read_pid_file(cluster_dir)
    remove_sockets(cluster_dir, [Path(line) for line in lines[4:5] if line])
    found = os.path.lexists(pid_file)
    pid_file.unlink(missing_ok=True)
    return found


def end_processes(cluster_dir: Path) -> None:
    """End the PostgreSQL programs that work in `cluster_dir`. Raises SettingError if one does not end.

    SIGINT: a fast shutdown, which ends sessions. It is for the postmaster alone: a checkpointer without one
    would record a clean shutdown while others still write. SIGQUIT and SIGKILL: the next start recovers.
    """
    for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        processes = _find_processes(cluster_dir)
        if signal_number == signal.SIGINT and all(process.is_child for process in processes):
            continue
        for process in processes:
            if signal_number != signal.SIGINT or not process.is_child:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal_number)
        deadline = time.monotonic() + _SIGNAL_TIMEOUT_SECONDS
        while any(_is_running(process.pid) for process in processes) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    if processes := _find_processes(cluster_dir):
        raise SettingError(
            f"the database server of {cluster_dir} did not stop: kill process {processes[0].pid}"
        )


def read_pid_file(cluster_dir: Path) -> Sequence[str]:
    """Lines of `postmaster.pid`: 0 process id, 4 socket directory, 7 status (`ready` once it accepts). Fewer
    when it is missing or damaged."""
    with contextlib.suppress(OSError):
        return (cluster_dir / PID_FILE_NAME).read_text(errors="replace").replace("\0", "").splitlines()
    return ()


def _find_processes(cluster_dir: Path) -> list[_Process]:
    """The running PostgreSQL programs whose working directory is `cluster_dir`."""
    if not (_PROC / "self").exists():
        return _find_recorded_process(cluster_dir)
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        directory = cluster_dir.stat()
        for process in _PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if (process / "comm").read_text().strip() not in _PROGRAMS:
                    continue
                if os.path.samestat((process / "cwd").stat(), directory):
                    # Children show what they do in place of their command line.
                    is_child = (process / "cmdline").read_bytes().startswith(b"postgres:")
                    found.append(_Process(int(process.name), is_child))
    return found


def _find_recorded_process(cluster_dir: Path) -> list[_Process]:
    """Where there is no /proc: the process of the lock file, if its socket accepts connections."""
    lines = read_pid_file(cluster_dir)
    if len(lines) < 5 or not lines[0].isdecimal() or not accepts_connections(Path(lines[4])):
        return []
    return [_Process(int(lines[0]), is_child=False)]


def _is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie, which has ended but keeps its id until it is reaped."""
    with contextlib.suppress(OSError, IndexError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    if (_PROC / "self").exists():
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
