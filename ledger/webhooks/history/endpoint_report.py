"""How deliveries to one endpoint go, for operators: whether it fails, what waits, and its last attempts.

Attempts have no index by time: they are found through the newest deliveries of each state, so of an endpoint
with more than ATTEMPTS_MAX attempts a day the report has about that many of the last ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.domain.money import DAY_SECONDS
from ledger.errors import UnknownObject
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec
from ledger.webhooks.deliveries import COUNT_ROWS_MAX
from ledger.webhooks.history.owners import find_endpoint_obstacles, has_endpoint, read_endpoint
from ledger.webhooks.schedule.breaker import Breaker, read_breaker
from ledger.webhooks.subscriptions import Owner

ATTEMPTS_MAX = 1000
_MEDIAN, _HIGH = 0.5, 0.95

_FAILURE = """
SELECT failing, extract(epoch FROM since)::float8, attempts, given_up,
       extract(epoch FROM last_attempt_at)::float8, status, error
FROM webhooks.endpoint_health WHERE endpoint = %(endpoint)s
"""
_WAITING = """
SELECT count(*), count(*) FILTER (WHERE due_at <= to_timestamp(%(now)s)),
       extract(epoch FROM min(due_at) FILTER (WHERE due_at <= to_timestamp(%(now)s)))::float8,
       extract(epoch FROM nullif(min(due_at), 'infinity'))::float8,
       (SELECT count(*) FROM (
            SELECT FROM webhooks.deliveries d
            WHERE d.endpoint = %(endpoint)s AND d.state = 'failed' LIMIT %(rows)s) AS failed)
FROM (SELECT d.due_at FROM webhooks.deliveries d
      WHERE d.endpoint = %(endpoint)s AND d.state = 'pending' ORDER BY d.due_at LIMIT %(rows)s) AS pending
"""
# Rows are compared as in `history.deliveries`. Of the pending ones those that are due last have failed last,
# but for those on hold (`order`). OFFSET 0: a join may read the attempts of all deliveries.
_ATTEMPTS = """
WITH sample AS (
    SELECT newest.id FROM unnest('{delivered,failed}'::text[]) AS wanted(state)
    CROSS JOIN LATERAL (
        SELECT d.id FROM webhooks.deliveries d
        WHERE (d.endpoint, d.state, d.id) > (%(endpoint)s, wanted.state, '')
        AND (d.endpoint, d.state, d.id) < (%(endpoint)s, wanted.state, 'dlw')
        ORDER BY d.endpoint DESC, d.state DESC, d.id DESC LIMIT %(attempts)s) AS newest
    UNION ALL
    (SELECT d.id FROM webhooks.deliveries d
     WHERE d.endpoint = %(endpoint)s AND d.state = 'pending' AND d.due_at < 'infinity'
     ORDER BY d.due_at DESC LIMIT %(attempts)s)
), made AS MATERIALIZED (
    SELECT a.delivery, a.at, a.status, a.duration_ms,
           coalesce(a.status BETWEEN 200 AND 299, false) AS succeeded
    FROM sample CROSS JOIN LATERAL (
        SELECT * FROM webhooks.attempts WHERE delivery = sample.id OFFSET 0) a
), recent AS (
    SELECT * FROM made WHERE at > to_timestamp(%(since)s) ORDER BY at DESC LIMIT %(attempts)s
)
SELECT (SELECT count(*) FROM recent), (SELECT count(*) FROM recent WHERE succeeded),
       (SELECT extract(epoch FROM min(at))::float8 FROM recent),
       (SELECT percentile_disc(ARRAY[%(median)s, %(high)s]::float8[]) WITHIN GROUP (ORDER BY duration_ms)
        FROM recent),
       last.delivery, extract(epoch FROM last.at)::float8, last.status, last.duration_ms
FROM (SELECT 1) AS one
LEFT JOIN LATERAL (SELECT * FROM made WHERE succeeded ORDER BY at DESC LIMIT 1) AS last ON true
"""


class Failure(NamedTuple):
    """Whether the endpoint fails now, and how it failed last. `since` and `last_at` are in unix seconds;
    `attempts` failed since it began to fail, and `given_up` deliveries had their last attempt."""

    failing: bool = False
    since: float | None = None
    attempts: int = 0
    given_up: int = 0
    last_at: float | None = None
    status: int | None = None
    error: str | None = None


class Waiting(NamedTuple):
    """What is owed, at most COUNT_ROWS_MAX of each. `due` of the `pending` ones are overdue, since
    `oldest_due_at`; `next_due_at` is the first time at which one is due; `given_up` are kept as failed."""

    pending: int
    due: int
    oldest_due_at: float | None
    next_due_at: float | None
    given_up: int


class Success(NamedTuple):
    """The last attempt that was accepted. `at` is in unix seconds."""

    delivery: str
    at: float
    status: int
    duration_ms: int


class RecentAttempts(NamedTuple):
    """The last attempts, at most ATTEMPTS_MAX and a day old. `since`: when the first of them was made, in
    unix seconds. Half of them took at most `median_ms`, all but one in twenty at most `high_ms`."""

    attempts: int
    succeeded: int
    since: float | None
    median_ms: int | None
    high_ms: int | None

    @property
    def success_share(self) -> float | None:
        """Which part of them succeeded, from 0 to 1; None if there were none."""
        return self.succeeded / self.attempts if self.attempts else None


class EndpointReport(NamedTuple):
    """How deliveries to an endpoint go. `status` is enabled, disabled or deleted; `obstacles` are codes of
    why nothing is sent to it now."""

    endpoint: str
    account: str
    livemode: bool
    status: str
    obstacles: list[str]
    breaker: Breaker
    failure: Failure
    waiting: Waiting
    recent: RecentAttempts
    last_success: Success | None

    def to_json(self) -> dict[str, Any]:
        """The report as the internal API shows it."""
        failure, waiting, recent = self.failure, self.waiting, self.recent
        last_failure = {"at": failure.last_at, "status": failure.status, "error": failure.error}
        return {
            "id": self.endpoint,
            "object": "webhook_endpoint_health",
            "account": self.account,
            "breaker": self.breaker._asdict(),
            "due": waiting.due,
            "failing": failure.failing,
            "failing_since": failure.since if failure.failing else None,
            "failed_attempts": failure.attempts if failure.failing else 0,
            "given_up": waiting.given_up,
            "last_failure": None if failure.last_at is None else last_failure,
            "last_success": None if self.last_success is None else self.last_success._asdict(),
            "livemode": self.livemode,
            "next_attempt_at": waiting.next_due_at,
            "oldest_due_at": waiting.oldest_due_at,
            "pending": waiting.pending,
            "recent_attempts": {
                "count": recent.attempts,
                "median_ms": recent.median_ms,
                "p95_ms": recent.high_ms,
                "since": recent.since,
                "success_share": recent.success_share,
            },
            "status": self.status,
            "waits_for": self.obstacles,
        }


async def read_endpoint_report(
    conn: Conn, codec: Codec, endpoint_id: str, owner: Owner | None, now: float
) -> EndpointReport:
    """The report at `now` (unix seconds). Raises UnknownObject, UnreadableRecord."""
    endpoint = None
    if await has_endpoint(conn, endpoint_id, owner):
        endpoint = await read_endpoint(conn, codec, endpoint_id)
    if endpoint is None:
        raise UnknownObject("webhook endpoint", endpoint_id)
    parameters = {
        "endpoint": endpoint_id, "now": now, "since": now - DAY_SECONDS, "rows": COUNT_ROWS_MAX,
        "attempts": ATTEMPTS_MAX, "median": _MEDIAN, "high": _HIGH,
    }  # fmt: skip
    failure = await fetch_one(conn, _FAILURE, parameters)
    waiting = await fetch_one(conn, _WAITING, parameters)
    row = await fetch_one(conn, _ATTEMPTS, parameters)
    assert waiting is not None
    assert row is not None
    count, succeeded, since, durations, *last = row
    status = "deleted" if endpoint.deleted else "disabled" if endpoint.disabled else "enabled"
    return EndpointReport(
        endpoint=endpoint_id,
        account=endpoint.account,
        livemode=endpoint.livemode,
        status=status,
        obstacles=await find_endpoint_obstacles(conn, endpoint, now),
        breaker=await read_breaker(conn, endpoint_id, now),
        failure=Failure() if failure is None else Failure(*failure),
        waiting=Waiting(*waiting),
        recent=RecentAttempts(count, succeeded, since, *(durations or (None, None))),
        last_success=None if last[0] is None else Success(*last),
    )
