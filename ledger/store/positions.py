"""Find the position of the log that a time means."""

from __future__ import annotations

from datetime import datetime

from ledger.postgres.connections import Conn, fetch_one

# Positions have no holes and recorded_at never decreases with them: the search halves a range of positions
# until one is left, and reads one row of the log in each step. It is part of a statement whose row `asked`
# has `until`, and between which positions the answer is: `low` and `high`.
LAST_POSITION = """
WITH RECURSIVE search (low, high) AS (
    SELECT asked.low, asked.high
    UNION ALL
    SELECT CASE WHEN e.recorded_at < asked.until THEN middle.position ELSE search.low END,
           CASE WHEN e.recorded_at < asked.until THEN search.high ELSE middle.position - 1 END
    FROM search
    CROSS JOIN LATERAL (SELECT (search.low + search.high + 1) / 2 AS position) middle
    CROSS JOIN LATERAL (SELECT recorded_at FROM ledger.events WHERE notification_id = middle.position) e
    WHERE search.low < search.high
)
SELECT low FROM search WHERE low = high
"""
_LAST_POSITION_BEFORE = f"""
SELECT found.low
FROM (SELECT %(until)s::timestamptz AS until, 0::bigint AS low, position AS high FROM ledger.head) asked
CROSS JOIN LATERAL ({LAST_POSITION}) found
"""  # noqa: S608 (a constant)


async def find_last_position(conn: Conn, until: datetime) -> int:
    """The last position recorded before `until`; 0 when there is none."""
    row = await fetch_one(conn, _LAST_POSITION_BEFORE.encode(), {"until": until})
    assert row is not None, "positions have no holes"
    return int(row[0])
