"""Exports of the whole log and of a part of it, and their check offline: records per second, and the most
memory that the commands need for a tenth of the log and for all of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.database import Server
from benchmarks.history import copy_history
from benchmarks.measurement import Effort
from benchmarks.process_stats import read_peak_mb
from benchmarks.report import Figure, compare_rates, figure
from benchmarks.store import ACCOUNT, SECRET_KEY, open_store
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.exports import ndjson, parquet
from ledger.audit.exports.formats import Format, make_encoder
from ledger.audit.exports.source import plan_export, stream_export
from ledger.audit.exports.verification import VerifiedExport, verify_export
from ledger.audit.search.filters import LogFilters
from ledger.config import load_settings
from ledger.postgres.connections import Pool
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec
from ledger.store.store import Store
from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.notes import parse_note
from ledger.tree.keys import Keyring
from ledger.tree.sealer import Sealer

GROUP = "export and its check"
SEED = 1
LOG_DAYS = 20.0
AUDITOR = Auditor(ACCOUNT, False, "benchmark")
FORMATS: tuple[Format, ...] = ("ndjson", "parquet")
WHOLE, DISPUTES = LogFilters(), LogFilters(types=["dispute.*"])
LOOK_SECONDS = 0.01

_COPY = "COPY (SELECT * FROM ledger.events) TO STDOUT"
_CREATE_ACCOUNT = "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'Benchmark', '')"


def run(server: Server, effort: Effort) -> list[Figure]:
    """The yardstick of an export is Postgres's own COPY of the same rows to the client."""
    dsn = server.create_ledger_database("audit_export")
    copy_history(dsn, Codec(SECRET_KEY), SEED, effort.events, days=LOG_DAYS)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_CREATE_ACCOUNT, (ACCOUNT,))
    with open_store(dsn) as (runner, store):
        figures = runner.run(_measure_rates(server.directory, dsn, store, effort))
    return [*figures, *_measure_memory(server.directory, dsn, effort.events)]


async def _measure_rates(directory: Path, dsn: str, store: Store, effort: Effort) -> list[Figure]:
    rates: dict[str, list[float]] = defaultdict(list)
    async with Pool(dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        await _seal(store)
        for _ in range(effort.rounds):
            rates["COPY"].append(effort.events / _time_copy(dsn))
            for name in FORMATS:
                file = directory / f"export.{name}"
                seconds = await _write(queries, WHOLE, name, file)
                rates[f"export, {name}"].append(effort.events / seconds)
                verified, seconds = _verify(file, name)
                assert verified.is_complete
                assert verified.records == effort.events
                rates[f"verify, {name}"].append(effort.events / seconds)
            file = directory / "disputes.ndjson"
            seconds = await _write(queries, DISPUTES, "ndjson", file)
            rates["export"].append(_verify(file, "ndjson")[0].records / seconds)
    return [
        *(
            compare_rates(GROUP, f"export, {name}", rates[f"export, {name}"], "COPY", rates["COPY"])
            for name in FORMATS
        ),
        figure(GROUP, "export of dispute.*, ndjson, without an audit index", rates["export"]),
        *(figure(GROUP, f"verify-export, {name}", rates[f"verify, {name}"]) for name in FORMATS),
    ]


async def _seal(store: Store) -> None:
    sealer = Sealer(store, Keyring(SECRET_KEY), pause_ms=1, checkpoint_seconds=60)
    while (await sealer.seal()).remaining:
        pass
    await sealer.close()


def _time_copy(dsn: str) -> float:
    started = time.perf_counter()
    with psycopg.connect(dsn) as conn, conn.cursor() as cur, cur.copy(_COPY) as copy:
        for _ in copy:
            pass
    return time.perf_counter() - started


async def _write(queries: QueryContext, filters: LogFilters, name: Format, file: Path) -> float:
    """Write an export; seconds."""
    started = time.perf_counter()
    plan = await plan_export(queries, AUDITOR, filters)
    with file.open("wb") as target:
        async for content in stream_export(queries, plan, make_encoder(name)):
            target.write(content)
    return time.perf_counter() - started


def _verify(file: Path, name: Format) -> tuple[VerifiedExport, float]:
    """Check an export; the result and seconds."""
    started = time.perf_counter()
    with file.open("rb") as source:
        parts = ndjson.read_parts(source) if name == "ndjson" else parquet.read_parts(file)
        verified = verify_export(parts, _read_note)
    return verified, time.perf_counter() - started


def _read_note(note: str) -> Checkpoint:
    return parse_checkpoint(parse_note(note).text)


def _measure_memory(directory: Path, dsn: str, events: int) -> Iterator[Figure]:
    """The most memory of the commands, each a process of its own."""
    for name in FORMATS:
        for count in (events // 10, events):
            file = directory / f"memory.{name}"
            export = ("export", "--account", ACCOUNT, "--format", name, "--out", str(file), "--before",
                      str(count + 1))  # fmt: skip
            for command in (export, ("verify-export", str(file))):
                megabytes = _run_command(dsn, *command)
                yield figure(GROUP, f"memory of {command[0]}, {name}, {count:,} events", [megabytes], "MB")


def _run_command(dsn: str, *arguments: str) -> float:
    """Run `ledger audit …`; its most memory at once, in MB. Raises RuntimeError when it fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ledger", "audit", *arguments],
        env=os.environ | {"LEDGER_DATABASE_URL": dsn, "LEDGER_SECRET_KEY": SECRET_KEY.decode()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, read_peak_mb(process.pid))
        time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise RuntimeError(f"ledger audit {arguments[0]} failed")
    return peak
