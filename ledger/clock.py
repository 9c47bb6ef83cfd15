"""The ledger's one clock: all deadlines and times of events come from it, so a test can move them together.

With LEDGER_TEST_CLOCK the difference to real time is stored in the database, and a process reads it again
(`refresh`) before each request and each batch, so all processes agree.
"""

from __future__ import annotations

import time

from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn, fetch_one

_SELECT_OFFSET = "SELECT ahead_seconds FROM ledger.clock"
_UPDATE_OFFSET = """
UPDATE ledger.clock SET ahead_seconds = %(ahead)s
WHERE %(now)s >= (SELECT extract(epoch FROM recorded_at) FROM ledger.head)
RETURNING ahead_seconds
"""


class Clock:
    """Unix seconds, with fraction. A clock that is not `movable` is real time, and never reads the
    database."""

    def __init__(self, *, movable: bool = False) -> None:
        self._movable = movable
        self._offset_seconds = 0.0

    def now(self) -> float:
        """The time in unix seconds, as of the last `refresh`."""
        return time.time() + self._offset_seconds

    async def refresh(self, conn: Conn) -> None:
        """Read the difference to real time that any process has set. Raises psycopg.Error."""
        if not self._movable:
            return
        row = await fetch_one(conn, _SELECT_OFFSET)
        assert row is not None
        self._offset_seconds = row[0]

    async def read(self, conn: Conn) -> float:
        """The time in unix seconds, as of this moment. Raises psycopg.Error."""
        await self.refresh(conn)
        return self.now()

    async def move(self, conn: Conn, now: float) -> None:
        """Set the clock of all processes to `now` (unix seconds). Raises InvalidParameter for a time before
        the last recorded event."""
        offset_seconds = now - time.time()
        row = await fetch_one(conn, _UPDATE_OFFSET, {"ahead": offset_seconds, "now": now})
        if row is None:
            raise InvalidParameter("The clock cannot go back past the last recorded event.", param="now")
        self._offset_seconds = offset_seconds
