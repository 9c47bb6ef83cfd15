"""Appends events that are already decided: our journal, the stock recorder and pgbench, on one server.

All three write rows of the same size. Our journal also encodes each domain event and checks its stream's
version. The stock recorder gets encoded bytes. pgbench inserts one constant row per transaction into a table
with our columns and indexes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from functools import partial

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder

from benchmarks.database import COMMIT_MS, Server
from benchmarks.measurement import Effort, Rates, alternate, rate_of_callers
from benchmarks.report import Figure, Goal, compare, measure_flush_seconds
from benchmarks.store import ACCOUNT, ACTOR, CAUSE, REQUEST, SECRET_KEY, open_store
from benchmarks.yardsticks import stock
from ledger.domain import customer_session
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.ids import new_id
from ledger.store.codec import Codec, evolve
from ledger.store.journal import Append, Change
from ledger.store.store import Store

GROUP = "append of decided events, one per append"
CUSTOMER = "cus_0000000000000000000000"
LEDGER_PER_SECOND_MAX = {1: 15_000, 16: 100_000}
"""By number of callers. Bounds how many events are prepared for one measurement."""
STOCK_PER_SECOND_MAX = 10_000

# One event row per transaction, in a table with every column, index and constraint of ours. Positions come
# from a sequence, so nothing orders the commits: a reader could not follow such a table as a log.
PGBENCH_TABLE = """
CREATE SCHEMA bench;
CREATE TABLE bench.events (LIKE ledger.events INCLUDING ALL);
CREATE SEQUENCE bench.positions;
"""
_PGBENCH_INSERT = """
INSERT INTO bench.events
    (notification_id, originator_id, originator_version, topic, state, account, livemode, actor, request_id,
     customer, recorded_at)
VALUES (nextval('bench.positions'), 'cuss_' || lpad(lastval()::text, 22, '0'), 1, '{topic}', '\\x{state}',
        '{account}', false, '{actor}', '{request}', '{customer}', now());
"""


def run(server: Server, effort: Effort) -> list[Figure]:
    """Figures at 1 and 16 callers, with this machine's commits and with commits that take 1 ms longer."""
    figures: list[Figure] = []
    dsn = server.create_ledger_database("append")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(PGBENCH_TABLE)
    insert = build_pgbench_script()
    with (
        open_store(dsn) as (runner, store),
        stock.open_recorder(server.create_empty_database("append_stock"), server.password) as recorder,
    ):
        for slow in (False, True):
            for callers in LEDGER_PER_SECOND_MAX:
                contestants = {
                    "ours": partial(_measure_ledger, runner, store, callers, effort.seconds),
                    "stock": partial(_measure_stock, recorder, store.codec, callers, effort.seconds),
                    "pgbench": partial(
                        server.run_pgbench, dsn, insert, clients=callers, seconds=effort.seconds
                    ),
                }
                with server.slow_commits() if slow else nullcontext():
                    rates = alternate(contestants, effort.rounds)
                    flush = measure_flush_seconds(server.directory)
                work = f"{callers} caller{'s' * (callers > 1)}{', commits 1 ms longer' * slow}"
                stock_goal, pgbench_goal = _get_goals(callers, slow)
                figures += [
                    compare(GROUP, work, rates["ours"], "stock recorder", rates["stock"], goal=stock_goal),
                    compare(GROUP, work, rates["ours"], "pgbench", rates["pgbench"], goal=pgbench_goal),
                ]
                if slow and callers > 1:
                    figures.append(build_bound_figure(work, callers, flush, rates["stock"]))
    return figures


def build_bound_figure(work: str, callers: int, flush: float, stock_rates: Rates) -> Figure:
    """The most that any log can do for callers who wait for their own commit: all of them in each one."""
    commit = flush + COMMIT_MS / 1000
    note = (
        f"{callers} callers / (flush of {flush * 1e6:.0f} µs + {COMMIT_MS} ms): "
        "each waits for its own commit, and all are in each"
    )
    bounds = [callers / commit] * len(stock_rates)
    return compare(GROUP, f"bound: {work}", bounds, "stock recorder", stock_rates, note=note)


def _get_goals(callers: int, slow: bool) -> tuple[Goal | None, Goal | None]:
    """The goals against the stock recorder and against pgbench. Only 16 callers have goals."""
    if callers != 16:
        return None, None
    return (Goal(20), None) if slow else (Goal(20), Goal(1.2))


def _measure_ledger(runner: asyncio.Runner, store: Store, callers: int, seconds: float) -> float:
    appends = [
        Append(CAUSE, [Change(event, evolve(None, event))])
        for event in _create_events(round(seconds * LEDGER_PER_SECOND_MAX[callers]))
    ]
    return runner.run(rate_of_callers(store.journal.append, appends, callers=callers, seconds=seconds))


def _measure_stock(
    recorder: PostgresApplicationRecorder, codec: Codec, threads: int, seconds: float
) -> float:
    work: list[StoredEvent] = [
        codec.to_stored_event(event) for event in _create_events(round(seconds * STOCK_PER_SECOND_MAX))
    ]
    return stock.rate_of_inserts(recorder, work, threads=threads, seconds=seconds)


def _create_events(count: int) -> list[DomainEvent]:
    """`count` events, each the first of a new stream."""
    now = time.time()
    return [_create_event(now) for _ in range(count)]


def _create_event(now: float) -> DomainEvent:
    (created,) = customer_session.create(
        session_id=new_id("cuss", now),
        account=ACCOUNT,
        livemode=False,
        customer=CUSTOMER,
        components={"payment_element": {"enabled": True, "features": {"payment_method_save": "enabled"}}},
        terms=Terms(),
        now=int(now),
    )
    return created


def build_pgbench_script() -> str:
    """The insert of one event row, as a script for pgbench on a database with PGBENCH_TABLE."""
    stored = Codec(SECRET_KEY).to_stored_event(_create_event(time.time()))
    return _PGBENCH_INSERT.format(
        topic=stored.topic,
        state=stored.state.hex(),
        account=ACCOUNT,
        actor=ACTOR,
        request=REQUEST,
        customer=CUSTOMER,
    )
