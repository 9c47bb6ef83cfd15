"""Which projections there are, in which generations, and how each stands.

`register` makes a generation, empty, at the start of the log: whoever runs the engine fills it by the
code that keeps the live one up to date. Safe to call from any number of processes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.metrics import Lag, lags
from projections.engine.partitions import make_generation
from projections.projection import Parking, Projection
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
BY_NAME = {projection.name: projection for projection in PROJECTIONS}

STILL_SECONDS = 10.0
# A batch takes a fraction of it.
STILL_LOOK_SECONDS = 1.0

_REGISTER = """
INSERT INTO projections.checkpoints (projection, generation, shape)
VALUES (%(projection)s, %(generation)s, %(shape)s)
ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
"""
# What is being rebuilt for the first time will be live when it is complete.
_KNOWN = """
SELECT projection FROM projections.live UNION SELECT projection FROM projections.builds WHERE NOT ended
"""
_LIVEN = """
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
_IN_THE_MAKING = "SELECT projection, generation FROM projections.builds WHERE NOT ended"


class Status(NamedTuple):
    """How a generation of a projection stands; a stream left out makes it incomplete. One that is neither
    live nor being built is kept, to go back to.

    still  it has been behind for STILL_SECONDS, and nobody moves it
    """

    lag: Lag
    parked: tuple[Parking, ...]
    building: bool = False
    still: bool = False

    @property
    def state(self) -> str:
        return "live" if self.lag.live else "building" if self.building else "kept"


async def ensure(conn: AsyncConnection[TupleRow], projections: Iterable[Projection] = PROJECTIONS) -> None:
    """Give each projection that is new its first generation, live from the start."""
    known = {row[0] for row in await (await conn.execute(_KNOWN)).fetchall()}
    for projection in projections:
        if projection.name not in known:
            await register(conn, projection, 1)


async def register(conn: AsyncConnection[TupleRow], projection: Projection, generation: int) -> None:
    """Make a generation, empty, unless it is there; the first one of a projection is live."""
    await make_generation(conn, projection.name, generation, by_day=projection.days_kept is not None)
    parameters = {"projection": projection.name, "generation": generation, "shape": projection.shape}
    async with conn.transaction():
        await conn.execute(_REGISTER, parameters)
        await conn.execute(_LIVEN, parameters)


async def exists(conn: AsyncConnection[TupleRow], name: str) -> bool:
    """Whether there is such a projection, of this release or another."""
    if any(projection.name == name for projection in PROJECTIONS):
        return True
    row = await (await conn.execute(_EXISTS, {"projection": name})).fetchone()
    assert row is not None
    return bool(row[0])


async def status(conn: AsyncConnection[TupleRow], *, now: float) -> list[Status]:
    """Every generation there is, by projection and generation; `now` in unix seconds, by the one clock.

    Takes STILL_LOOK_SECONDS when one is far behind, to tell whether it moves.
    """
    parked: dict[tuple[str, int], list[Parking]] = {}
    for name, generation, *parking in await (await conn.execute(_PARKED)).fetchall():
        parked.setdefault((name, generation), []).append(Parking(*parking))
    building = set(await (await conn.execute(_IN_THE_MAKING)).fetchall())
    found = await lags(conn, now)
    late = {(lag.projection, lag.generation, lag.position) for lag in found if lag.seconds > STILL_SECONDS}
    if late:
        await asyncio.sleep(STILL_LOOK_SECONDS)
        found = await lags(conn, now + STILL_LOOK_SECONDS)
    standing = []
    for lag in found:
        key = lag.projection, lag.generation
        still = (*key, lag.position) in late
        standing.append(Status(lag, tuple(parked.get(key, ())), key in building, still))
    return standing


def described(name: str, standing: Iterable[Status]) -> dict[str, Any]:
    """A projection as JSON has it, with its generations that can be read or caught up."""
    generations = [each for each in standing if each.lag.projection == name]
    live = next((each for each in generations if each.lag.live), None)
    return {
        "name": name,
        "live": None if live is None else live.lag.generation,
        "incomplete": live is not None and bool(live.parked),
        "generations": [
            {
                **each.lag._asdict(),
                "state": each.state,
                "stands_still": each.still,
                "parked": [parking._asdict() for parking in each.parked],
            }
            for each in generations
        ],
    }
