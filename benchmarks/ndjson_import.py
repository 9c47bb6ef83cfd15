"""Importing NDJSON: `ledger import FILE` and `POST /internal/v1/import` to a process of `ledger api`.

The yardsticks use the same server: the stock Application creates an aggregate for each line, and COPY writes
the same lines into a table of one column and decides nothing. No projections run meanwhile;
`benchmarks.projections` measures those.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.database import Server
from benchmarks.export import generate_lines
from benchmarks.measurement import Effort, alternate
from benchmarks.process_stats import read_cpu_seconds, read_peak_mb, read_server_cpu_seconds
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.service import (
    THIS_BUILD,
    await_start,
    build_environment,
    find_free_port,
    stop_process,
)
from benchmarks.yardsticks import stock

GROUP = "import of NDJSON: customers, charges, disputes, facts"
COMMAND, REQUEST = "ledger import", "POST /internal/v1/import"
GOAL = Goal(5000)
SEED = 7
EVENTS_PER_LINE = 5
"""A file has a line for each five of the effort's events. A file five times as long shows that memory is
constant."""
CACHED_STREAMS_MAX = 10_000
STOCK_LINES_MAX = 3_000
STOCK_THREADS = 16
SCOPES = ("catalog", "network")

_CPU_NOTES = {COMMAND: "with the start of the process", REQUEST: ""}
_SUMMARY = re.compile(r"^(\d+) lines in ([\d.]+) s: (\d+) changed,", re.MULTILINE)


class ResourceUse(NamedTuple):
    """CPU seconds of one import, and the most memory at once in MB."""

    client_seconds: float
    postgres_seconds: float
    peak_mb: float


class ImportBenchmark:
    """One migrated database, an API process on it, and files of which each is imported once."""

    def __init__(self, server: Server, dsn: str, line_count: int) -> None:
        self._server, self._dsn, self._line_count = server, dsn, line_count
        self._file_count = 0
        self._port = 0
        self._key = ""
        self.resource_use: dict[str, list[ResourceUse]] = {}

    @contextmanager
    def run_api(self) -> Iterator[None]:
        """Create an account and a key, and run `ledger api` while this is open."""
        account = self._run_ledger("accounts", "create", "Benchmark").stdout.strip()
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        output = self._run_ledger("keys", "create", account, "--kind", "rk", *scopes)
        self._key = output.stdout.split()[-1]
        self._port = find_free_port()
        self._process = subprocess.Popen(
            THIS_BUILD.build_command("api"),
            env=self._environment(LEDGER_PORT=str(self._port)),
            stdin=subprocess.DEVNULL,
        )
        try:
            await_start(self._process, "ledger api", self._answers)
            yield
        finally:
            stop_process(self._process)

    def write_file(self, count: int) -> Path:
        """Write a file of `count` lines about objects that no other file has."""
        self._file_count += 1
        file = self._server.directory / "import.ndjson"
        with file.open("wb") as stream:
            stream.writelines(generate_lines(SEED, count, prefix=f"{self._file_count}x"))
        return file

    def measure_command(self, count: int = 0, name: str = COMMAND, **settings: str) -> float:
        """Lines per second of `ledger import`, by its own summary, which does not count its start."""
        file = self.write_file(count or self._line_count)
        postgres = self._postgres_cpu()
        output = self._server.directory / "import.output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                THIS_BUILD.build_command("import", str(file)),
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
        """Lines per second of one request, sent as fast as the server reads it."""
        lines = self.write_file(count or self._line_count)
        pid = self._process.pid
        python, postgres = read_cpu_seconds(pid), self._postgres_cpu()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        started = time.perf_counter()
        with closing(connection), lines.open("rb") as body:
            connection.request("POST", "/internal/v1/import", body, headers)
            response = connection.getresponse()
            changed = response.read().count(b'"changed":true')
        seconds = time.perf_counter() - started
        if response.status != 200 or changed != (count or self._line_count):
            raise RuntimeError(f"the import returned {response.status}; {changed} lines changed something")
        resource_use = ResourceUse(
            read_cpu_seconds(pid) - python, self._postgres_cpu() - postgres, read_peak_mb(pid)
        )
        self.resource_use.setdefault(name, []).append(resource_use)
        return changed / seconds

    def measure_copy(self) -> float:
        """Lines per second of COPY, as text, into one column."""
        lines = self.write_file(self._line_count).read_bytes()
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS public.lines (line text)")
            started = time.perf_counter()
            with conn.cursor() as cur, cur.copy("COPY public.lines FROM STDIN") as copy:
                copy.write(lines.replace(b"\\", b"\\\\"))
            return self._line_count / (time.perf_counter() - started)

    def _postgres_cpu(self) -> float:
        with psycopg.connect(self._dsn) as conn:
            return read_server_cpu_seconds(conn)

    def _answers(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200

    def _run_ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            THIS_BUILD.build_command(*arguments),
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        )

    def _environment(self, **settings: str) -> Mapping[str, str]:
        return build_environment() | {
            "LEDGER_DATABASE_URL": self._dsn,
            "LEDGER_SECRET_KEY": "a service key of a benchmark, 32 characters",
            "LEDGER_LOG_LEVEL": "warning",
            **settings,
        }


def run(server: Server, effort: Effort) -> list[Figure]:
    """Lines per second both ways, CPU per 1,000 lines, and the memory for one file and for one five times as
    long."""
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
        figures = [
            item
            for method in methods
            for item in _build_figures(
                method, rates[method], rates["stock"], imports.resource_use[method], count
            )
        ]
        figures.append(
            figure(GROUP, "COPY of the lines into one column", rates["copy"], note="decides nothing")
        )
        return figures + [_measure_memory(imports, lines) for lines in (count, count * 5)]


def _build_figures(
    method: str,
    rates: Sequence[float],
    stock_rates: Sequence[float],
    usages: Sequence[ResourceUse],
    lines: int,
) -> list[Figure]:
    """The figures of one way to import files of `lines` lines."""
    client = [usage.client_seconds / lines * 1000 for usage in usages]
    postgres = [usage.postgres_seconds / lines * 1000 for usage in usages]
    return [
        figure(GROUP, method, rates, goal=GOAL, note=f"{lines:,} lines"),
        compare(GROUP, method, rates, "stock Application", stock_rates),
        figure(GROUP, f"{method}: CPU of its process, 1,000 lines", client, "s", note=_CPU_NOTES[method]),
        figure(GROUP, f"{method}: CPU of Postgres, 1,000 lines", postgres, "s"),
    ]


def _measure_memory(imports: ImportBenchmark, lines: int) -> Figure:
    """The most memory of `ledger import` for a file of `lines` lines."""
    name = f"{lines:,} lines"
    imports.measure_command(lines, name, LEDGER_CACHED_STREAMS_MAX=str(CACHED_STREAMS_MAX))
    peak = [usage.peak_mb for usage in imports.resource_use[name]]
    note = f"{CACHED_STREAMS_MAX:,} aggregates cached"
    return figure(GROUP, f"{COMMAND}: most memory, {name}", peak, "MB", note=note)
