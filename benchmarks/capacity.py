"""What the log of one primary takes: events a second by the size of a batch, and bytes of each event.

The events are a history of customers, sessions, charges and disputes, appended by our journal in transactions
of so many events. One journal appends, so batches follow one another, as the lock of the log makes them do
anyway. Projections and HTTP are measured by other groups; what they write is not counted here.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import psycopg

from benchmarks.database import COMMIT_MS, Server
from benchmarks.history import generate_history
from benchmarks.measurement import Effort
from benchmarks.report import Figure, figure
from benchmarks.store import CAUSE, open_store
from ledger.store.journal import Append, Change, Journal
from ledger.store.store import Store

RATE_GROUP = "capacity: events appended, by events in a transaction"
WAL_GROUP = "capacity: WAL of an event, by events in a transaction"
DISK_GROUP = "capacity: disk of an event in the log"
SEED = 1
HISTORY_EVENTS = 10_000_000
BATCHES = (1, 4, 16, 64, 256, 1000)
WARM_UP_BATCH = 64
PER_SECOND_MAX = 80_000
"""Bounds how many events are prepared for one measurement."""
PER_SECOND_MAX_OF_ONE = 10_000
DAY_SECONDS = 86_400

_WAL_BYTES = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_COUNT = "SELECT count(*) FROM ledger.events"
_TABLE_BYTES = """
SELECT pg_relation_size(c.oid), coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0),
       pg_indexes_size(c.oid), pg_total_relation_size(c.oid)
FROM pg_class c WHERE c.oid = 'ledger.events'::regclass
"""
_INDEX_BYTES = """
SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index
WHERE indrelid = 'ledger.events'::regclass ORDER BY pg_relation_size(indexrelid) DESC
"""


class Measurement(NamedTuple):
    """Events appended in one measurement, and the WAL that the server wrote meanwhile."""

    events: int
    seconds: float
    wal_bytes: int


class Appends:
    """Appends one history, part by part: each measurement goes on where the one before it ended."""

    def __init__(self, runner: asyncio.Runner, store: Store, conn: psycopg.Connection) -> None:
        self._runner = runner
        self._journal = store.journal
        self._conn = conn
        self._history = generate_history(SEED, HISTORY_EVENTS)
        self._prepared: list[Change] = []

    def measure(self, batch: int, seconds: float) -> Measurement:
        """Append transactions of `batch` events for `seconds`."""
        wanted = max(batch, round(seconds * (PER_SECOND_MAX_OF_ONE if batch == 1 else PER_SECOND_MAX)))
        self._prepared += islice(self._history, max(0, wanted - len(self._prepared)))
        before = self._read_wal_bytes()
        started = time.perf_counter()
        events = self._runner.run(_append_until(self._journal, self._prepared, batch, started + seconds))
        elapsed = time.perf_counter() - started
        del self._prepared[:events]
        return Measurement(events, elapsed, self._read_wal_bytes() - before)

    def _read_wal_bytes(self) -> int:
        (wal_bytes,) = self._conn.execute(_WAL_BYTES).fetchone() or (0,)
        return int(wal_bytes)


async def _append_until(journal: Journal, changes: list[Change], batch: int, deadline: float) -> int:
    """Append whole batches until the deadline; returns how many events they had. A change that is not
    appended stays for the next measurement: the later events of its stream need it."""
    events = 0
    while events + batch <= len(changes) and time.perf_counter() < deadline:
        await journal.append(Append(CAUSE, changes[events : events + batch]))
        events += batch
    return events


def run(server: Server, effort: Effort) -> list[Figure]:
    """Figures of each batch size, with this machine's commits and with commits that take 1 ms longer, which
    is roughly what waiting for a synchronous standby costs."""
    dsn = server.create_ledger_database("capacity")
    measured: dict[tuple[bool, int], list[Measurement]] = defaultdict(list)
    with psycopg.connect(dsn, autocommit=True) as conn, open_store(dsn) as (runner, store):
        appends = Appends(runner, store, conn)
        # After a checkpoint each page is written to the WAL whole once: the rounds begin behind that.
        conn.execute("CHECKPOINT")
        appends.measure(WARM_UP_BATCH, effort.seconds)
        for slow in (False, True):
            with server.slow_commits() if slow else nullcontext():
                for _ in range(effort.rounds):
                    for batch in BATCHES:
                        measured[slow, batch].append(appends.measure(batch, effort.seconds))
        conn.execute("VACUUM ANALYZE ledger.events")
        return [*_build_rate_figures(measured), *_build_wal_figures(measured), *_build_disk_figures(conn)]


def _build_rate_figures(measured: dict[tuple[bool, int], list[Measurement]]) -> Iterator[Figure]:
    for (slow, batch), measurements in measured.items():
        rates = [each.events / each.seconds for each in measurements]
        work = f"{batch:,} event{'s' * (batch > 1)}{f', commits {COMMIT_MS} ms longer' * slow}"
        yield figure(RATE_GROUP, work, rates, note=describe_day(sorted(rates)[len(rates) // 2]))


def describe_day(rate: float) -> str:
    """What a rate makes in a day: computed, not measured."""
    return f"{rate * DAY_SECONDS / 1e6:,.0f} million a day, if it were held all day"


def _build_wal_figures(measured: dict[tuple[bool, int], list[Measurement]]) -> Iterator[Figure]:
    for (slow, batch), measurements in measured.items():
        if not slow:
            wal = [each.wal_bytes / each.events for each in measurements]
            yield figure(WAL_GROUP, f"{batch:,} event{'s' * (batch > 1)}", wal, "B")


def _build_disk_figures(conn: psycopg.Connection) -> Iterator[Figure]:
    """Bytes an event in heap, TOAST and each index of the log's table, and in all of them."""
    (events,) = conn.execute(_COUNT).fetchone() or (0,)
    heap, toast, indexes, total = conn.execute(_TABLE_BYTES).fetchone() or (0, 0, 0, 0)
    sizes = {"rows": heap, "rows too long for a page (TOAST)": toast, "all indexes": indexes}
    sizes |= {f"index {name.removeprefix('ledger.')}": size for name, size in conn.execute(_INDEX_BYTES)}
    sizes["all of the log's table"] = total
    for name, size in sizes.items():
        yield figure(DISK_GROUP, name, [size / events], "B", note=f"{events:,} events" * (size == total))
