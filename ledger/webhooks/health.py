"""The health of webhook endpoints: which of them fail, and what the log says of it.

`deliveries.record_outcome` writes it. An endpoint fails from its first failed attempt until it accepts one.
The log gets one line when it begins to fail, one when the first delivery is given up, one when it recovers,
whichever process sees that. Of an endpoint that fails and recovers all the time, it is one of each a minute.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from ledger.metrics.backlogs import FailingEndpoint
from ledger.postgres.connections import Conn, fetch_all, fetch_one

LOG_PAUSE_SECONDS = 60
FAILING_SHOWN_MAX = 20
PENDING_COUNTED_MAX = 5000

_COUNT_FAILING = "SELECT count(*) FROM webhooks.endpoint_health WHERE failing"
# The pending ones are counted for those that are shown only, by their index, which has another collation.
_FAILING = """
SELECT h.endpoint, h.account, h.livemode, extract(epoch FROM h.since)::float8,
       greatest(0, %(now)s - extract(epoch FROM h.since))::float8, h.attempts, h.given_up,
       (SELECT count(*) FROM (SELECT FROM webhooks.deliveries d
                              WHERE d.endpoint = h.endpoint COLLATE "default" AND d.state = 'pending'
                              LIMIT %(pending)s) AS pending),
       extract(epoch FROM h.last_attempt_at)::float8, h.status, h.error,
       CASE WHEN h.opened_at IS NOT NULL THEN extract(epoch FROM h.probe_at)::float8 END
FROM (SELECT * FROM webhooks.endpoint_health WHERE failing ORDER BY since LIMIT %(limit)s) AS h
ORDER BY h.since, h.endpoint
"""
# Those that were not tried for longest first: nothing may be sent to them any more.
_LIST_FAILING = """
SELECT endpoint FROM webhooks.endpoint_health WHERE failing ORDER BY last_attempt_at LIMIT %(limit)s
"""
_END_FAILURE = """
UPDATE webhooks.endpoint_health SET failing = false, opened_at = NULL, asked_until = NULL
WHERE endpoint = %(endpoint)s AND failing
RETURNING endpoint
"""
_DELETE_EXPIRED = "DELETE FROM webhooks.endpoint_health WHERE last_attempt_at < to_timestamp(%(before)s)"

log = structlog.get_logger()


class HealthChange(NamedTuple):
    """An endpoint's health after an attempt that failed, or that ended its failure (then not `failing`).
    `since` is in unix seconds. `news`: whether the log is to say so; `gives_up`: also that a delivery was
    given up."""

    endpoint: str
    account: str
    livemode: bool
    failing: bool
    since: float
    attempts: int
    given_up: int
    status: int | None
    error: str | None
    news: bool
    gives_up: bool

    @property
    def is_news(self) -> bool:
        """Whether anything of it is to be logged."""
        return self.news or self.gives_up


async def read_failing(
    conn: Conn, now: float, limit: int = FAILING_SHOWN_MAX
) -> tuple[int, list[FailingEndpoint]]:
    """How many endpoints fail at `now` (unix seconds), and the `limit` that have failed longest."""
    row = await fetch_one(conn, _COUNT_FAILING)
    count = 0 if row is None else int(row[0])
    if not count:
        return 0, []
    parameters = {"now": now, "limit": limit, "pending": PENDING_COUNTED_MAX}
    return count, [FailingEndpoint(*values) for values in await fetch_all(conn, _FAILING, parameters)]


async def list_failing(conn: Conn, limit: int) -> list[str]:
    """Ids of endpoints that fail, those first that were not tried for longest."""
    return [row[0] for row in await fetch_all(conn, _LIST_FAILING, {"limit": limit})]


async def withdraw(conn: Conn, endpoint: str, reason: str) -> None:
    """Count an endpoint to which nothing is sent any more, for `reason`, no longer as one that fails."""
    if await end_failure(conn, endpoint):
        log.info("webhook_endpoint_withdrawn", endpoint=endpoint, reason=reason)


async def end_failure(conn: Conn, endpoint: str) -> bool:
    """Let an endpoint start afresh: it does not fail, its breaker is closed. Returns whether it failed."""
    return await fetch_one(conn, _END_FAILURE, {"endpoint": endpoint}) is not None


async def delete_expired(conn: Conn, before: float) -> None:
    """Forget the endpoints that have not failed since `before` (unix seconds)."""
    await conn.execute(_DELETE_EXPIRED, {"before": before})


def describe_endpoint(endpoint: str, account: str, livemode: bool, since: float) -> dict[str, object]:
    """What a line of the log says of an endpoint that has failed since `since` (unix seconds)."""
    return {
        "endpoint": endpoint,
        "account": account,
        "mode": "live" if livemode else "test",
        "since": datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def log_change(change: HealthChange, *, delivery: str, event: str) -> None:
    """Log a change that recording the outcome of this delivery has made. Never the URL, which often has a
    token, nor what the receiver answered."""
    facts = describe_endpoint(change.endpoint, change.account, change.livemode, change.since)
    facts |= {"attempts": change.attempts, "given_up": change.given_up}
    if not change.failing:
        log.warning("webhook_endpoint_recovered", **facts)
        return
    facts |= {"status": change.status} if change.error is None else {"error": change.error}
    if change.news:
        log.warning("webhook_endpoint_failing", **facts)
    if change.gives_up:
        log.warning("webhook_delivery_given_up", delivery=delivery, event_id=event, **facts)
