"""The daily partitions of projections with a retention period: created ahead, dropped when it has passed.

A runner maintains them when it starts and on every new day, also after a long time without a runner. A batch
that needs another day creates it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from psycopg.errors import LockNotAvailable

from ledger.postgres.connections import Conn
from projections.engine import partitions
from projections.engine.batch import GenerationKey

RETRY_SECONDS = 60


class DailyPartitions:
    """Which days one runner knows to have a partition, and when it maintains them next."""

    def __init__(self) -> None:
        self._known_days: dict[GenerationKey, set[int]] = {}
        self._maintained_day: int | None = None
        self._retry_at = 0.0

    def invalidate(self) -> None:
        """Forget which partitions exist: another process may have dropped some."""
        self._known_days.clear()
        self._maintained_day = None
        self._retry_at = 0.0

    def find_missing(
        self, days_by_generation: Mapping[GenerationKey, set[int]]
    ) -> dict[GenerationKey, set[int]]:
        """Those of the days that are not known to have a partition."""
        missing_days = {
            key: days - self._known_days.get(key, set()) for key, days in days_by_generation.items()
        }
        return {key: days for key, days in missing_days.items() if days}

    async def create(self, conn: Conn, days_by_generation: Mapping[GenerationKey, set[int]]) -> None:
        """Create the partitions of these days that do not exist. Raises psycopg.Error."""
        for key, days in days_by_generation.items():
            await partitions.create_days(conn, *key, days)
            self._known_days.setdefault(key, set()).update(days)

    def is_due(self, now: float) -> bool:
        """Whether `maintain` has not succeeded yet on the day of `now` (unix seconds)."""
        return (
            partitions.to_utc_day(now) != self._maintained_day
            and asyncio.get_running_loop().time() >= self._retry_at
        )

    async def maintain(self, conn: Conn, retention_days: Mapping[GenerationKey, int], now: float) -> None:
        """Create the coming days of these generations and drop those whose retention period has passed.

        A partition that a reader holds is tried again RETRY_SECONDS later. Raises psycopg.Error.
        """
        today = partitions.to_utc_day(now)
        days_ahead = set(range(today, today + partitions.DAYS_AHEAD + 1))
        try:
            for key, days in retention_days.items():
                await self.create(conn, {key: days_ahead})
                await partitions.drop_days(conn, *key, before=partitions.first_retained_day(now, days))
        except LockNotAvailable:
            self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
            return
        self._maintained_day = today
