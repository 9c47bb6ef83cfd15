"""What is owed, in the database: taken under a lease, settled, counted, and forgotten after its term.

A claim takes what is due from every endpoint in turn, so that one with a long backlog hides nobody else's.
Its lease ends by itself: what a process that died had taken is sent again by another, at least once
(contract §5.3). What was delivered stays so, whatever a late attempt comes to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from ledger.ids import encode_base62
from ledger.metrics import WebhookBacklog
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.events import FeedEvent

RETENTION_SECONDS = 30 * 86_400
DELETE_ROWS_MAX = 1000
COUNT_ROWS_MAX = 100_000

DeliveryState = Literal["pending", "delivered", "failed", "dropped"]

# `owing` hops along the index from one endpoint that is owed something to the next. An Event that the live
# feed does not have (its stream is parked, say) comes without its data, and again when the lease is over.
_CLAIM = """
WITH RECURSIVE owing AS (
    (SELECT endpoint FROM webhooks.deliveries WHERE state = 'pending' ORDER BY endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM webhooks.deliveries d
            WHERE d.state = 'pending' AND d.endpoint > owing.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM owing WHERE owing.endpoint IS NOT NULL
), due AS (
    SELECT next.id
    FROM owing
    LEFT JOIN json_to_recordset(%(room)s::json) AS room(endpoint text, free integer) USING (endpoint)
    CROSS JOIN LATERAL (
        SELECT d.id, d.due_at FROM webhooks.deliveries d
        WHERE d.endpoint = owing.endpoint AND d.state = 'pending' AND d.due_at <= to_timestamp(%(now)s)
          AND d.leased_until < now()
        ORDER BY d.due_at LIMIT coalesce(room.free, %(each)s) FOR UPDATE SKIP LOCKED
    ) AS next
    ORDER BY next.due_at LIMIT %(limit)s
), claimed AS (
    UPDATE webhooks.deliveries d SET leased_until = now() + %(lease)s * interval '1 second'
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint, d.account, d.tries, d.event, d.created
)
SELECT claimed.id, claimed.endpoint, claimed.account, claimed.tries,
       f.id, f.livemode, f.created, f.type, f.api_version, f.request_id, f.idempotency_key, f.data,
       (SELECT count(*) FROM webhooks.deliveries o
        WHERE o.event = claimed.event AND o.state IN ('pending', 'failed'))
FROM claimed
LEFT JOIN projections.feed f
    ON f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
    AND f.id = claimed.event AND f.created = claimed.created
"""
_RECORD_OUTCOME = """
WITH settled AS (
    UPDATE webhooks.deliveries
    SET tries = tries + 1, leased_until = '-infinity',
        state = CASE state WHEN 'pending' THEN %(state)s ELSE state END,
        due_at = coalesce(to_timestamp(%(due_at)s::float8), due_at)
    WHERE id = %(id)s RETURNING id, tries
)
INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status, answer, error)
SELECT id, tries, to_timestamp(%(at)s::float8), %(duration_ms)s::integer, %(status)s::smallint,
       %(answer)s::bytea, %(error)s::text
FROM settled WHERE %(at)s::float8 IS NOT NULL
"""
_RELEASE_LEASES = """
UPDATE webhooks.deliveries SET leased_until = '-infinity' WHERE id = ANY (%(ids)s::text[])
"""
_DELETE_EXPIRED = """
DELETE FROM webhooks.deliveries WHERE id = ANY (ARRAY(
    SELECT id FROM webhooks.deliveries WHERE id < %(before)s ORDER BY id LIMIT %(limit)s))
"""
_BACKLOG = """
SELECT state, count(*), coalesce(extract(epoch FROM min(due_at)), 0)::float8
FROM (SELECT state, due_at FROM webhooks.deliveries WHERE state IN ('pending', 'failed')
      LIMIT %(limit)s) AS owed
GROUP BY state
"""
_LAG = "SELECT h.position - c.position FROM ledger.head h, webhooks.checkpoint c"


class ClaimedDelivery(NamedTuple):
    """A delivery taken under a lease. `account` is the Event's; `tries` those before; `event` None when the
    live feed does not have it now."""

    id: str
    endpoint: str
    account: str
    attempts_made: int
    event: FeedEvent | None


class Attempt(NamedTuple):
    """One try of a delivery: a status and the first bytes of the answer, or an error. `at`: unix seconds."""

    at: float
    duration_ms: int
    status: int | None
    answer: bytes | None
    error: str | None

    @property
    def succeeded(self) -> bool:
        """Any 2xx; all else fails (contract §5.5)."""
        return self.status is not None and 200 <= self.status < 300


_NO_ATTEMPT: dict[str, Any] = dict.fromkeys(Attempt._fields)


async def claim(
    conn: Conn,
    *,
    now: float,
    limit: int,
    endpoint_limit_default: int,
    endpoint_limits: Mapping[str, int],
    lease_seconds: float,
) -> list[ClaimedDelivery]:
    """Take what is due at `now`, `limit` at most, of an endpoint as many as `endpoint_limits` says, else
    `endpoint_limit_default`."""
    endpoint_rows = [
        {"endpoint": endpoint, "free": limit_of_endpoint}
        for endpoint, limit_of_endpoint in endpoint_limits.items()
    ]
    parameters = {
        "now": now,
        "limit": limit,
        "each": endpoint_limit_default,
        "room": msgspec.json.encode(endpoint_rows).decode(),
        "lease": lease_seconds,
    }
    rows = await fetch_all(conn, _CLAIM, parameters)
    return [
        ClaimedDelivery(
            delivery, endpoint, account, tries, FeedEvent(*event) if event[0] is not None else None
        )
        for delivery, endpoint, account, tries, *event in rows
    ]


async def record_outcome(
    conn: Conn,
    delivery: str,
    state: DeliveryState,
    *,
    due_at: float | None = None,
    attempt: Attempt | None = None,
) -> None:
    """What a try came to; `due_at` (unix seconds) is the next one's. None as the attempt: it was not made."""
    attempt_columns = attempt._asdict() if attempt is not None else _NO_ATTEMPT
    await conn.execute(_RECORD_OUTCOME, {"id": delivery, "state": state, "due_at": due_at, **attempt_columns})


async def release_leases(conn: Conn, deliveries: Sequence[str]) -> None:
    """Give leases back: what was taken is due as before."""
    await conn.execute(_RELEASE_LEASES, {"ids": list(deliveries)})


async def delete_expired(conn: Conn, now: float) -> int:
    """Forget some of what was made longer ago than Events are readable; how many."""
    before = "dlv_" + encode_base62(int((now - RETENTION_SECONDS) * 1000) << 80)
    return (await conn.execute(_DELETE_EXPIRED, {"before": before, "limit": DELETE_ROWS_MAX})).rowcount


async def read_backlog(conn: Conn, now: float) -> WebhookBacklog:
    """How things stand at `now` (unix seconds); of very many deliveries COUNT_ROWS_MAX are looked at."""
    rows = await fetch_all(conn, _BACKLOG, {"limit": COUNT_ROWS_MAX})
    by_state = {state: (count, since) for state, count, since in rows}
    lag = await fetch_one(conn, _LAG)
    assert lag is not None
    overdue_seconds = max(0.0, now - by_state["pending"][1]) if "pending" in by_state else 0.0
    counts = {state: by_state.get(state, (0, 0.0))[0] for state in ("pending", "failed")}
    return WebhookBacklog(counts, overdue_seconds, max(0, lag[0]))
