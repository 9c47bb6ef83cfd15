"""Writes what operators did into the log of the service: each operation once, by one of the workers.

Operations are recorded where they happen, in the transaction that changes something, whether a shell, an API
process or a worker does it. A worker logs them within a second; those that happened while no worker ran, when
one starts. A worker that is killed between the line and its commit repeats the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from ledger.background import BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection, fetch_all
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.store import Store

POLL_SECONDS = 1.0
LINES_MAX = 100

# Two workers that look at once take different rows.
_TAKE_OPERATIONS = """
WITH of_projections AS (
    UPDATE projections.operations SET logged = true
    WHERE id IN (SELECT id FROM projections.operations WHERE NOT logged
                 ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id, at, who, action, reason, details,
              jsonb_build_object('projection', projection, 'generation', generation) AS subject
), of_keys AS (
    UPDATE ledger.operations SET logged = true
    WHERE id IN (SELECT id FROM ledger.operations WHERE NOT logged
                 ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id, at, who, action, coalesce(details ->> 'reason', '') AS reason, details,
              jsonb_strip_nulls(jsonb_build_object('account', account, 'key', key)) AS subject
)
SELECT extract(epoch FROM at)::float8, who, action, reason, details, subject
FROM (TABLE of_projections UNION ALL TABLE of_keys) AS operations ORDER BY at, id
"""
EVENTS: Mapping[str, str] = {
    "rebuild": "projection_rebuild_begun",
    "pause": "projection_rebuild_paused",
    "resume": "projection_rebuild_resumed",
    "cancel": "projection_rebuild_cancelled",
    "fail": "projection_rebuild_failed",
    "compare": "projection_compared",
    "switch": "projection_switched",
    "rollback": "projection_rolled_back",
    "retire": "projection_retired",
    "retry": "parked_stream_retried",
}
"""The event of the log by recorded action; of accounts and keys, the action is named as the event."""
PROMOTED = "projection_promoted"
"""A switch to the generation that a rebuild has built."""
LOGGED_DETAILS = (
    "rebuild", "workers", "error", "compared", "equal", "accepted", "from", "stream", "healed", "kind",
    "mode", "replaces", "delivery", "event_id", "endpoint",
    "alert", "receiver", "replay", "to", "types", "only_failed", "object", "delivered", "failed", "dropped",
    "retry", "states", "created", "status", "returned", "left_out",
)  # fmt: skip
"""Of what is recorded. Never the rows that differ."""

log = structlog.get_logger()


class OperationLog:
    """Logs, in one process, the operations that no process has logged yet."""

    def __init__(self, store: Store) -> None:
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_projector",
            name="operations",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._loop = BackgroundLoop("operations", self._log_next)

    async def start(self) -> None:
        """Look for operations every POLL_SECONDS until `close`."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the lines under way."""
        await self._loop.close()
        await self._connection.drop()

    async def _log_next(self) -> float:
        async with self._connection as conn, conn.transaction():
            rows = await fetch_all(conn, _TAKE_OPERATIONS, {"limit": LINES_MAX})
            for row in rows:
                _log_operation(*row)
        return 0 if len(rows) >= LINES_MAX else POLL_SECONDS


def _log_operation(
    at: float, who: str, action: str, reason: str, details: dict[str, Any], subject: dict[str, Any]
) -> None:
    event = EVENTS.get(action, action)
    if action == "switch" and "rebuild" in details:
        event = PROMOTED
    write = log.warning if action == "fail" or details.get("equal") is False else log.info
    facts = {name: details[name] for name in LOGGED_DETAILS if name in details}
    done_at = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write(event, **subject, who=who, reason=reason or None, done_at=done_at, **facts)
