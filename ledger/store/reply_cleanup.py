"""Delete old rows that serve repeated requests and batches: replies, and results of batches."""

from __future__ import annotations

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection
from ledger.store.store import Store

# A reply is promised for a day (contract §1.9); the extra hour allows for clocks that differ.
REPLY_RETENTION_SECONDS = 25 * 3600
CLEANUP_INTERVAL_SECONDS = 3600.0
DELETE_BATCH_SIZE = 1000

_DELETE_REPLIES = """
DELETE FROM ledger.replies WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ledger.replies WHERE created_at < to_timestamp(%(before)s) LIMIT %(limit)s))
"""
_DELETE_APPENDERS = (
    "DELETE FROM ledger.appenders WHERE recorded_at < to_timestamp(%(before)s) AND id <> %(own)s"
)


class ReplyCleanup:
    """Deletes, every CLEANUP_INTERVAL_SECONDS, replies and appenders older than REPLY_RETENTION_SECONDS."""

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._own_appender_id = store.journal.appender_id
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="reply cleanup", answer_seconds=BACKGROUND_ANSWER_SECONDS
        )
        self._loop = BackgroundLoop(
            "reply cleanup",
            self._delete_expired,
            step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS,
            close_timeout_seconds=1.0,
        )

    async def start(self) -> None:
        """Begin with a first deletion."""
        await self._loop.start()

    async def close(self) -> None:
        """End after the deletion under way, or cancel it."""
        await self._loop.close()
        await self._connection.drop()

    async def delete_before(self, before: float) -> None:
        """Delete replies stored before `before` (unix seconds), and appenders last used before it, in small
        transactions, so that none holds locks for long. Raises psycopg.Error."""
        async with self._connection as conn:
            while not self._loop.closing:
                cur = await conn.execute(_DELETE_REPLIES, {"before": before, "limit": DELETE_BATCH_SIZE})
                if cur.rowcount == 0:
                    break
            await conn.execute(_DELETE_APPENDERS, {"before": before, "own": self._own_appender_id})

    async def _delete_expired(self) -> float:
        await self.delete_before(self._clock.now() - REPLY_RETENTION_SECONDS)
        return CLEANUP_INTERVAL_SECONDS
