"""What sealing costs writers: the throughput of a POST that appends, with and without it, side by side.

One service is measured in turns. In the turns without sealing, the benchmark holds the lock on the tree, so
the service's sealer finds it taken and does nothing. A turn is short, because that lock's transaction also
keeps Postgres from removing old row versions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.load import Outcome, Request, get_generator_name, run_load
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, compare
from benchmarks.service import Service, run_service

CONNECTIONS = (16, 64)
SECONDS_MIN = 1.0
ROUNDS_MIN = 5
GOAL = Goal(0.97)
TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02

_LOCK = "SELECT FROM ledger.tree_head FOR UPDATE"
_IS_SEALED = "SELECT t.size >= h.position FROM ledger.tree_head t, ledger.head h"


def run(directory: Path, effort: Effort) -> list[Figure]:
    """POSTs per second with sealing, beside those without."""
    data_dir = directory / "sealing"
    figures = []
    with run_service(data_dir) as service:
        dsn = service.dsn
        for connections in CONNECTIONS:
            figures.append(_compare(service, dsn, connections, effort))
    return figures


def _compare(service: Service, dsn: str, connections: int, effort: Effort) -> Figure:
    seconds, rounds = max(SECONDS_MIN, effort.seconds), max(ROUNDS_MIN, effort.rounds)
    request = Request(
        service.port, "POST", "/v1/customers", service.secret, "name=Jenny&metadata[order]=6735", True
    )
    run_load(request, connections=connections, seconds=effort.seconds)
    with_sealing: list[Outcome] = []
    without_sealing: list[Outcome] = []
    for number in range(rounds):
        for is_sealed in (number % 2 == 0, number % 2 == 1):  # neither is always the first
            service.wait_until_caught_up(timeout_seconds=TIMEOUT_SECONDS)
            if is_sealed:
                _wait_until_sealed(dsn)
                with_sealing.append(run_load(request, connections=connections, seconds=seconds))
            else:
                with hold_sealing(dsn):
                    without_sealing.append(run_load(request, connections=connections, seconds=seconds))
    latencies = ", ".join(
        f"p99 {median(each.p99_ms for each in outcomes):.1f} ms {name}"
        for name, outcomes in (("with", with_sealing), ("without", without_sealing))
    )
    return compare(
        f"POST /v1/customers with sealing, load by {get_generator_name()}",
        f"{connections} connections",
        [outcome.rate for outcome in with_sealing],
        "without sealing",
        [outcome.rate for outcome in without_sealing],
        goal=GOAL,
        note=f"{rounds} rounds; {latencies}",
    )


@contextmanager
def hold_sealing(dsn: str) -> Iterator[None]:
    """While this is open nothing is sealed."""
    with psycopg.connect(dsn) as conn:
        conn.execute(_LOCK)
        yield
        conn.rollback()


def _wait_until_sealed(dsn: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with psycopg.connect(dsn, autocommit=True) as conn:
        while conn.execute(_IS_SEALED).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise RuntimeError("the log was not sealed in time")
            time.sleep(POLL_SECONDS)
