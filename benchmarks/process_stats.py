"""What processes have used so far: CPU seconds and the most memory at once, from /proc and getrusage.

Linux only, as /proc is. A process that has ended meanwhile counts as zero.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import psycopg

# Fields of /proc/<pid>/stat after the process's name: its parent; its own user and system time; then those of
# its children that have ended and been waited for.
PARENT_FIELD = 1
OWN_TIME_FIELDS = slice(11, 13)
ENDED_CHILDREN_TIME_FIELDS = slice(13, 15)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def read_own_cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def read_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, without its children."""
    return sum(map(int, _read_stat(pid)[OWN_TIME_FIELDS])) / TICKS_PER_SECOND


def read_server_cpu_seconds(conn: psycopg.Connection) -> float:
    """CPU seconds of the whole server that `conn` is connected to: the postmaster, its backends that run and
    those that have ended."""
    postmaster = int(_read_stat(conn.info.backend_pid)[PARENT_FIELD])
    fields = _read_stat(postmaster)
    ticks = sum(map(int, fields[OWN_TIME_FIELDS])) + sum(map(int, fields[ENDED_CHILDREN_TIME_FIELDS]))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _read_stat(int(entry.name))
            if int(fields[PARENT_FIELD]) == postmaster:
                ticks += sum(map(int, fields[OWN_TIME_FIELDS]))
    return ticks / TICKS_PER_SECOND


def read_peak_mb(pid: int) -> float:
    """The most memory a process has had resident at once, in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def list_child_pids() -> list[int]:
    """The processes that this one has started and that still run."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _read_stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the process's name, which may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * ENDED_CHILDREN_TIME_FIELDS.stop
