"""How long the request log is kept: RETENTION_SECONDS, and ROWS_MAX rows; deleted in small steps."""

from __future__ import annotations

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.clock import Clock
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_one
from ledger.request_log.storage import PERIODS

RETENTION_SECONDS = 7 * 86_400
ROWS_MAX = 1_000_000
"""Of requests, and of the counts of each period."""
LOOK_SECONDS = 300.0
STEP_ROWS_MAX = 1_000
STEP_PAUSE_SECONDS = 0.05

# Rows are numbered in the order in which they were stored: the oldest come first.
_DELETE_REQUESTS = """
DELETE FROM request_log.requests WHERE number = ANY (ARRAY(
    SELECT oldest.number
    FROM (SELECT number, at FROM request_log.requests ORDER BY number LIMIT %(step)s) oldest
    WHERE oldest.at < to_timestamp(%(before)s)
    OR oldest.number <= (SELECT max(number) FROM request_log.requests) - %(rows)s))
"""
_SELECT_LIMIT = """
SELECT extract(epoch FROM start)::float8 FROM request_log.counts WHERE period = %(period)s
ORDER BY start DESC OFFSET %(rows)s LIMIT 1
"""
_DELETE_COUNTS = """
DELETE FROM request_log.counts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM request_log.counts
    WHERE period = %(period)s AND start < to_timestamp(%(before)s) ORDER BY start LIMIT %(step)s))
"""


class Retention:
    """Deletes what is too old. Every process does: two that meet delete less, and nothing else happens."""

    def __init__(self, connection: ReconnectingConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._loop = BackgroundLoop(
            "requests retention",
            self._delete,
            step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS,
            close_timeout_seconds=0.5,
        )

    async def start(self) -> None:
        """Begin."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop."""
        await self._loop.close()

    async def _delete(self) -> float:
        async with self._connection as conn:
            await self._clock.refresh(conn)
            deleted = await delete_old(conn, self._clock.now() - RETENTION_SECONDS)
        return STEP_PAUSE_SECONDS if deleted >= STEP_ROWS_MAX else LOOK_SECONDS


async def delete_old(conn: Conn, before: float, *, rows_max: int = ROWS_MAX) -> int:
    """Delete rows from before this time (unix seconds), and those beyond `rows_max`: STEP_ROWS_MAX of a kind
    at most. Returns how many of one kind, at most. Raises psycopg.Error."""
    values = {"before": before, "rows": rows_max, "step": STEP_ROWS_MAX}
    deleted = [(await conn.execute(_DELETE_REQUESTS, values)).rowcount]
    for period in PERIODS:
        row = await fetch_one(conn, _SELECT_LIMIT, {"period": period, "rows": rows_max})
        values["before"] = max(before, 0.0 if row is None else row[0])
        deleted.append((await conn.execute(_DELETE_COUNTS, {**values, "period": period})).rowcount)
    return max(deleted)
