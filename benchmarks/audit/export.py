"""Exports of a range of the sealed log and of a part of it, and their check offline: records per second, and
the most memory that the commands need for a tenth of the range and for all of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.audit.ground import Ground
from benchmarks.measurement import Effort
from benchmarks.report import Figure, compare, figure
from benchmarks.service import run_ledger_command
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
from ledger.store.store import Store
from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.notes import parse_note

GROUP = "audit: export and its check"
EVENTS_MAX = 300_000
AUDITOR = Auditor(ACCOUNT, False, "benchmark")
FORMATS: tuple[Format, ...] = ("ndjson", "parquet")

_COPY = "COPY (SELECT * FROM ledger.events WHERE notification_id <= {events}) TO STDOUT"


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """The yardstick of an export is Postgres's own COPY of the same rows to the client. The log is sealed."""
    events = min(ground.events, EVENTS_MAX)
    directory = ground.server.directory
    with open_store(ground.dsn) as (runner, store):
        figures = runner.run(_measure_rates(directory, ground.dsn, store, events, effort))
    return [*figures, *_measure_memory(directory, ground.dsn, events)]


async def _measure_rates(
    directory: Path, dsn: str, store: Store, events: int, effort: Effort
) -> list[Figure]:
    whole = LogFilters(position={"lte": events})
    disputes = LogFilters(types=["dispute.*"], position={"lte": events})
    rates: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = {}
    async with Pool(dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        for _ in range(effort.rounds):
            rates["COPY"].append(events / _time_copy(dsn, events))
            for name in FORMATS:
                file = directory / f"export.{name}"
                seconds = await _write(queries, whole, name, file)
                rates[f"export, {name}"].append(events / seconds)
                sizes[name] = file.stat().st_size
                verified, seconds = _verify(file, name)
                assert verified.is_complete
                assert verified.records == events
                rates[f"verify, {name}"].append(events / seconds)
            file = directory / "disputes.ndjson"
            seconds = await _write(queries, disputes, "ndjson", file)
            rates["export"].append(_verify(file, "ndjson")[0].records / seconds)
    note = f"{events:,} events"
    return [
        *(
            compare(GROUP, f"export, {name}", rates[f"export, {name}"], "COPY", rates["COPY"], note=note)
            for name in FORMATS
        ),
        *(figure(GROUP, f"size of an event, {name}", [sizes[name] / events], "B") for name in FORMATS),
        figure(GROUP, "export of dispute.*, ndjson", rates["export"]),
        *(figure(GROUP, f"verify-export, {name}", rates[f"verify, {name}"]) for name in FORMATS),
    ]


def _time_copy(dsn: str, events: int) -> float:
    started = time.perf_counter()
    statement = _COPY.format(events=events).encode()
    with psycopg.connect(dsn) as conn, conn.cursor() as cur, cur.copy(statement) as copy:
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
            file.unlink(missing_ok=True)
            export = ("export", "--account", ACCOUNT, "--format", name, "--out", str(file), "--before",
                      str(count + 1))  # fmt: skip
            for command in (export, ("verify-export", str(file))):
                use = run_ledger_command(dsn, SECRET_KEY, "audit", *command)
                work = f"memory of {command[0]}, {name}, {count:,} events"
                yield figure(GROUP, work, [use.memory_mb], "MB")
