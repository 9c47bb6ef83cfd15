"""What processes have used so far: CPU seconds and the most memory at once, from /proc and getrusage.

Linux only, as /proc is. A process that has ended meanwhile counts as zero.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import psycopg

# Fields of /proc/<pid>/stat after the process's name: its parent; its own user and system time; then those of
# its children that have ended and been waited for.
PARENT_FIELD = 1
OWN_TIME_FIELDS = slice(11, 13)
ENDED_CHILDREN_TIME_FIELDS = slice(13, 15)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RESIDENT_FIELD = 21
_CPU_CLOCK = 2
"""What the id of the CPU clock of a process ends with (clock_getcpuclockid in the C library)."""
API_COMMANDS = {"serve", "api"}

Role = Literal["api", "background", "postgres"]


class ServiceProcess(NamedTuple):
    """One process of a running service.

    role  `api` answers requests; `background` is any other `ledger` process; `postgres` is one of its server
    name  for `ledger` processes the command; for Postgres the login of the session, or what the process does
    cpu_seconds  so far, with those of its children that have ended
    """

    pid: int
    role: Role
    name: str
    cpu_seconds: float
    memory_mb: float


class Cpu(NamedTuple):
    """CPU seconds of a service by role."""

    api: float
    background: float
    postgres: float

    @property
    def total(self) -> float:
        """Of all processes."""
        return sum(self)

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(self, earlier, strict=True)))


def list_service_processes(pid: int) -> list[ServiceProcess]:
    """The process `pid`, which is `ledger serve`, and all below it, with those of its embedded Postgres."""
    parents = {int(entry.name): _read_stat(int(entry.name)) for entry in Path("/proc").iterdir()
               if entry.name.isdigit()}  # fmt: skip
    return [_describe(each, parents[each]) for each in _walk(pid, parents)]


def read_service_cpu(pid: int) -> Cpu:
    """CPU seconds that the service whose first process is `pid` has used so far."""
    processes = list_service_processes(pid)
    return Cpu(*(sum(each.cpu_seconds for each in processes if each.role == role) for role in Cpu._fields))


def parse_role(name: str, command_line: list[str]) -> tuple[Role, str]:
    """The role of a process and what it is called here, from its name and its arguments. A process that was
    forked has those of its parent, but may have a name of its own: `ledger api`."""
    title = command_line[0] if command_line else ""
    if title.startswith("postgres: "):
        words = title.removeprefix("postgres: ").split()
        return "postgres", words[0] if "[local]" in words else " ".join(words)
    if Path(title).name == "postgres":
        return "postgres", "postmaster"
    words = name.split() if name.startswith("ledger ") else [Path(word).name for word in command_line]
    command = words[words.index("ledger") + 1 :] if "ledger" in words else words
    what = command[0] if command else "ended"
    return ("api" if what in API_COMMANDS else "background"), what


def _walk(pid: int, parents: dict[int, list[str]]) -> Iterator[int]:
    if pid in parents:
        yield pid
    for child, fields in parents.items():
        if int(fields[PARENT_FIELD]) == pid:
            yield from _walk(child, parents)


def _describe(pid: int, fields: list[str]) -> ServiceProcess:
    try:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        comm, line = "", []
    role, name = parse_role(comm, line)
    ticks = sum(map(int, fields[OWN_TIME_FIELDS])) + sum(map(int, fields[ENDED_CHILDREN_TIME_FIELDS]))
    return ServiceProcess(
        pid, role, name, ticks / TICKS_PER_SECOND, int(fields[RESIDENT_FIELD]) * PAGE_BYTES / 1e6
    )


def read_own_cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def read_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, without its children."""
    return sum(map(int, _read_stat(pid)[OWN_TIME_FIELDS])) / TICKS_PER_SECOND


def read_cpu_clock(pid: int) -> float:
    """CPU seconds of a process by its own clock, which is finer than the ticks of /proc."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


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


def read_shared_mb(pid: int) -> float:
    """Memory of a process in MB, each page that processes share divided by their number."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


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
        return ["0"] * (RESIDENT_FIELD + 1)
