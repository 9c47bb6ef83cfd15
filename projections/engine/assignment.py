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

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from projections.engine.batch import Key

LOOK_SECONDS = 0.5
STILL_SECONDS = 2.0

# The lowest that is free. Of two who try the same one, one goes on to the next.
_TAKE = """
SELECT number FROM generate_series(0, 999) AS number
WHERE pg_try_advisory_lock(hashtext(%(seats)s), number) LIMIT 1
"""
_TAKEN = """
SELECT objid::integer FROM pg_locks
WHERE locktype = 'advisory' AND classid = (hashtext(%(seats)s)::bigint & 4294967295)::oid
AND objsubid = 2 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
# A seat is all that a runner's connection holds a lock of two numbers on.
_OTHERS = """
SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
AND a.datname = current_database() AND a.application_name = 'ledger projections'
AND l.classid <> (hashtext(%(seats)s)::bigint & 4294967295)::oid LIMIT 1
"""


class Seats:
    """One runner's seat, among those of its release, whose views have these shapes."""

    def __init__(self, shapes: Mapping[str, int]) -> None:
        self._seats = {"seats": _of(shapes)}
        self._number: int | None = None
        self._backend: int | None = None
        self._taken: list[int] = []
        self._look_at = 0.0
        self._stood: dict[Key, tuple[int, float]] = {}

    async def ours(
        self, conn: AsyncConnection[TupleRow], names: Iterable[str], behind: Mapping[Key, int]
    ) -> dict[Key, int]:
        """Of the generations that are behind, those to go on with here."""
        now = time.monotonic()
        if self._backend != conn.info.backend_pid:
            self._number, self._backend, self._look_at = None, conn.info.backend_pid, 0.0
        if now >= self._look_at:
            await self._look(conn)
            self._look_at = now + LOOK_SECONDS
        self._stood = {
            key: stood if (stood := self._stood.get(key)) and stood[0] == position else (position, now)
            for key, position in behind.items()
        }
        if self._number not in self._taken:
            return dict(behind)
        own = set(sorted(names)[self._taken.index(self._number) :: len(self._taken)])
        return {
            key: position
            for key, position in behind.items()
            if key[0] in own or now - self._stood[key][1] > STILL_SECONDS
        }

    async def _look(self, conn: AsyncConnection[TupleRow]) -> None:
        if self._number is None:
            row = await (await conn.execute(_TAKE, self._seats)).fetchone()
            self._number = None if row is None else row[0]
        self._taken = [row[0] for row in await (await conn.execute(_TAKEN, self._seats)).fetchall()]


async def others(conn: AsyncConnection[TupleRow], shapes: Mapping[str, int]) -> bool:
    """Whether a runner of another release than the one with these shapes is there."""
    return (await conn.execute(_OTHERS, {"seats": _of(shapes)})).rowcount > 0


def _of(shapes: Mapping[str, int]) -> str:
    return f"projections.seats {sorted(shapes.items())}"
