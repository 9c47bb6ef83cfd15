"""Registers generations of projections: the first one and any further one, each empty and at position 0.

Whoever runs the engine fills a registered generation with the code that keeps the live one up to date.
Safe to call from any number of processes at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine.partitions import create_generation
from projections.projection import Projection

_REGISTER = """
INSERT INTO projections.checkpoints (projection, generation, shape)
VALUES (%(projection)s, %(generation)s, %(shape)s)
ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
"""
# A projection that is being rebuilt before it was ever registered becomes live when that rebuild is complete.
_KNOWN_PROJECTIONS = """
SELECT projection FROM projections.live UNION SELECT projection FROM projections.builds WHERE NOT ended
"""
_SET_LIVE = """
INSERT INTO projections.live (projection, generation) VALUES (%(projection)s, %(generation)s)
ON CONFLICT ON CONSTRAINT live_projection DO NOTHING
"""
_EXISTS = """
SELECT EXISTS (SELECT FROM projections.checkpoints WHERE projection = %(projection)s)
       OR EXISTS (SELECT FROM projections.builds WHERE projection = %(projection)s AND NOT ended)
"""


async def register_missing(conn: Conn, projections: Iterable[Projection]) -> None:
    """Give each projection that has no live generation its first one, live from the start."""
    known = {row[0] for row in await fetch_all(conn, _KNOWN_PROJECTIONS)}
    for projection in projections:
        if projection.name not in known:
            await register(conn, projection, 1)


async def register(conn: Conn, projection: Projection, generation: int) -> None:
    """Create an empty generation unless it exists; a projection's first one becomes live."""
    await create_generation(conn, projection.name, generation, by_day=projection.retention_days is not None)
    parameters = {"projection": projection.name, "generation": generation, "shape": projection.shape}
    async with conn.transaction():
        await conn.execute(_REGISTER, parameters)
        await conn.execute(_SET_LIVE, parameters)


async def projection_exists(conn: Conn, projections: Iterable[Projection], name: str) -> bool:
    """Whether `name` is among `projections` (this release's), or has a generation of another release."""
    if any(projection.name == name for projection in projections):
        return True
    row = await fetch_one(conn, _EXISTS, {"projection": name})
    assert row is not None
    return bool(row[0])
