"""An event that cannot be read, because its stored bytes are corrupt."""

from __future__ import annotations

from psycopg import AsyncConnection


async def corrupt_event(dsn: str, position: int, state: bytes = b"?") -> bytes:
    """Overwrite the stored state of the event at `position`; returns what was stored before."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        # A trigger refuses this on any other connection: the log is append-only.
        await conn.execute("SET session_replication_role = replica")
        cur = await conn.execute(
            "WITH was AS (SELECT state FROM ledger.events WHERE notification_id = %(position)s)"
            " UPDATE ledger.events SET state = %(state)s WHERE notification_id = %(position)s"
            " RETURNING (SELECT state FROM was)",
            {"position": position, "state": state},
        )
        row = await cur.fetchone()
    assert row is not None
    return bytes(row[0])
