"""Rebuilds driven by this process: their workers are coroutines here, processes in `test_rebuild_command`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.postgres.connections import connected
from ledger.store.codec import Codec
from projections.engine.operations import Operator
from projections.engine.registry import PROJECTIONS
from projections.projection import Projection
from projections.rebuild import backfill, records
from projections.rebuild.driver import drive
from projections.rebuild.records import Rebuild
from projections.rebuild.shards import Fill
from tests.projections.histories import KEY, engine

OPERATOR = Operator("ada@example", "a test")


def filler(dsn: str, projections: Sequence[Projection] = PROJECTIONS, *, page_events: int = 4000) -> Fill:
    """A worker, but in this process."""
    return partial(backfill.fill, dsn, Codec(KEY), Clock(movable=True), projections, page_events=page_events)


async def begun(dsn: str, projections: Sequence[Projection] = PROJECTIONS, **given: Any) -> int:
    """The number of a rebuild that nobody drives yet."""
    async with connected(dsn, "ledger_projector", name="test") as conn:
        return await records.begin(conn, projections, OPERATOR, **given)


async def driven(
    dsn: str, number: int, projections: Sequence[Projection] = PROJECTIONS, fill: Fill | None = None
) -> Rebuild:
    """The rebuild when its driver let go of it."""
    clock = Clock(movable=True)
    async with engine(dsn, projections=projections) as own:
        await drive(dsn, clock, own, projections, number, fill or filler(dsn, projections))
    return await loaded(dsn, number)


async def rebuilt(dsn: str, projections: Sequence[Projection] = PROJECTIONS, **given: Any) -> Rebuild:
    """A rebuild from its beginning to its end."""
    return await driven(dsn, await begun(dsn, projections, **given), projections)


async def loaded(dsn: str, number: int) -> Rebuild:
    async with connected(dsn, "ledger_projector", name="test") as conn:
        return await records.load(conn, number)


async def live(conn: AsyncConnection[TupleRow]) -> dict[str, int]:
    """The generation that readers see, by projection."""
    cur = await conn.execute("SELECT projection, generation FROM projections.live")
    return dict(await cur.fetchall())


async def recorded_operations(conn: AsyncConnection[TupleRow]) -> list[tuple[Any, ...]]:
    """What is on record: who, action, projection, generation, reason, details."""
    cur = await conn.execute(
        "SELECT who, action, projection, generation, reason, details FROM projections.operations ORDER BY id"
    )
    return await cur.fetchall()
