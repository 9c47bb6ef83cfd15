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
from benchmarks.export import generate_lines
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compare_rates, figure
from benchmarks.service import find_free_port, stop_process

GROUP = "importing NDJSON: customers, charges, disputes, facts"
COMMAND, REQUEST = "ledger import", "POST /internal/v1/import"
GOAL = Goal(5000)
SEED = 7
EVENTS_PER_LINE = 5
"""The effort's events by this are the lines of a file; five times as many show that memory is constant."""
CACHED_STREAMS_MAX = 10_000
STOCK_LINES_MAX = 3_000
STOCK_THREADS = 16
START_TIMEOUT_SECONDS = 60.0
SCOPES = ("catalog", "network")

_CPU_NOTES = {COMMAND: "with its start", REQUEST: ""}
_SUMMARY = re.compile(r"^(\d+) lines in ([\d.]+) s: (\d+) changed,", re.MULTILINE)


class ResourceUse(NamedTuple):
    """CPU seconds and, in MB, the most memory at once."""

    client_seconds: float
    postgres_seconds: float
    peak_mb: float


class ImportBenchmark:
    """One migrated database, an API process on it, and files that are each imported once."""

    def __init__(self, server: Server, dsn: str, line_count: int) -> None:
        self._server, self._dsn, self._line_count = server, dsn, line_count
        self._file_count = 0
        self._port = 0
        self._key = ""
        self.resource_use: dict[str, list[ResourceUse]] = {}

    @contextmanager
    def run_api(self) -> Iterator[None]:
        """`ledger api` runs meanwhile, and there is an account."""
        account = self._run_ledger("accounts", "create", "Benchmark").stdout.strip()
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        output = self._run_ledger("keys", "create", account, "--kind", "rk", *scopes)
        self._key = output.stdout.split()[-1]
        self._port = find_free_port()
        self._process = subprocess.Popen(
            _build_command("api"),
            env=self._environment(LEDGER_PORT=str(self._port)),
            stdin=subprocess.DEVNULL,
        )
        try:
            self._await_api()
            yield
        finally:
            stop_process(self._process)

    def write_file(self, count: int) -> Path:
        """A file of `count` lines of objects that no other file has."""
        self._file_count += 1
        file = self._server.directory / "import.ndjson"
        with file.open("wb") as stream:
            stream.writelines(generate_lines(SEED, count, prefix=f"{self._file_count}x"))
        return file

    def measure_command(self, count: int = 0, name: str = COMMAND, **settings: str) -> float:
        """Lines a second of `ledger import`, its start not counted."""
        file = self.write_file(count or self._line_count)
        postgres = self._postgres_cpu()
        output = self._server.directory / "import.said"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                _build_command("import", str(file)),
                env=self._environment(**settings),
                stdout=stream,
                stderr=stream,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        match = _SUMMARY.search(output.read_text())
        if process.returncode != 0 or match is None or match[1] != match[3]:
            raise RuntimeError(f"ledger import failed: {output.read_text()[-2000:]}")
        cpu = usage.ru_utime + usage.ru_stime
        resource_use = ResourceUse(cpu, self._postgres_cpu() - postgres, usage.ru_maxrss * 1024 / 1e6)
        self.resource_use.setdefault(name, []).append(resource_use)
        return int(match[1]) / float(match[2])

    def measure_request(self, count: int = 0, name: str = REQUEST) -> float:
        """Lines a second of one request, sent as fast as it is taken."""
        lines = self.write_file(count or self._line_count)
        pid = self._process.pid
        python, postgres = _read_cpu_seconds(pid), self._postgres_cpu()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        started = time.perf_counter()
        with closing(connection), lines.open("rb") as body:
            connection.request("POST", "/internal/v1/import", body, headers)
            response = connection.getresponse()
            changed = response.read().count(b'"changed":true')
        seconds = time.perf_counter() - started
        if response.status != 200 or changed != (count or self._line_count):
            raise RuntimeError(f"the import was answered {response.status}, {changed} lines made a change")
        resource_use = ResourceUse(
            _read_cpu_seconds(pid) - python, self._postgres_cpu() - postgres, _read_peak_mb(pid)
        )
        self.resource_use.setdefault(name, []).append(resource_use)
        return changed / seconds

    def measure_copy(self) -> float:
        """Lines a second of COPY, as text, into one column."""
        lines = self.write_file(self._line_count).read_bytes()
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS public.lines (line text)")
            started = time.perf_counter()
            with conn.cursor() as cur, cur.copy("COPY public.lines FROM STDIN") as copy:
                copy.write(lines.replace(b"\\", b"\\\\"))
            return self._line_count / (time.perf_counter() - started)

    def _postgres_cpu(self) -> float:
        """Seconds of the server so far, with its ended backends."""
        with psycopg.connect(self._dsn) as conn:
            return _read_cpu_seconds(_get_parent_pid(conn.info.backend_pid), with_children=True)

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

    def _run_ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _build_command(*arguments), env=self._environment(), capture_output=True, text=True, check=True
        )

    def _environment(self, **settings: str) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        return inherited | {
            "LEDGER_DATABASE_URL": self._dsn,
            "LEDGER_SECRET_KEY": "a service key of a benchmark, 32 characters",
            "LEDGER_LOG_LEVEL": "warning",
            **settings,
        }


def run(server: Server, effort: Effort) -> list[Figure]:
    """Lines a second both ways, CPU a thousand lines, and the memory for one file and for one 5 x as long."""
    count = effort.events // EVENTS_PER_LINE
    with ExitStack() as stack:
        stock_import = stack.enter_context(
            closing(stock.StockImport(server.create_empty_database("import_stock"), server.password))
        )
        stock_lines = list(generate_lines(SEED, min(count, STOCK_LINES_MAX)))
        imports = ImportBenchmark(server, server.create_ledger_database("import"), count)
        stack.enter_context(imports.run_api())
        measure_stock = partial(
            stock_import.rate, stock_lines, threads=STOCK_THREADS, seconds=effort.seconds * 4
        )
        methods = {COMMAND: imports.measure_command, REQUEST: imports.measure_request}
        rates = alternate(methods | {"stock": measure_stock, "copy": imports.measure_copy}, effort.rounds)
        figures = []
        for method in methods:
            resource_use = imports.resource_use[method]
            python = [item.client_seconds / count * 1000 for item in resource_use]
            postgres = [each.postgres_seconds / count * 1000 for each in resource_use]
            figures += [
                figure(GROUP, method, rates[method], goal=GOAL, note=f"{count:,} lines"),
                compare_rates(GROUP, "  the same", rates[method], "stock Application", rates["stock"]),
                figure(GROUP, "  CPU of its process, 1,000 lines", python, "s", note=_CPU_NOTES[method]),
                figure(GROUP, "  CPU of Postgres, 1,000 lines", postgres, "s"),
            ]
        figures.append(
            figure(GROUP, "COPY of the lines into one column", rates["copy"], note="decides nothing")
        )
        for lines in (count, count * 5):
            name = f"{lines:,} lines"
            imports.measure_command(lines, name, LEDGER_CACHED_STREAMS_MAX=str(CACHED_STREAMS_MAX))
            peak = [each.peak_mb for each in imports.resource_use[name]]
            note = f"{CACHED_STREAMS_MAX:,} aggregates remembered"
            figures.append(figure(GROUP, f"memory at most, ledger import, {name}", peak, "MB", note=note))
    return figures


def _build_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "projections", *arguments]


def _read_stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _get_parent_pid(pid: int) -> int:
    return int(_read_stat(pid)[1])


def _read_cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """CPU seconds of a process so far; `with_children`: those that have ended, and those that run."""
    fields = _read_stat(pid)
    ticks = sum(map(int, fields[11:13]))
    if with_children:
        ticks += sum(map(int, fields[13:15]))
        for child in Path("/proc").iterdir():
            if child.name.isdigit():
                try:
                    fields = _read_stat(int(child.name))
                except OSError:
                    continue
                if int(fields[1]) == pid:
                    ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _read_peak_mb(pid: int) -> float:
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024 / 1e6
