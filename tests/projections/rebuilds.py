"""Rebuilds driven by this process: their workers are coroutines here, processes in `test_rebuild_command`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg

from ledger.clock import Clock
from ledger.postgres.connections import Conn, open_connection
from ledger.store.codec import Codec
from projections.engine.operations import Operator
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import backfill, records
from projections.rebuild.driver import drive
from projections.rebuild.records import Rebuild
from projections.rebuild.shards import BackfillShard
from tests.projections.histories import KEY, open_engine

OPERATOR = Operator("ada@example", "a test")
_SLOW_PAGES = """
CREATE FUNCTION public.slow_page() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
CREATE TRIGGER slow_page BEFORE UPDATE ON projections.shares FOR EACH ROW EXECUTE FUNCTION public.slow_page();
"""


def slow_down_pages(dsn: str) -> None:
    """Let each page of a backfill take 50 ms, so that a test that watches it can act between two pages."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_SLOW_PAGES)


def create_filler(
    dsn: str, projections: Sequence[Projection] = PROJECTIONS, *, page_events: int = 4000
) -> BackfillShard:
    """A worker, but in this process."""
    return partial(
        backfill.backfill_shard, dsn, Codec(KEY), Clock(movable=True), projections, page_events=page_events
    )


async def begin_rebuild(dsn: str, projections: Sequence[Projection] = PROJECTIONS, **options: Any) -> int:
    """The number of a rebuild that nobody drives yet."""
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return await records.begin(conn, projections, OPERATOR, **options)


async def drive_rebuild(
    dsn: str, number: int, projections: Sequence[Projection] = PROJECTIONS, fill: BackfillShard | None = None
) -> Rebuild:
    """The rebuild when its driver let go of it."""
    clock = Clock(movable=True)
    async with open_engine(dsn, projections=projections) as rebuild_engine:
        await drive(dsn, clock, rebuild_engine, projections, number, fill or create_filler(dsn, projections))
    return await load_rebuild(dsn, number)


async def run_rebuild(dsn: str, projections: Sequence[Projection] = PROJECTIONS, **options: Any) -> Rebuild:
    """A rebuild from its beginning to its end."""
    return await drive_rebuild(dsn, await begin_rebuild(dsn, projections, **options), projections)


async def load_rebuild(dsn: str, number: int) -> Rebuild:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return await records.load(conn, number)


async def load_live_generations(conn: Conn) -> dict[str, int]:
    """The generation that readers see, by projection."""
    cur = await conn.execute("SELECT projection, generation FROM projections.live")
    return dict(await cur.fetchall())


async def load_operations(conn: Conn) -> list[tuple[Any, ...]]:
    """What is on record: who, action, projection, generation, reason, details."""
    cur = await conn.execute(
        "SELECT who, action, projection, generation, reason, details FROM projections.operations ORDER BY id"
    )
    return await cur.fetchall()
