"""What has to be there before rows can be written, and what has to go: registry and daily partitions.

Days are made ahead of the clock, and those past their term dropped, when a runner begins and on every new
day, however long nothing ran. A day that a batch needs besides is made on demand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from psycopg.errors import LockNotAvailable

from ledger.postgres.connections import Conn
from projections.engine import checkpoints, partitions, registry
from projections.engine.batch import GenerationKey
from projections.projection import Projection

RETRY_SECONDS = 60


class DailyPartitions:
    """What one runner knows to have been made."""

    def __init__(self) -> None:
        self._known_days: dict[GenerationKey, set[int]] = {}
        self._maintained_day: int | None = None
        self._retry_at = 0.0

    def invalidate(self) -> None:
        """Look again which partitions there are."""
        self._known_days.clear()
        self._maintained_day = None
        self._retry_at = 0.0

    def find_missing(
        self, days_by_generation: Mapping[GenerationKey, set[int]]
    ) -> dict[GenerationKey, set[int]]:
        """Of the days wanted those not known to have a partition."""
        missing_days = {
            key: days - self._known_days.get(key, set()) for key, days in days_by_generation.items()
        }
        return {key: days for key, days in missing_days.items() if days}

    async def create(self, conn: Conn, days_by_generation: Mapping[GenerationKey, set[int]]) -> None:
        for (name, generation), days in days_by_generation.items():
            await partitions.create_days(conn, name, generation, days)
            self._known_days.setdefault((name, generation), set()).update(days)

    async def maintain(self, conn: Conn, projections: Iterable[Projection], now: float) -> None:
        """Do what a new day asks for; what a reader is in the way of, a minute later."""
        today = partitions.to_utc_day(now)
        days_ahead = set(range(today, today + partitions.DAYS_AHEAD + 1))
        monotonic_now = asyncio.get_running_loop().time()
        if today == self._maintained_day or monotonic_now < self._retry_at:
            return
        projections_by_name = {projection.name: projection for projection in projections}
        await registry.register_missing(conn, projections_by_name.values())
        shapes = {name: projection.shape for name, projection in projections_by_name.items()}
        try:
            for name, generation in (await checkpoints.load_positions(conn, shapes))[0]:
                retention_days = projections_by_name[name].retention_days
                if retention_days is None:
                    continue
                await self.create(conn, {(name, generation): days_ahead})
                first_retained = partitions.first_retained_day(now, retention_days)
                await partitions.drop_days(conn, name, generation, before=first_retained)
        except LockNotAvailable:
            self._retry_at = monotonic_now + RETRY_SECONDS
            return
        self._maintained_day = today
