"""What a transaction that stays open, as a dump does, costs those who write: by how much was written since.

Two databases on one server are measured in turns. In one of them a snapshot from before is open, which keeps
every version of every row; it does not concern the other one. Nobody waits for the disk: commits are the same
in both.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg

from benchmarks.database import Server
from benchmarks.measurement import Effort, alternate
from benchmarks.report import Figure, Goal, compare
from ledger.store.log import PLANNER_SETTINGS

GROUP = "under an old snapshot"
SHARES = (0.0, 0.2, 0.6)
"""Of the events of the history: how many are appended under the snapshot before each measurement."""
APPENDS_PER_BATCH = 10
CHECKPOINTS = 15
MEASURED = 1000
GOAL = Goal(1.3, is_maximum=True)

_SETTINGS = {**PLANNER_SETTINGS, "synchronous_commit": "off"}
_OPTIONS = " ".join(f"-c {name}={setting}" for name, setting in _SETTINGS.items())
# One procedure call for many appends, so that the client's part is not measured.
_CREATE = """
CREATE SCHEMA bench;
CREATE PROCEDURE bench.append(appender uuid, first bigint, count bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN first..first + count - 1 LOOP
        PERFORM ledger.append_one(
            appender, n, 1700000000 + n, 'cus_bench', 0,
            'cuss_' || n, 1, 'customer_session.created', decode(repeat('ab', 150), 'hex'), 'acct_1', false,
            'key_1', 'req_1', 'key_' || n, NULL, 'cus_bench', NULL, NULL,
            'acct_1', false, 'key_' || n, 'fingerprint', 200::smallint, repeat('x', 120), NULL, NULL, NULL,
            'req_1');
        COMMIT;
    END LOOP;
END $$;
CREATE PROCEDURE bench.move(count bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..count LOOP
        UPDATE projections.checkpoints SET position = position + 1;
        COMMIT;
    END LOOP;
END $$;
CREATE PROCEDURE bench.read_head(count bigint) LANGUAGE plpgsql AS $$
DECLARE
    head bigint;
BEGIN
    FOR n IN 1..count LOOP
        SELECT h.position INTO head FROM ledger.head h;
    END LOOP;
END $$;
CREATE PROCEDURE bench.read_checkpoint(count bigint) LANGUAGE plpgsql AS $$
DECLARE
    reached bigint;
BEGIN
    FOR n IN 1..count LOOP
        SELECT c.position INTO reached FROM projections.checkpoints c
        WHERE c.projection = 'bench_1' AND c.generation = 1;
    END LOOP;
END $$;
"""
_INSERT_CHECKPOINTS = """
INSERT INTO projections.checkpoints (projection, generation, position, recorded_at)
SELECT 'bench_' || n, 1, 0, now() FROM generate_series(1, %s) n
"""


class _Database:
    """One of the two: a database with an appender, and a projection runner's checkpoints."""

    def __init__(self, server: Server, name: str) -> None:
        self.dsn = server.create_ledger_database(name)
        self._conn = psycopg.connect(self.dsn, autocommit=True, options=_OPTIONS)
        self._conn.execute(_CREATE)
        self._conn.execute(_INSERT_CHECKPOINTS, (CHECKPOINTS,))
        self._appender = uuid.uuid4()
        self._next = 1
        self.append(MEASURED)  # plans are made, and the indexes have more than a page

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def append(self, count: int) -> float:
        """µs for each of so many appends, one event each."""
        first, self._next = self._next, self._next + count
        return self._time("CALL bench.append(%s, %s, %s)", (self._appender, first, count), count)

    def move(self, count: int) -> float:
        """µs to move all checkpoints, so many times."""
        return self._time("CALL bench.move(%s)", (count,), count)

    def read_head(self, count: int) -> float:
        """µs to read the head, so many times."""
        return self._time("CALL bench.read_head(%s)", (count,), count)

    def read_checkpoint(self, count: int) -> float:
        """µs to read one checkpoint, as a list does, so many times."""
        return self._time("CALL bench.read_checkpoint(%s)", (count,), count)

    def _time(self, call: str, parameters: tuple[Any, ...], count: int) -> float:
        started = time.perf_counter()
        self._conn.execute(call, parameters)
        return (time.perf_counter() - started) / max(count, 1) * 1e6


def run(server: Server, effort: Effort) -> list[Figure]:
    """Costs of an append, of reading the head and of moving checkpoints, beside those without a snapshot."""
    figures = []
    without, under = _Database(server, "without_snapshot"), _Database(server, "old_snapshot")
    with _hold_snapshot(under.dsn):
        appended = 0
        for share in SHARES:
            more = round(effort.events * share) - appended
            appended += more
            for database in (without, under):
                database.append(more)
                database.move(more // APPENDS_PER_BATCH)
            figures += _measure(without, under, appended, effort)
    without.close()
    under.close()
    return figures


def _measure(without: _Database, under: _Database, appended: int, effort: Effort) -> list[Figure]:
    batches = appended // APPENDS_PER_BATCH
    works = {
        f"append, after {appended:,} appends": (_Database.append, MEASURED, GOAL),
        f"read the head, after {appended:,} appends": (_Database.read_head, 5 * MEASURED, GOAL),
        f"read a checkpoint, after {batches:,} batches": (_Database.read_checkpoint, MEASURED, None),
        f"move {CHECKPOINTS} checkpoints, after {batches:,} batches": (
            _Database.move, MEASURED // 20, None,
        ),
    }  # fmt: skip
    figures = []
    for work, (measure, count, goal) in works.items():
        costs = alternate(
            {"under": partial(measure, under, count), "without": partial(measure, without, count)},
            effort.rounds,
        )
        figures.append(
            compare(GROUP, work, costs["under"], "no snapshot", costs["without"], unit="µs", goal=goal)
        )
    return figures


@contextmanager
def _hold_snapshot(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT FROM ledger.events LIMIT 1")
        yield
