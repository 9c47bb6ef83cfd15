"""Disables endpoints that have failed for LEDGER_WEBHOOK_DISABLE_AFTER_SECONDS, by a domain event.

It is decided at a failed attempt, on the endpoint as it was attempted: whoever changed it meanwhile may have
mended it, and the next failure decides again. The row of its health is locked until the event is appended, so
a success that is recorded first keeps the endpoint enabled.
"""

from __future__ import annotations

import structlog

from ledger.call import Cause
from ledger.deadlines import CLOCK_CAUSATION
from ledger.domain import webhook_endpoint_decisions
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.journal import Append, VersionConflict, fold_changes
from ledger.store.store import Store
from ledger.webhooks.health import describe_endpoint, end_failure

_LOCK_FAILURE = """
SELECT extract(epoch FROM since)::bigint, attempts, status, error FROM webhooks.endpoint_health
WHERE endpoint = %(endpoint)s AND failing
  AND since <= to_timestamp(%(at)s) - %(after)s * interval '1 second' FOR UPDATE
"""

log = structlog.get_logger()


class Disablement:
    """Disables for one process; `after_seconds` 0: never."""

    def __init__(self, store: Store, after_seconds: int) -> None:
        self._store = store
        self._after_seconds = after_seconds

    async def consider(self, conn: Conn, endpoint: WebhookEndpoint, at: float) -> None:
        """Disable the endpoint if it has failed for too long at its failed attempt `at` (unix seconds), which
        is recorded. Raises psycopg.Error and LedgerError: then the next failure may."""
        if not self._after_seconds:
            return
        async with conn.transaction():
            parameters = {"endpoint": endpoint.id, "at": at, "after": self._after_seconds}
            row = await fetch_one(conn, _LOCK_FAILURE, parameters)
            if row is None:
                return
            since, attempts, status, error = row
            events = webhook_endpoint_decisions.disable_failing(
                endpoint,
                failing_since=since,
                failed_attempts=attempts,
                after_seconds=self._after_seconds,
                status=status,
                error=error,
                now=int(at),
            )
            if not events:
                return
            changes = fold_changes(events, endpoint, causation=CLOCK_CAUSATION)
            cause = Cause(endpoint.account, endpoint.livemode, None, None, None)
            try:
                await self._store.journal.append(Append(cause, changes))
            except VersionConflict:
                return
            await end_failure(conn, endpoint.id)
        facts = describe_endpoint(endpoint.id, endpoint.account, endpoint.livemode, since)
        facts |= (
            {"attempts": attempts, "status": status}
            if error is None
            else {"attempts": attempts, "error": error}
        )
        log.warning("webhook_endpoint_disabled", **facts)
