"""The Merkle tree: how fast a log is sealed, how far sealing is behind a steady load, how long proofs take.

The proofs are measured in a tree of random leaf hashes, because they read tiles only.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from statistics import median, quantiles

import psycopg

from benchmarks.database import Server
from benchmarks.history import copy_history, generate_history
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure
from benchmarks.store import CAUSE, SECRET_KEY, open_store
from ledger.config import load_settings
from ledger.metrics import read_sealing_lag
from ledger.postgres.connections import Pool, open_connection
from ledger.store.codec import Codec
from ledger.store.journal import Append, Change
from ledger.store.store import Store
from ledger.tlog.merkle import EMPTY_ROOT
from ledger.tlog.tiles import TILE_WIDTH
from ledger.tree.edge import StoredTile, TreeEdge
from ledger.tree.keys import make_keyring
from ledger.tree.proofs import find_inclusion, prove_consistency
from ledger.tree.sealer import Sealer
from ledger.tree.storage import read_root

GROUP = "the Merkle tree"
SEED = 1
LOG_DAYS = 20.0
EVENTS_PER_SECOND = 5_000
EVENTS_PER_APPEND = 50
LOAD_SECONDS_MIN = 2.0
LAG_SAMPLE_SECONDS = 0.02
LEAVES_PER_EVENT = 100
"""The tree in which proofs are measured has so many leaves for each event of the run's history."""
PROOFS = 200
COPY_LEAVES = TILE_WIDTH * 256

_COPY_TILES = "COPY ledger.tree_tiles (level, number, hashes) FROM STDIN (FORMAT BINARY)"


def run(server: Server, effort: Effort) -> list[Figure]:
    """Figures of sealing and of proofs."""
    return [
        _measure_throughput(server.create_ledger_database("sealed"), effort.events),
        _measure_lag(server.create_ledger_database("lag"), max(LOAD_SECONDS_MIN, effort.seconds * 10)),
        *_measure_proofs(server.create_ledger_database("proofs"), effort.events * LEAVES_PER_EVENT),
    ]


def _measure_throughput(dsn: str, events: int) -> Figure:
    copy_history(dsn, Codec(SECRET_KEY), SEED, events, days=LOG_DAYS)
    with open_store(dsn) as (runner, store):
        rate = runner.run(_seal_all(store, events))
    note = f"{events:,} events of a log that no release had sealed"
    return figure(GROUP, "sealed events", [rate], goal=Goal(EVENTS_PER_SECOND), note=note)


async def _seal_all(store: Store, events: int) -> float:
    sealer = _make_sealer(store)
    try:
        started = time.perf_counter()
        while (await sealer.seal()).remaining:
            pass
        return events / (time.perf_counter() - started)
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


def _measure_proofs(dsn: str, leaves: int) -> list[Figure]:
    edge = _fill_tree(dsn, leaves)
    with asyncio.Runner() as runner:
        inclusion_ms, consistency_ms = runner.run(_time_proofs(dsn, edge))
    note = f"of a tree of {leaves:,} leaves; p99 {{:.1f}} ms"
    return [
        figure(
            GROUP,
            work,
            times_ms,
            "ms",
            goal=Goal(5, is_maximum=True) if work.startswith("an inclusion") else None,
            note=note.format(quantiles(times_ms, n=100)[98]),
        )
        for work, times_ms in (
            ("an inclusion proof with leaf hash and root", inclusion_ms),
            ("a consistency proof", consistency_ms),
        )
    ]


def _fill_tree(dsn: str, leaves: int) -> TreeEdge:
    """Store the tiles of a tree of random leaf hashes. Only upper tiles are kept in memory."""
    edge = TreeEdge(0, EMPTY_ROOT, {})
    upper: dict[tuple[int, int], StoredTile] = {}
    with psycopg.connect(dsn) as conn, conn.cursor() as cur, cur.copy(_COPY_TILES) as copy:
        copy.set_types(("int2", "int8", "bytea"))
        for begin in range(0, leaves, COPY_LEAVES):
            for tile in edge.append(os.urandom(32 * min(COPY_LEAVES, leaves - begin))):
                if tile.level:
                    upper[tile.level, tile.number] = tile
                else:
                    copy.write_row(tile)
        for tile in upper.values():
            copy.write_row(tile)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE ledger.tree_tiles")
    return edge


async def _time_proofs(dsn: str, edge: TreeEdge) -> tuple[list[float], list[float]]:
    """Milliseconds of each proof of inclusion, and of each of consistency."""
    rng = random.Random(SEED)
    inclusion_ms, consistency_ms = [], []
    async with Pool(dsn) as pool, pool.connection() as conn:
        assert await read_root(conn, edge.size) == edge.root
        for _ in range(PROOFS):
            position = rng.randint(1, edge.size)
            started = time.perf_counter()
            await find_inclusion(conn, position, edge.size)
            inclusion_ms.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            await prove_consistency(conn, position, edge.size)
            consistency_ms.append((time.perf_counter() - started) * 1000)
    return inclusion_ms, consistency_ms
