"""Drains of the feed as NDJSON: a long log over one connection, beside COPY of the same rows to one client.

The log is a history as `history` generates it, then copies of it under other ids. An API process without
projections serves it. The yardstick reads the columns of which an item consists, in binary form, and looks at
none of them; so does the reader of the feed, which only counts lines. Each round has a new process, which has
rendered nothing yet.
"""

from __future__ import annotations

import http.client
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from benchmarks.database import run_server
from benchmarks.feed.readers import PATH
from benchmarks.history import DAY_SECONDS, copy_history
from benchmarks.measurement import Effort
from benchmarks.process_stats import read_cpu_clock, read_peak_mb, read_server_cpu_seconds
from benchmarks.report import Figure, Goal, compare, figure
from benchmarks.service import build_environment, run_api, run_ledger_command
from benchmarks.store import ACCOUNT, SECRET_KEY
from ledger.store.codec import Codec
from ledger.wire.versions import LATEST_VERSION

EVENTS = 1_000_000
STORY_EVENTS_MAX = 100_000
SEED = 1
LOG_DAYS = 20.0
FIRST_COPY = 10
"""Ids of stories begin with 03, those of the first copy with 11."""
SIDE_BY_SIDE = 10
NEWEST_EVENTS = 20_000
SIDE_BY_SIDE_EVENTS = 100_000
READ_BYTES = 1 << 20
LAST_LINE_BYTES_MAX = 200
TIMEOUT_SECONDS = 300.0
GROUP = "feed, drain as NDJSON"
COPY = "COPY of the same rows"
GOAL = Goal(50_000)
TYPE = "dispute.opened"

_COLUMNS = """
SELECT notification_id, originator_id, originator_version, topic, state, account, livemode, request_id,
       causation, recorded_at
FROM ledger.events
"""
_COPY_ALL = f"COPY ({_COLUMNS} ORDER BY notification_id) TO STDOUT (FORMAT BINARY)"
_COPY_TYPE = f"COPY ({_COLUMNS} WHERE topic = '{TYPE}' ORDER BY notification_id) TO STDOUT (FORMAT BINARY)"
_INSERT_ACCOUNT = "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'Benchmark', %s)"
_INSERT_COPY = """
INSERT INTO ledger.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     idempotency_key, causation, customer, charge, payment_intent, recorded_at)
SELECT %(after)s + notification_id, replace(originator_id, '_03', '_' || %(copy)s),
       originator_version, topic, state, account, livemode, actor, request_id, idempotency_key, causation,
       customer, charge, payment_intent, recorded_at + %(days)s * interval '1 day'
FROM ledger.events WHERE notification_id <= %(count)s ORDER BY notification_id
"""
_MOVE_HEAD = """
UPDATE ledger.head h SET position = e.notification_id, recorded_at = e.recorded_at
FROM (SELECT notification_id, recorded_at FROM ledger.events ORDER BY notification_id DESC LIMIT 1) e
"""


class Drain(NamedTuple):
    """Items and bytes that one answer had, how long it took, and the CPU seconds of who read it."""

    items: int
    size: int
    seconds: float
    reader_cpu: float

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds


class _Round(NamedTuple):
    """What one round measured.

    first         of all events, by a process that has rendered nothing yet
    again         of the newest events, which it has rendered before
    one_type      of the events of one type among all
    side_by_side  events per second of several drains at once, together
    copy_cpu_us   of Postgres and the client, for a row of `copy`
    cpu_us        of the process that answers, Postgres and the reader, for an item of `first`
    memory_mb     of the process that answers before, and the most at once
    """

    copy: Drain
    copy_of_type: Drain
    first: Drain
    again: Drain
    one_type: Drain
    side_by_side: float
    copy_cpu_us: float
    cpu_us: Sequence[float]
    memory_mb: tuple[float, float]


def measure(directory: Path, effort: Effort) -> list[Figure]:
    """Drains of EVENTS events, or of as many as a quick run has."""
    events = max(EVENTS, effort.events) if effort.rounds > 1 else effort.events
    with run_server(directory) as server:
        dsn = server.create_ledger_database("feed")
        started = time.perf_counter()
        fill_log(dsn, events)
        seconds = time.perf_counter() - started
        print(f"  a log of {events:,} events: {seconds:.0f} s", file=sys.stderr, flush=True)
        key = _create_key(dsn)
        rounds = [_measure_round(dsn, key, events) for _ in range(effort.rounds)]
    return list(_build_figures(rounds, events))


def fill_log(dsn: str, events: int) -> None:
    """Fill the log of an empty database with `events` events, and give it an account."""
    stories = min(events, STORY_EVENTS_MAX)
    copy_history(dsn, Codec(SECRET_KEY), SEED, stories, days=1.0, end=time.time() - LOG_DAYS * DAY_SECONDS)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_INSERT_ACCOUNT, (ACCOUNT, LATEST_VERSION))
        for number, after in enumerate(range(stories, events, stories), 1):
            count = min(stories, events - after)
            conn.execute(
                _INSERT_COPY,
                {"after": after, "count": count, "copy": str(FIRST_COPY + number), "days": number},
            )
        conn.execute(_MOVE_HEAD)
        conn.execute("VACUUM ANALYZE ledger.events")


def drain(port: int, key: str, query: str = "") -> Drain:
    """Read the whole answer. Raises RuntimeError when it is refused, or cut: without the last line of
    progress."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    started, cpu = time.perf_counter(), time.thread_time()
    try:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
        connection.request("GET", f"{PATH}?{query}", headers=headers)
        response = connection.getresponse()
        lines, size, end = 0, 0, b""
        while data := response.read1(READ_BYTES):
            lines += data.count(b"\n")
            size += len(data)
            end = (end + data[-LAST_LINE_BYTES_MAX:])[-LAST_LINE_BYTES_MAX:]
    finally:
        connection.close()
    seconds = time.perf_counter() - started
    last = end.rstrip(b"\n").rpartition(b"\n")[2]
    if response.status != 200 or not last.startswith(b'{"progress":'):
        raise RuntimeError(f"the feed answered {response.status}, and its last line is {last!r}")
    return Drain(lines - 1, size, seconds, time.thread_time() - cpu)


def _measure_round(dsn: str, key: str, events: int) -> _Round:
    newest = f"after={max(0, events - NEWEST_EVENTS)}"
    side_by_side = f"after={max(0, events - SIDE_BY_SIDE_EVENTS)}"
    settings = {"LEDGER_DATABASE_URL": dsn, "LEDGER_SECRET_KEY": SECRET_KEY.decode()}
    with psycopg.connect(dsn, autocommit=True) as conn, run_api(build_environment() | settings) as api:
        drain(api.port, key, "limit=1")
        memory_before = read_peak_mb(api.pid)
        before = read_server_cpu_seconds(conn)
        copy = _copy(dsn, _COPY_ALL)
        copy_cpu = copy.reader_cpu + read_server_cpu_seconds(conn) - before
        copy_of_type = _copy(dsn, _COPY_TYPE)
        before_api, before = read_cpu_clock(api.pid), read_server_cpu_seconds(conn)
        first = drain(api.port, key)
        cpu = [read_cpu_clock(api.pid) - before_api, read_server_cpu_seconds(conn) - before, first.reader_cpu]
        again = [drain(api.port, key, newest) for _ in range(2)][1]
        one_type = drain(api.port, key, f"types={TYPE}")
        started = time.perf_counter()
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            drains = list(pool.map(lambda _: drain(api.port, key, side_by_side), range(SIDE_BY_SIDE)))
        seconds = time.perf_counter() - started
        memory_mb = memory_before, read_peak_mb(api.pid)
    _check([first], copy.items)
    _check([one_type], copy_of_type.items)
    _check(drains, min(events, SIDE_BY_SIDE_EVENTS))
    together = sum(each.items for each in drains) / seconds
    return _Round(
        copy, copy_of_type, first, again, one_type, together,
        copy_cpu / copy.items * 1e6, [seconds / first.items * 1e6 for seconds in cpu], memory_mb,
    )  # fmt: skip


def _copy(dsn: str, statement: str) -> Drain:
    """Read the rows of a COPY as bytes."""
    size, started, cpu = 0, time.perf_counter(), time.thread_time()
    with psycopg.connect(dsn) as conn, conn.cursor() as cur:
        with cur.copy(statement.encode()) as copy:
            for data in copy:
                size += len(data)
        return Drain(cur.rowcount, size, time.perf_counter() - started, time.thread_time() - cpu)


def _check(drains: Sequence[Drain], expected: int) -> None:
    for each in drains:
        if each.items != expected:
            raise RuntimeError(f"a drain had {each.items} of {expected} events")


def _create_key(dsn: str) -> str:
    arguments = ("keys", "create", ACCOUNT, "--kind", "rk", "--scope", "ledger_feed")
    match = re.search(r"rk_test_\w+", run_ledger_command(dsn, SECRET_KEY, *arguments).output)
    if match is None:
        raise RuntimeError("`ledger keys create` printed no key")
    return match[0]


def _build_figures(rounds: Sequence[_Round], events: int) -> Iterator[Figure]:
    copies = [each.copy.rate for each in rounds]
    size = rounds[0].first.size / rounds[0].first.items
    firsts = [each.first.rate for each in rounds]
    yield figure(GROUP, f"{events:,} events, 1 connection", firsts, goal=GOAL)
    note = f"{size:.0f} B an item, {rounds[0].copy.size / rounds[0].copy.items:.0f} B a row"
    yield compare(GROUP, f"{events:,} events, 1 connection", firsts, COPY, copies, note=note)
    api, postgres, reader = (median(parts) for parts in zip(*(each.cpu_us for each in rounds), strict=True))
    note = f"API process {api:.1f}, Postgres {postgres:.1f}, reader {reader:.1f} µs"
    yield compare(GROUP, "CPU of an event", [sum(each.cpu_us) for each in rounds], COPY,
                  [each.copy_cpu_us for each in rounds], unit="µs", note=note)  # fmt: skip
    agains = [each.again.rate for each in rounds]
    yield compare(
        GROUP, f"the newest {rounds[0].again.items:,} events, rendered before", agains, COPY, copies
    )
    note = f"{SIDE_BY_SIDE_EVENTS:,} events each"
    yield compare(GROUP, f"{SIDE_BY_SIDE} side by side", [each.side_by_side for each in rounds], COPY, copies,
                  note=note)  # fmt: skip
    # By the events that are looked at: few of them pass.
    looked_at = [events / each.one_type.seconds for each in rounds]
    copies_of_type = [events / each.copy_of_type.seconds for each in rounds]
    note = f"events looked at; {rounds[0].one_type.items:,} pass"
    yield compare(GROUP, f"filtered by a type, {events:,} events", looked_at, COPY, copies_of_type, note=note)
    peaks = [each.memory_mb[1] for each in rounds]
    note = f"before {median(each.memory_mb[0] for each in rounds):.0f} MB"
    yield figure(GROUP, "most memory of the API process", peaks, "MB", note=note)
