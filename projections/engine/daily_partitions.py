"""What has to be there before rows can be written, and what has to go: registry and daily partitions.

Days are made ahead of the clock, and those past their term dropped, when a runner begins and on every new
day, however long nothing ran. A day that a batch needs besides is made on demand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow

from projections.engine import checkpoints, partitions, registry
from projections.engine.batch import Key
from projections.projection import Projection

RETRY_SECONDS = 60


class Upkeep:
    """What one runner knows to have been made."""

    def __init__(self) -> None:
        self._made: dict[Key, set[int]] = {}
        self._day: int | None = None
        self._not_before = 0.0

    def forget(self) -> None:
        """Look again which partitions there are."""
        self._made.clear()
        self._day = None
        self._not_before = 0.0

    def missing(self, wanted: Mapping[Key, set[int]]) -> dict[Key, set[int]]:
        """Of the days wanted those not known to have a partition."""
        lacking = {key: days - self._made.get(key, set()) for key, days in wanted.items()}
        return {key: days for key, days in lacking.items() if days}

    async def make(self, conn: AsyncConnection[TupleRow], wanted: Mapping[Key, set[int]]) -> None:
        for (name, generation), days in wanted.items():
            await partitions.make_days(conn, name, generation, days)
            self._made.setdefault((name, generation), set()).update(days)

    async def run(
        self, conn: AsyncConnection[TupleRow], projections: Iterable[Projection], now: float
    ) -> None:
        """Do what a new day asks for; what a reader is in the way of, a minute later."""
        today = partitions.day_of(now)
        ahead = set(range(today, today + partitions.DAYS_AHEAD + 1))
        time = asyncio.get_running_loop().time()
        if today == self._day or time < self._not_before:
            return
        known = {projection.name: projection for projection in projections}
        await registry.ensure(conn, known.values())
        shapes = {name: projection.shape for name, projection in known.items()}
        try:
            for name, generation in (await checkpoints.standing(conn, shapes))[0]:
                days_kept = known[name].days_kept
                if days_kept is None:
                    continue
                await self.make(conn, {(name, generation): ahead})
                first = partitions.first_day_kept(now, days_kept)
                await partitions.drop_days(conn, name, generation, before=first)
        except LockNotAvailable:
            self._not_before = time + RETRY_SECONDS
            return
        self._day = today
