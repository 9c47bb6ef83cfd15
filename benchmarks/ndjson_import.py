"""Importing NDJSON: `ledger import FILE` and `POST /internal/v1/import`, both as processes of their own.

Yardsticks on the same server: the stock Application making an aggregate of each line, and COPY of the
same lines into a table of one column, which decides nothing. CPU is read from /proc, so the CPU and memory
of other systems are not told. Projections are not part of it: `projections` measures those.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import stock
from benchmarks.database import Server
from benchmarks.export import export
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compared, figure
from benchmarks.service import end, free_port

GROUP = "importing NDJSON: customers, charges, disputes, facts"
COMMAND, REQUEST = "ledger import", "POST /internal/v1/import"
GOAL = Goal(5000)
SEED = 7
LINES_SHARE = 5
"""The effort's events by this are the lines of a file; five times as many show that memory is constant."""
REMEMBERED_MAX = 10_000
STOCK_LINES_MAX = 3_000
STOCK_THREADS = 16
START_TIMEOUT_SECONDS = 60.0
SCOPES = ("catalog", "network")

_STARTS = {COMMAND: "with its start", REQUEST: ""}
_SAID = re.compile(r"^(\d+) lines in ([\d.]+) s: (\d+) made a change", re.MULTILINE)


class Spent(NamedTuple):
    """CPU seconds and, in MB, the most memory at once."""

    python: float
    postgres: float
    peak_mb: float


class Imports:
    """One migrated database, an API process on it, and files that are each imported once."""

    def __init__(self, server: Server, dsn: str, count: int) -> None:
        self._server, self._dsn, self._count = server, dsn, count
        self._made = 0
        self._port = 0
        self._key = ""
        self.spent: dict[str, list[Spent]] = {}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """`ledger api` runs meanwhile, and there is an account."""
        account = self._ledger("accounts", "create", "Benchmark").stdout.strip()
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        made = self._ledger("keys", "create", account, "--kind", "rk", *scopes)
        self._key = made.stdout.split()[-1]
        self._port = free_port()
        self._process = subprocess.Popen(
            _command("api"), env=self._environment(LEDGER_PORT=str(self._port)), stdin=subprocess.DEVNULL
        )
        try:
            self._await_api()
            yield
        finally:
            end(self._process)

    def file(self, count: int) -> Path:
        """A file of `count` lines of objects that no other file has."""
        self._made += 1
        file = self._server.directory / "import.ndjson"
        with file.open("wb") as to:
            to.writelines(export(SEED, count, prefix=f"{self._made}x"))
        return file

    def by_command(self, count: int = 0, name: str = COMMAND, **settings: str) -> float:
        """Lines a second of `ledger import`, its start not counted."""
        file = self.file(count or self._count)
        postgres = self._postgres_cpu()
        said = self._server.directory / "import.said"
        with said.open("wb") as to:
            process = subprocess.Popen(
                _command("import", str(file)), env=self._environment(**settings), stdout=to, stderr=to
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        found = _SAID.search(said.read_text())
        if process.returncode != 0 or found is None or found[1] != found[3]:
            raise RuntimeError(f"ledger import failed: {said.read_text()[-2000:]}")
        cpu = used.ru_utime + used.ru_stime
        spent = Spent(cpu, self._postgres_cpu() - postgres, used.ru_maxrss * 1024 / 1e6)
        self.spent.setdefault(name, []).append(spent)
        return int(found[1]) / float(found[2])

    def by_request(self, count: int = 0, name: str = REQUEST) -> float:
        """Lines a second of one request, sent as fast as it is taken."""
        lines = self.file(count or self._count)
        pid = self._process.pid
        python, postgres = _cpu(pid), self._postgres_cpu()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        started = time.perf_counter()
        with closing(connection), lines.open("rb") as body:
            connection.request("POST", "/internal/v1/import", body, headers)
            answer = connection.getresponse()
            changed = answer.read().count(b'"changed":true')
        seconds = time.perf_counter() - started
        if answer.status != 200 or changed != (count or self._count):
            raise RuntimeError(f"the import was answered {answer.status}, {changed} lines made a change")
        spent = Spent(_cpu(pid) - python, self._postgres_cpu() - postgres, _peak_mb(pid))
        self.spent.setdefault(name, []).append(spent)
        return changed / seconds

    def by_copy(self) -> float:
        """Lines a second of COPY, as text, into one column."""
        lines = self.file(self._count).read_bytes()
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS public.lines (line text)")
            started = time.perf_counter()
            with conn.cursor() as cur, cur.copy("COPY public.lines FROM STDIN") as copy:
                copy.write(lines.replace(b"\\", b"\\\\"))
            return self._count / (time.perf_counter() - started)

    def _postgres_cpu(self) -> float:
        """Seconds of the server so far, with its ended backends."""
        with psycopg.connect(self._dsn) as conn:
            return _cpu(_parent(conn.info.backend_pid), with_children=True)

    def _await_api(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
                try:
                    connection.request("GET", "/healthz")
                    if connection.getresponse().status == 200:
                        return
                except OSError:
                    time.sleep(0.05)
        raise RuntimeError("ledger api did not come up")

    def _ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _command(*arguments), env=self._environment(), capture_output=True, text=True, check=True
        )

    def _environment(self, **settings: str) -> Mapping[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        return ours | {
            "LEDGER_DATABASE_URL": self._dsn,
            "LEDGER_SECRET_KEY": "a service key of a benchmark, 32 characters",
            "LEDGER_LOG_LEVEL": "warning",
            **settings,
        }


def run(server: Server, effort: Effort) -> list[Figure]:
    """Lines a second both ways, CPU a thousand lines, and the memory for one file and for one 5 x as long."""
    count = effort.events // LINES_SHARE
    with ExitStack() as stack:
        library = stack.enter_context(closing(stock.Lines(server.empty("import_stock"), server.password)))
        few = list(export(SEED, min(count, STOCK_LINES_MAX)))
        imports = Imports(server, server.ledger("import"), count)
        stack.enter_context(imports.serving())
        stocked = partial(library.rate, few, threads=STOCK_THREADS, seconds=effort.seconds * 4)
        ways = {COMMAND: imports.by_command, REQUEST: imports.by_request}
        rates = alternate(ways | {"stock": stocked, "copy": imports.by_copy}, effort.rounds)
        figures = []
        for way in ways:
            spent = imports.spent[way]
            python = [each.python / count * 1000 for each in spent]
            postgres = [each.postgres / count * 1000 for each in spent]
            figures += [
                figure(GROUP, way, rates[way], goal=GOAL, note=f"{count:,} lines"),
                compared(GROUP, "  the same", rates[way], "stock Application", rates["stock"]),
                figure(GROUP, "  CPU of its process, 1,000 lines", python, "s", note=_STARTS[way]),
                figure(GROUP, "  CPU of Postgres, 1,000 lines", postgres, "s"),
            ]
        figures.append(
            figure(GROUP, "COPY of the lines into one column", rates["copy"], note="decides nothing")
        )
        for lines in (count, count * 5):
            name = f"{lines:,} lines"
            imports.by_command(lines, name, LEDGER_CACHED_STREAMS_MAX=str(REMEMBERED_MAX))
            peak = [each.peak_mb for each in imports.spent[name]]
            note = f"{REMEMBERED_MAX:,} aggregates remembered"
            figures.append(figure(GROUP, f"memory at most, ledger import, {name}", peak, "MB", note=note))
    return figures


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "projections", *arguments]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _cpu(pid: int, *, with_children: bool = False) -> float:
    """CPU seconds of a process so far; `with_children`: those that have ended, and those that run."""
    fields = _stat(pid)
    ticks = sum(map(int, fields[11:13]))
    if with_children:
        ticks += sum(map(int, fields[13:15]))
        for child in Path("/proc").iterdir():
            if child.name.isdigit():
                try:
                    fields = _stat(int(child.name))
                except OSError:
                    continue
                if int(fields[1]) == pid:
                    ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6
