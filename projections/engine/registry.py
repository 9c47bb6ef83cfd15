"""Which projections there are, in which generations, and how each stands.

`register` makes a generation, empty, at the start of the log: whoever runs the engine fills it by the
code that keeps the live one up to date. Safe to call from any number of processes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from ledger.metrics import Lag, read_lags
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine.partitions import create_generation
from projections.projection import ParkedStream, Projection
from projections.read_models.deadlines import DEADLINES
from projections.read_models.feed import FEED
from projections.read_models.lists import (
    CHARGES,
    CUSTOMERS,
    DISPUTES,
    FILE_LINKS,
    FILES,
    REFUNDS,
    WEBHOOK_ENDPOINTS,
)
from projections.read_models.postings import BALANCE_TRANSACTIONS, POSTINGS

PROJECTIONS: tuple[Projection, ...] = (
    CUSTOMERS,
    CHARGES,
    DISPUTES,
    REFUNDS,
    FILES,
    FILE_LINKS,
    WEBHOOK_ENDPOINTS,
    POSTINGS,
    BALANCE_TRANSACTIONS,
    DEADLINES,
    FEED,
)
PROJECTIONS_BY_NAME = {projection.name: projection for projection in PROJECTIONS}

STALLED_SECONDS = 10.0
# A batch takes a fraction of it.
STALLED_SAMPLE_SECONDS = 1.0

_REGISTER = """
INSERT INTO projections.checkpoints (projection, generation, shape)
VALUES (%(projection)s, %(generation)s, %(shape)s)
ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
"""
# What is being rebuilt for the first time will be live when it is complete.
_KNOWN_PROJECTIONS = """
SELECT projection FROM projections.live UNION SELECT projection FROM projections.builds WHERE NOT ended
"""
_SET_LIVE = """
INSERT INTO projections.live (projection, generation) VALUES (%(projection)s, %(generation)s)
ON CONFLICT ON CONSTRAINT live_projection DO NOTHING
"""
_PARKED = """
SELECT projection, generation, stream, position, error FROM projections.parked ORDER BY position, stream
"""


_EXISTS = """
SELECT EXISTS (SELECT FROM projections.checkpoints WHERE projection = %(projection)s)
       OR EXISTS (SELECT FROM projections.builds WHERE projection = %(projection)s AND NOT ended)
"""
_BUILDS_IN_PROGRESS = "SELECT projection, generation FROM projections.builds WHERE NOT ended"


class GenerationStatus(NamedTuple):
    """How a generation of a projection stands; a stream left out makes it incomplete. One that is neither
    live nor being built is kept, to go back to.

    still  it has been behind for STALLED_SECONDS, and nobody moves it
    """

    lag: Lag
    parked: tuple[ParkedStream, ...]
    building: bool = False
    stalled: bool = False

    @property
    def state(self) -> str:
        return "live" if self.lag.live else "building" if self.building else "kept"


async def register_missing(conn: Conn, projections: Iterable[Projection] = PROJECTIONS) -> None:
    """Give each projection that is new its first generation, live from the start."""
    known = {row[0] for row in await fetch_all(conn, _KNOWN_PROJECTIONS)}
    for projection in projections:
        if projection.name not in known:
            await register(conn, projection, 1)


async def register(conn: Conn, projection: Projection, generation: int) -> None:
    """Make a generation, empty, unless it is there; the first one of a projection is live."""
    await create_generation(conn, projection.name, generation, by_day=projection.retention_days is not None)
    parameters = {"projection": projection.name, "generation": generation, "shape": projection.shape}
    async with conn.transaction():
        await conn.execute(_REGISTER, parameters)
        await conn.execute(_SET_LIVE, parameters)


async def projection_exists(conn: Conn, name: str) -> bool:
    """Whether there is such a projection, of this release or another."""
    if any(projection.name == name for projection in PROJECTIONS):
        return True
    row = await fetch_one(conn, _EXISTS, {"projection": name})
    assert row is not None
    return bool(row[0])


async def load_statuses(conn: Conn, *, now: float) -> list[GenerationStatus]:
    """Every generation there is, by projection and generation; `now` in unix seconds, by the one clock.

    Takes STALLED_SAMPLE_SECONDS when one is far behind, to tell whether it moves.
    """
    parked: dict[tuple[str, int], list[ParkedStream]] = {}
    for name, generation, *parking in await fetch_all(conn, _PARKED):
        parked.setdefault((name, generation), []).append(ParkedStream(*parking))
    building = set(await fetch_all(conn, _BUILDS_IN_PROGRESS))
    current_lags = await read_lags(conn, now)
    lagging = {
        (lag.projection, lag.generation, lag.position)
        for lag in current_lags
        if lag.seconds > STALLED_SECONDS
    }
    if lagging:
        await asyncio.sleep(STALLED_SAMPLE_SECONDS)
        current_lags = await read_lags(conn, now + STALLED_SAMPLE_SECONDS)
    statuses = []
    for lag in current_lags:
        key = lag.projection, lag.generation
        stalled = (*key, lag.position) in lagging
        statuses.append(GenerationStatus(lag, tuple(parked.get(key, ())), key in building, stalled))
    return statuses


def describe_projection(name: str, statuses: Iterable[GenerationStatus]) -> dict[str, Any]:
    """A projection as JSON has it, with its generations that can be read or caught up."""
    generations = [status for status in statuses if status.lag.projection == name]
    live = next((each for each in generations if each.lag.live), None)
    return {
        "name": name,
        "live": None if live is None else live.lag.generation,
        "incomplete": live is not None and bool(live.parked),
        "generations": [
            {
                **each.lag._asdict(),
                "state": each.state,
                "stands_still": each.stalled,
                "parked": [parking._asdict() for parking in each.parked],
            }
            for each in generations
        ],
    }
