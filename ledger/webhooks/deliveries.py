"""What is owed, in the database: taken under a lease, settled, counted, and forgotten after its term.

A claim takes what is due from every endpoint in turn, so that one with a long backlog hides nobody else's.
Its lease ends by itself: what a process that died had taken is sent again by another, at least once
(CONTRACT 5.3). What was delivered stays so, whatever a late attempt comes to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.ids import base62
from ledger.metrics import Owed
from ledger.queries.payments import PublishedEvent

KEPT_SECONDS = 30 * 86_400
SWEPT_MAX = 1000
COUNTED_MAX = 100_000

Verdict = Literal["pending", "delivered", "failed", "dropped"]

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
_SETTLE = """
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
_RELEASE = """
UPDATE webhooks.deliveries SET leased_until = '-infinity' WHERE id = ANY (%(ids)s::text[])
"""
_SWEEP = """
DELETE FROM webhooks.deliveries WHERE id = ANY (ARRAY(
    SELECT id FROM webhooks.deliveries WHERE id < %(before)s ORDER BY id LIMIT %(limit)s))
"""
_OWED = """
SELECT state, count(*), coalesce(extract(epoch FROM min(due_at)), 0)::float8
FROM (SELECT state, due_at FROM webhooks.deliveries WHERE state IN ('pending', 'failed')
      LIMIT %(limit)s) AS owed
GROUP BY state
"""
_BEHIND = "SELECT h.position - c.position FROM ledger.head h, webhooks.checkpoint c"


class Claimed(NamedTuple):
    """A delivery taken under a lease. `account` is the Event's; `tries` those before; `event` None when the
    live feed does not have it now."""

    id: str
    endpoint: str
    account: str
    tries: int
    event: PublishedEvent | None


class Attempt(NamedTuple):
    """One try of a delivery: a status and the first bytes of the answer, or an error. `at`: unix seconds."""

    at: float
    duration_ms: int
    status: int | None
    answer: bytes | None
    error: str | None

    @property
    def succeeded(self) -> bool:
        """Any 2xx; all else fails (CONTRACT 5.5)."""
        return self.status is not None and 200 <= self.status < 300


_NOT_MADE: dict[str, Any] = dict.fromkeys(Attempt._fields)


async def claim(
    conn: AsyncConnection[TupleRow],
    *,
    now: float,
    limit: int,
    each: int,
    room: Mapping[str, int],
    lease_seconds: float,
) -> list[Claimed]:
    """Take what is due at `now`, `limit` at most, of an endpoint as many as `room` says, else `each`."""
    told = [{"endpoint": endpoint, "free": free} for endpoint, free in room.items()]
    parameters = {
        "now": now,
        "limit": limit,
        "each": each,
        "room": msgspec.json.encode(told).decode(),
        "lease": lease_seconds,
    }
    rows = await (await conn.execute(_CLAIM, parameters)).fetchall()
    return [
        Claimed(delivery, endpoint, account, tries, PublishedEvent(*event) if event[0] is not None else None)
        for delivery, endpoint, account, tries, *event in rows
    ]


async def settle(
    conn: AsyncConnection[TupleRow],
    delivery: str,
    verdict: Verdict,
    *,
    due_at: float | None = None,
    attempt: Attempt | None = None,
) -> None:
    """What a try came to; `due_at` (unix seconds) is the next one's. None as the attempt: it was not made."""
    made = attempt._asdict() if attempt is not None else _NOT_MADE
    await conn.execute(_SETTLE, {"id": delivery, "state": verdict, "due_at": due_at, **made})


async def release(conn: AsyncConnection[TupleRow], deliveries: Sequence[str]) -> None:
    """Give leases back: what was taken is due as before."""
    await conn.execute(_RELEASE, {"ids": list(deliveries)})


async def sweep(conn: AsyncConnection[TupleRow], now: float) -> int:
    """Forget some of what was made longer ago than Events are readable; how many."""
    before = "dlv_" + base62(int((now - KEPT_SECONDS) * 1000) << 80)
    return (await conn.execute(_SWEEP, {"before": before, "limit": SWEPT_MAX})).rowcount


async def owed(conn: AsyncConnection[TupleRow], now: float) -> Owed:
    """How things stand at `now` (unix seconds); of very many deliveries COUNTED_MAX are looked at."""
    rows = await (await conn.execute(_OWED, {"limit": COUNTED_MAX})).fetchall()
    found = {state: (count, since) for state, count, since in rows}
    behind = await (await conn.execute(_BEHIND)).fetchone()
    assert behind is not None
    due = max(0.0, now - found["pending"][1]) if "pending" in found else 0.0
    counts = {state: found.get(state, (0, 0.0))[0] for state in ("pending", "failed")}
    return Owed(counts, due, max(0, behind[0]))
