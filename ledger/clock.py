"""One clock. Everything that asks for the time asks it, so a test moves all deadlines at once.

In test-clock mode the difference to real time lives in the database, and a process reads it again
(`refresh`) before each request and each batch: all processes agree without being told.
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
    """Unix seconds, with fraction. One that is not `movable` is real time, and asks nobody."""

    def __init__(self, *, movable: bool = False) -> None:
        self._movable = movable
        self._offset_seconds = 0.0

    def now(self) -> float:
        return time.time() + self._offset_seconds

    async def refresh(self, conn: Conn) -> None:
        """Take over what another process has moved the clock to."""
        if not self._movable:
            return
        row = await fetch_one(conn, _SELECT_OFFSET)
        assert row is not None
        self._offset_seconds = row[0]

    async def move(self, conn: Conn, now: float) -> None:
        """Set the clock for all processes. Raises InvalidParameter for a time before the last event."""
        offset_seconds = now - time.time()
        row = await fetch_one(conn, _UPDATE_OFFSET, {"ahead": offset_seconds, "now": now})
        if row is None:
            raise InvalidParameter("The clock cannot go back past the last recorded event.", param="now")
        self._offset_seconds = offset_seconds
