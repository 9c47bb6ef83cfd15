"""Which projections there are, in which generations, and how each stands.

`register` makes a generation, empty, at the start of the log: whoever runs the engine fills it by the
code that keeps the live one up to date. Safe to call from any number of processes at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.feed import FEED
from projections.files import FILE_LINKS, FILES
from projections.money import BALANCE_TRANSACTIONS, POSTINGS
from projections.partitions import make_generation
from projections.projection import Parking, Projection
from projections.views import CHARGES, CUSTOMERS, DISPUTES, REFUNDS
from projections.waiting import DEADLINES
from projections.webhook_endpoints import WEBHOOK_ENDPOINTS

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

_REGISTER = """
INSERT INTO projections.checkpoints (projection, generation) VALUES (%(projection)s, %(generation)s)
ON CONFLICT ON CONSTRAINT checkpoints_key DO NOTHING
"""
_LIVEN = """
INSERT INTO projections.live (projection, generation) VALUES (%(projection)s, %(generation)s)
ON CONFLICT ON CONSTRAINT live_projection DO NOTHING
"""
# Lag is the age of the oldest event not applied: it grows while a projection is stuck, also when nothing
# more is recorded.
_STATUS = """
SELECT c.projection, c.generation, l.generation IS NOT NULL, c.position,
       extract(epoch FROM c.recorded_at)::float8, h.position - c.position,
       coalesce(%(now)s - extract(epoch FROM next.recorded_at), 0)::float8
FROM projections.checkpoints c
CROSS JOIN ledger.head h
LEFT JOIN projections.live l ON l.projection = c.projection AND l.generation = c.generation
LEFT JOIN ledger.events next ON next.notification_id = c.position + 1
ORDER BY c.projection, c.generation
"""
_PARKED = """
SELECT projection, generation, stream, position, error FROM projections.parked ORDER BY position, stream
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a generation of a projection stands.

    lag_events   recorded and not applied
    lag_seconds  age of the oldest of these, 0 when there is none
    parked       streams left out: not empty means incomplete
    """

    projection: str
    generation: int
    live: bool
    position: int
    recorded_at: float
    lag_events: int
    lag_seconds: float
    parked: tuple[Parking, ...]


async def ensure(conn: AsyncConnection[TupleRow], projections: Iterable[Projection] = PROJECTIONS) -> None:
    """Give each projection that is new its first generation, live from the start."""
    for projection in projections:
        await register(conn, projection, 1)


async def register(conn: AsyncConnection[TupleRow], projection: Projection, generation: int) -> None:
    """Make a generation, empty, unless it is there; the first one of a projection is live."""
    await make_generation(conn, projection.name, generation, by_day=projection.days_kept is not None)
    parameters = {"projection": projection.name, "generation": generation}
    async with conn.transaction():
        await conn.execute(_REGISTER, parameters)
        await conn.execute(_LIVEN, parameters)


async def status(conn: AsyncConnection[TupleRow], *, now: float) -> list[Status]:
    """Every generation there is, by projection and generation; `now` in unix seconds, by the one clock."""
    parked: dict[tuple[str, int], list[Parking]] = {}
    for name, generation, *parking in await (await conn.execute(_PARKED)).fetchall():
        parked.setdefault((name, generation), []).append(Parking(*parking))
    rows = await (await conn.execute(_STATUS, {"now": now})).fetchall()
    return [
        Status(
            projection=name,
            generation=generation,
            live=live,
            position=position,
            recorded_at=recorded_at,
            lag_events=lag_events,
            lag_seconds=max(0.0, lag_seconds),
            parked=tuple(parked.get((name, generation), ())),
        )
        for name, generation, live, position, recorded_at, lag_events, lag_seconds in rows
    ]
