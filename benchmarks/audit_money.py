"""The books of a long history: the trial balance at any moment, pages of the journal, and the reconciliation.

The history is copied into the log, and the projections of money are filled from it by the engine. A first
trial balance passes over all postings; later ones over at most one slice of the log.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.database import Server
from benchmarks.history import copy_history
from benchmarks.measurement import Effort
from benchmarks.process_stats import read_peak_mb
from benchmarks.report import Figure, Goal, figure
from benchmarks.store import ACCOUNT, open_store
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.money.bounds import Bounds
from ledger.audit.money.journal import JournalQuery, list_postings
from ledger.audit.money.trial_balance import TrialBalances
from ledger.audit.reconciliation.reconcile import reconcile
from ledger.config import load_settings
from ledger.postgres.connections import Pool, open_connection
from ledger.queries.context import QueryContext
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register_missing
from projections.read_models.postings import BALANCE_CHANGES, BALANCE_TRANSACTIONS, POSTINGS

SEED = 1
LOG_DAYS = 20.0
MOMENTS = 20
LOG_POSITIONS = 20_000
PAGE_POSTINGS = 100
GROUP = "books of one account"
PROJECTIONS = (POSTINGS, BALANCE_TRANSACTIONS, BALANCE_CHANGES)
JOURNAL_GOAL = Goal(10, is_maximum=True)
AUDITOR = Auditor(ACCOUNT, False, "cli")


def run(server: Server, effort: Effort) -> list[Figure]:
    """Milliseconds of each answer, and the events per second of the reconciliation."""
    dsn = server.create_ledger_database("audit_money")
    with open_store(dsn) as (runner, store):
        copy_history(dsn, store.codec, SEED, effort.events, days=LOG_DAYS)
        return runner.run(_measure(dsn, store, effort))


async def _measure(dsn: str, store: Store, effort: Effort) -> list[Figure]:
    async with Pool(dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        at = f"position:{min(effort.events, LOG_POSITIONS)}"
        lagging = await _time(partial(TrialBalances(queries).compute, AUDITOR, at))
        await _fill(dsn, store)
        figures = [
            figure(
                GROUP, f"trial balance of {LOG_POSITIONS:,} positions from the log alone", [lagging], "ms"
            ),
            *await _measure_trial_balances(queries, effort),
            *await _measure_journal(queries, effort),
        ]
    return [*figures, *await _measure_reconciliation(dsn, store)]


async def _fill(dsn: str, store: Store) -> None:
    """Apply the log to the projections of money."""
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        await register_missing(conn, PROJECTIONS)
    engine = Engine(dsn, store.codec, store.clock, store.notifier, projections=PROJECTIONS)
    try:
        while not (await engine.advance()).caught_up:
            pass
    finally:
        await engine.close()
    async with open_connection(dsn, "ledger_projector", name="benchmark") as conn:
        for projection in PROJECTIONS:
            await conn.execute(f"VACUUM ANALYZE projections.{projection.name}".encode())


async def _measure_trial_balances(queries: QueryContext, effort: Effort) -> list[Figure]:
    rng = random.Random(SEED)
    firsts, nows, moments = [], [], []
    for _ in range(effort.rounds):
        balances = TrialBalances(queries)
        firsts.append(await _time(partial(balances.compute, AUDITOR, None)))
        nows.append(await _time(partial(balances.compute, AUDITOR, None)))
        for _ in range(MOMENTS):
            at = f"position:{rng.randint(1, effort.events)}"
            moments.append(await _time(partial(balances.compute, AUDITOR, at)))
    note = f"{effort.events:,} events"
    return [
        figure(GROUP, "first trial balance of a process", firsts, "ms", note=note),
        figure(GROUP, "trial balance now, again", nows, "ms"),
        figure(GROUP, "trial balance at a moment drawn at random", moments, "ms"),
    ]


async def _measure_journal(queries: QueryContext, effort: Effort) -> list[Figure]:
    rng = random.Random(SEED)
    newest, middle, rare, objects = [], [], [], []
    for _ in range(effort.rounds * MOMENTS):
        newest.append(await _time_page(queries, JournalQuery(limit=PAGE_POSTINGS)))
        bounds = Bounds(at=f"position:{rng.randint(1, effort.events)}")
        middle.append(await _time_page(queries, JournalQuery(bounds, limit=PAGE_POSTINGS)))
        query = JournalQuery(bounds, ledger_account="dispute_fees", limit=PAGE_POSTINGS)
        rare.append(await _time_page(queries, query))
        page = await list_postings(queries, AUDITOR, JournalQuery(bounds, limit=1))
        if page["data"]:
            query = JournalQuery(object=page["data"][0]["charge"], limit=PAGE_POSTINGS)
            objects.append(await _time_page(queries, query))
    work = f"journal, page of {PAGE_POSTINGS}"
    return [
        figure(GROUP, f"{work}, newest", newest, "ms", goal=JOURNAL_GOAL),
        figure(GROUP, f"{work}, at a moment drawn at random", middle, "ms", goal=JOURNAL_GOAL),
        figure(GROUP, f"{work}, of a rare ledger account", rare, "ms"),
        figure(GROUP, "journal of a charge", objects, "ms", goal=JOURNAL_GOAL),
    ]


async def _measure_reconciliation(dsn: str, store: Store) -> list[Figure]:
    peak_before = read_peak_mb(os.getpid())
    started = time.perf_counter()
    report = await reconcile(
        dsn, store.codec, store.clock, show=lambda found: print(found), show_progress=lambda _: None
    )
    seconds = time.perf_counter() - started
    note = f"{report.streams:,} objects, {report.entries:,} entries, {report.differences} differences"
    return [
        figure(GROUP, "reconciliation, events of charges, refunds and disputes",
               [report.events / seconds], note=note),
        figure(GROUP, "reconciliation, positions of the log", [report.position / seconds]),
        figure(GROUP, "memory that the reconciliation adds", [read_peak_mb(os.getpid()) - peak_before], "MB"),
    ]  # fmt: skip


async def _time_page(queries: QueryContext, query: JournalQuery) -> float:
    return await _time(lambda: list_postings(queries, AUDITOR, query))


async def _time(action: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await action()
    return (time.perf_counter() - started) * 1000
