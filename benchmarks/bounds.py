"""What a durable POST cannot exceed on this machine, measured beside it: a bare group commit, and one insert.

A bound is no goal: it shows whether a goal can be reached by this design, here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from benchmarks.append import PGBENCH_TABLE, build_pgbench_script
from benchmarks.database import run_server
from benchmarks.measurement import Contestant, Rates
from benchmarks.report import Figure, compare
from benchmarks.service import run_yardstick
from benchmarks.yardsticks.bare_app import DSN

BARE = "bare group commit"
INSERT = "one insert by pgbench"
BARE_NOTE = "appends an event and a reply, made beforehand, in the ledger's batches; nothing else"
INSERT_NOTE = (
    "the time of one form request plus that of one durable insert, {:,.0f}/s with one client: "
    "with one connection nothing overlaps"
)


class Bounds(NamedTuple):
    """The port of the bare group commit, and the rate of durable inserts with one client."""

    bare_port: int
    measure_insert: Contestant


@contextmanager
def run_bounds(directory: Path, seconds: float) -> Iterator[Bounds]:
    """Start both on a database of their own."""
    with run_server(directory) as server:
        dsn = server.create_ledger_database("bounds")
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(PGBENCH_TABLE)
        insert = partial(server.run_pgbench, dsn, build_pgbench_script(), clients=1, seconds=seconds)
        with run_yardstick("bare_app:app", {DSN: dsn}) as port:
            yield Bounds(port, insert)


def bound_by_insert(form_rates: Rates, insert_rates: Rates) -> list[float]:
    """The rates of requests of which each takes the time of a form request and then that of an insert."""
    return [1 / (1 / form + 1 / insert) for form, insert in zip(form_rates, insert_rates, strict=True)]


def build_bound_figures(
    group: str, route: str, ours: Rates, form: str, rates: Mapping[str, Rates], *, connections: int
) -> list[Figure]:
    """The bounds of the route beside the yardstick `form`, and the route beside the bare group commit.
    `rates` are those of `form`, BARE and, with one connection, INSERT: there nothing overlaps."""
    figures = [
        compare(group, f"bound: {route} by {BARE}", rates[BARE], form, rates[form], note=BARE_NOTE),
        compare(group, route, ours, BARE, rates[BARE]),
    ]
    if connections == 1:
        bound = bound_by_insert(rates[form], rates[INSERT])
        note = INSERT_NOTE.format(median(rates[INSERT]))
        figures.append(compare(group, f"bound: {form} and {INSERT}", bound, form, rates[form], note=note))
    return figures
