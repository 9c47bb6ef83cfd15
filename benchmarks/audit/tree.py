"""The Merkle tree: how fast a log is sealed and verified, how far sealing is behind a steady load, how long
proofs take, and how much memory `ledger audit verify` needs for a tenth of the log and for all of it.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from statistics import median, quantiles
from time import perf_counter

from benchmarks.audit.ground import SEED, Ground
from benchmarks.history import generate_history
from benchmarks.measurement import Effort, time_ms
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import run_ledger_command
from benchmarks.store import CAUSE, SECRET_KEY, open_store
from ledger.config import load_settings
from ledger.metrics.backlogs import read_sealing_lag
from ledger.postgres.connections import Pool, open_connection
from ledger.store.journal import Append, Change
from ledger.store.store import Store
from ledger.tree.keys import make_keyring
from ledger.tree.proofs import find_inclusion, prove_consistency
from ledger.tree.sealer import Sealer
from ledger.tree.storage import read_tree_head

GROUP = "audit: the Merkle tree"
EVENTS_PER_SECOND = 5_000
EVENTS_PER_APPEND = 50
LOAD_SECONDS_MIN = 2.0
LAG_SAMPLE_SECONDS = 0.02
PROOFS = 200
VERIFIED_MAX = 1_000_000
"""Of a longer log, so many events are sealed first and verified."""


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Figures of sealing, verification and proofs; afterwards the whole ground is sealed."""
    figures = []
    with open_store(ground.dsn) as (runner, store):
        verified = min(ground.events, VERIFIED_MAX)
        for upto in (verified // 10, verified):
            rate = runner.run(_seal(store, upto))
            command = run_ledger_command(ground.dsn, SECRET_KEY, "audit", "verify", "--json")
            figures += [
                figure(GROUP, f"sealed events, up to {upto:,}", [rate], goal=Goal(EVENTS_PER_SECOND)),
                figure(GROUP, f"ledger audit verify, {upto:,} events", [upto / command.seconds]),
                figure(GROUP, f"its memory, {upto:,} events", [command.memory_mb], "MB"),
            ]
        if verified < ground.events:
            rate = runner.run(_seal(store, ground.events))
            work = f"sealed events, up to {ground.events:,}"
            figures.append(figure(GROUP, work, [rate], goal=Goal(EVENTS_PER_SECOND)))
    lag = _measure_lag(
        ground.server.create_ledger_database("lag"), max(LOAD_SECONDS_MIN, effort.seconds * 10)
    )
    return [*figures, lag, *asyncio.run(_measure_proofs(ground.dsn))]


async def _seal(store: Store, upto: int) -> float:
    """Seal the log up to this position at least; events per second."""
    async with open_connection(store.dsn, "ledger_api", name="benchmark") as conn:
        size = (await read_tree_head(conn)).size
    sealer = _make_sealer(store)
    started, sealed = perf_counter(), 0
    try:
        while size + sealed < upto:
            sealed += (await sealer.seal()).sealed
        return sealed / (perf_counter() - started)
    finally:
        await sealer.close()


def _make_sealer(store: Store) -> Sealer:
    settings = load_settings()
    return Sealer(
        store,
        make_keyring(SECRET_KEY, settings),
        pause_ms=settings.seal_ms,
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def _measure_lag(dsn: str, seconds: float) -> Figure:
    changes = list(generate_history(SEED, round(EVENTS_PER_SECOND * seconds)))
    with open_store(dsn) as (runner, store):
        lags, rate = runner.run(_run_load(store, changes))
    note = f"at {rate:,.0f} events/s appended by the same process; median {median(lags):.2f} s"
    return figure(GROUP, "age of the oldest event not sealed, at most", [max(lags)], "s",
                  goal=Goal(1, is_maximum=True), note=note)  # fmt: skip


async def _run_load(store: Store, changes: list[Change]) -> tuple[list[float], float]:
    """The ages that were seen during a steady load, and the events per second that it had."""
    sealer, lags = _make_sealer(store), [0.0]
    await sealer.start()
    watcher = asyncio.create_task(_watch(store, lags))
    try:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for begin in range(0, len(changes), EVENTS_PER_APPEND):
            await asyncio.sleep(started + begin / EVENTS_PER_SECOND - loop.time())
            await store.journal.append(Append(CAUSE, changes[begin : begin + EVENTS_PER_APPEND]))
        return lags, len(changes) / (loop.time() - started)
    finally:
        watcher.cancel()
        await sealer.close()


async def _watch(store: Store, lags: list[float]) -> None:
    async with open_connection(store.dsn, "ledger_api", name="benchmark") as conn:
        while True:
            lags.append((await read_sealing_lag(conn, store.clock.now())).seconds)
            await asyncio.sleep(LAG_SAMPLE_SECONDS)


async def _measure_proofs(dsn: str) -> list[Figure]:
    """Milliseconds of proofs of positions drawn from the whole tree."""
    rng = random.Random(SEED)
    inclusion_ms, consistency_ms = [], []
    async with Pool(dsn) as pool, pool.connection() as conn:
        size = (await read_tree_head(conn)).size
        for _ in range(PROOFS):
            position = rng.randint(1, size)
            inclusion_ms.append(await time_ms(partial(find_inclusion, conn, position, size)))
            consistency_ms.append(await time_ms(partial(prove_consistency, conn, position, size)))
    return [
        figure(GROUP, work, times_ms, "ms", goal=goal,
               note=f"of {size:,} leaves; p99 {quantiles(times_ms, n=100)[98]:.1f} ms")
        for work, times_ms, goal in (
            ("an inclusion proof with leaf hash and root", inclusion_ms, Goal(5, is_maximum=True)),
            ("a consistency proof", consistency_ms, None),
        )
    ]  # fmt: skip
