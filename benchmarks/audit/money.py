"""The books of a long history: the trial balance at any moment, pages of the journal, and the reconciliation.

The projections of money are filled from the log by the engine. A first trial balance passes over all
postings; later ones over at most one slice of the log.
"""

from __future__ import annotations

import json
import random
from functools import partial

from benchmarks.audit.ground import SEED, Ground, create_ground
from benchmarks.measurement import Effort, time_ms
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import run_ledger_command
from benchmarks.store import ACCOUNT, SECRET_KEY, open_store
from ledger.api.composition import build_queries
from ledger.audit.auditor import Auditor
from ledger.audit.money.bounds import Bounds
from ledger.audit.money.journal import JournalQuery, list_postings
from ledger.audit.money.trial_balance import TrialBalances
from ledger.config import load_settings
from ledger.postgres.connections import Pool, open_connection
from ledger.queries.context import QueryContext
from ledger.store.store import Store
from projections.engine.engine import Engine
from projections.engine.registration import register_missing
from projections.read_models.postings import BALANCE_CHANGES, BALANCE_TRANSACTIONS, POSTINGS

EVENTS_MAX = 1_000_000
"""The books of a longer log are measured on one of this length."""
MOMENTS = 20
LOG_POSITIONS = 20_000
PAGE_POSTINGS = 100
GROUP = "audit: books of one account"
PROJECTIONS = (POSTINGS, BALANCE_TRANSACTIONS, BALANCE_CHANGES)
JOURNAL_GOAL = Goal(10, is_maximum=True)
AUDITOR = Auditor(ACCOUNT, False, "cli")


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Milliseconds of each answer, and the events per second of the reconciliation."""
    if ground.events > EVENTS_MAX:
        ground = create_ground(ground.server, "audit_books", EVENTS_MAX)
    with open_store(ground.dsn) as (runner, store):
        figures = runner.run(_measure(ground, store, effort))
    return [*figures, *_measure_reconciliation(ground.dsn)]


async def _measure(ground: Ground, store: Store, effort: Effort) -> list[Figure]:
    async with Pool(ground.dsn) as pool:
        queries = build_queries(store, pool, load_settings())
        at = f"position:{min(ground.events, LOG_POSITIONS)}"
        lagging = await time_ms(partial(TrialBalances(queries).compute, AUDITOR, at))
        await _fill(ground.dsn, store)
        return [
            figure(
                GROUP, f"trial balance of {LOG_POSITIONS:,} positions from the log alone", [lagging], "ms"
            ),
            *await _measure_trial_balances(queries, ground.events, effort),
            *await _measure_journal(queries, ground.events, effort),
        ]


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


async def _measure_trial_balances(queries: QueryContext, events: int, effort: Effort) -> list[Figure]:
    rng = random.Random(SEED)
    firsts, nows, moments = [], [], []
    for _ in range(effort.rounds):
        balances = TrialBalances(queries)
        firsts.append(await time_ms(partial(balances.compute, AUDITOR, None)))
        nows.append(await time_ms(partial(balances.compute, AUDITOR, None)))
        for _ in range(MOMENTS):
            at = f"position:{rng.randint(1, events)}"
            moments.append(await time_ms(partial(balances.compute, AUDITOR, at)))
    note = f"{events:,} events"
    return [
        figure(GROUP, "first trial balance of a process", firsts, "ms", note=note),
        figure(GROUP, "trial balance now, again", nows, "ms"),
        figure(GROUP, "trial balance at a moment drawn at random", moments, "ms"),
    ]


async def _measure_journal(queries: QueryContext, events: int, effort: Effort) -> list[Figure]:
    rng = random.Random(SEED)
    newest, middle, rare, objects = [], [], [], []
    for _ in range(effort.rounds * MOMENTS):
        newest.append(await _time_page(queries, JournalQuery(limit=PAGE_POSTINGS)))
        bounds = Bounds(at=f"position:{rng.randint(1, events)}")
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


def _measure_reconciliation(dsn: str) -> list[Figure]:
    command = run_ledger_command(dsn, SECRET_KEY, "audit", "reconcile", "--json")
    report = json.loads(command.output)
    note = f"{report['streams']:,} objects, {report['entries']:,} entries"
    return [
        figure(GROUP, "ledger audit reconcile, events of charges, refunds and disputes",
               [report["events"] / command.seconds], note=note),
        figure(GROUP, "ledger audit reconcile, positions of the log", [report["position"] / command.seconds]),
        figure(GROUP, "its memory", [command.memory_mb], "MB"),
    ]  # fmt: skip


async def _time_page(queries: QueryContext, query: JournalQuery) -> float:
    return await time_ms(lambda: list_postings(queries, AUDITOR, query))
