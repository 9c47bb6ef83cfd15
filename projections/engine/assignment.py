"""How views are spread over runners: each holds a seat, and those taken tell every runner which are its own.

A seat is an advisory lock on the runner's connection, so it is free the moment its runner is gone, however
it died, and seconds after it hangs: the server ends a connection that is idle for so long. Seats only say
who goes first: what keeps two runners apart is the lock on a checkpoint. A view that stands still while it
is behind is anybody's. Runners of two releases share no seats: what a later one has built would wait for an
earlier one that leaves it alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ledger.postgres.connections import Conn, fetch_all, fetch_one
from projections.engine.batch import GenerationKey

REFRESH_SECONDS = 0.5
STALLED_SECONDS = 2.0

# The lowest that is free. Of two who try the same one, one goes on to the next.
_ACQUIRE_SLOT = """
SELECT number FROM generate_series(0, 999) AS number
WHERE pg_try_advisory_lock(hashtext(%(seats)s), number) LIMIT 1
"""
_HELD_SLOTS = """
SELECT objid::integer FROM pg_locks
WHERE locktype = 'advisory' AND classid = (hashtext(%(seats)s)::bigint & 4294967295)::oid
AND objsubid = 2 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
# A seat is all that a runner's connection holds a lock of two numbers on.
_OTHER_RELEASES = """
SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
AND a.datname = current_database() AND a.application_name = 'ledger projections'
AND l.classid <> (hashtext(%(seats)s)::bigint & 4294967295)::oid LIMIT 1
"""


class WorkAssignment:
    """One runner's seat, among those of its release, whose views have these shapes."""

    def __init__(self, shapes: Mapping[str, int]) -> None:
        self._lock_parameters = {"seats": _lock_name(shapes)}
        self._slot: int | None = None
        self._backend_pid: int | None = None
        self._held_slots: list[int] = []
        self._refresh_at = 0.0
        self._last_progress: dict[GenerationKey, tuple[int, float]] = {}

    async def select_assigned(
        self,
        conn: Conn,
        projection_names: Iterable[str],
        lagging: Mapping[GenerationKey, int],
    ) -> dict[GenerationKey, int]:
        """Of the generations that are behind, those to go on with here."""
        now = time.monotonic()
        if self._backend_pid != conn.info.backend_pid:
            self._slot, self._backend_pid, self._refresh_at = None, conn.info.backend_pid, 0.0
        if now >= self._refresh_at:
            await self._refresh(conn)
            self._refresh_at = now + REFRESH_SECONDS
        self._last_progress = {
            key: progress
            if (progress := self._last_progress.get(key)) and progress[0] == position
            else (position, now)
            for key, position in lagging.items()
        }
        if self._slot not in self._held_slots:
            return dict(lagging)
        own_projections = set(
            sorted(projection_names)[self._held_slots.index(self._slot) :: len(self._held_slots)]
        )
        return {
            key: position
            for key, position in lagging.items()
            if key[0] in own_projections or now - self._last_progress[key][1] > STALLED_SECONDS
        }

    async def _refresh(self, conn: Conn) -> None:
        if self._slot is None:
            row = await fetch_one(conn, _ACQUIRE_SLOT, self._lock_parameters)
            self._slot = None if row is None else row[0]
        self._held_slots = [row[0] for row in await fetch_all(conn, _HELD_SLOTS, self._lock_parameters)]


async def is_other_release_running(conn: Conn, shapes: Mapping[str, int]) -> bool:
    """Whether a runner of another release than the one with these shapes is there."""
    return (await conn.execute(_OTHER_RELEASES, {"seats": _lock_name(shapes)})).rowcount > 0


def _lock_name(shapes: Mapping[str, int]) -> str:
    return f"projections.seats {sorted(shapes.items())}"
