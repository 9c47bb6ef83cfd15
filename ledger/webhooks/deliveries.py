"""Deliveries in the database: claim them under a lease, record outcomes, count them, delete expired ones.

A claim takes due deliveries of every endpoint, so that one with a long backlog does not hide the others. A
lease expires by itself: another process then sends the deliveries that a crashed process had claimed, so each
delivery is sent at least once (contract §5.3). One that an attempt has delivered remains so, whatever a late
attempt results in, and is so also if it was given up while the attempt was under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.domain.money import DAY_SECONDS
from ledger.ids import encode_base62
from ledger.metrics.backlogs import WebhookBacklog
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.events import COUNT_OWED
from ledger.webhooks.health import LOG_PAUSE_SECONDS, HealthChange, read_failing
from ledger.webhooks.schedule import breaker, order
from ledger.webhooks.switch import OffReason, Setting, read_switch
from ledger.wire.public_events import EVENT_RETENTION_DAYS

RETENTION_SECONDS = EVENT_RETENTION_DAYS * DAY_SECONDS
DELETE_ROWS_MAX = 1000
COUNT_ROWS_MAX = 100_000
OWN_COLUMNS = 11
_PLACE = slice(4, 6)
"""Where the columns of a claimed delivery have the Event's place in the log."""
"""How many columns of a claimed row are the delivery's own; those of its Event follow."""

DeliveryState = Literal["pending", "delivered", "failed", "dropped", "forwarded"]

_ROOM = "CASE WHEN probes.endpoint IS NULL THEN coalesce(room.free, %(each)s) ELSE 1 END"
# One in order waits while an earlier one of its object is pending.
_DUE_OF_ENDPOINT = f"""
SELECT d.id, d.due_at, d.replay IS NOT NULL AS replayed FROM webhooks.deliveries d
WHERE d.endpoint = owing.endpoint AND d.state = 'pending' AND d.due_at <= to_timestamp(%(now)s)
  AND d.leased_until < now() AND d.replay {{replay}}
  AND (d.object IS NULL OR NOT EXISTS (
      SELECT FROM webhooks.deliveries p
      WHERE p.state = 'pending' AND p.endpoint = d.endpoint AND p.object = d.object
        AND (p.position, p.ordinal) < (d.position, d.ordinal)))
ORDER BY d.due_at LIMIT {_ROOM} FOR UPDATE SKIP LOCKED
"""  # noqa: S608 (constants)
# `owing` steps through the index from one endpoint with pending deliveries to the next (a loose index scan).
# An Event that the live feed does not have, because its stream is parked for example, comes without its data;
# it is claimed again when the lease has expired. While webhooks are off, nothing is claimed. Of an endpoint
# whose breaker is open one delivery is, by the process that gets the lease of the probe. COLLATE and OFFSET
# are for the index of deliveries, whose collation is another one: without them the planner goes through all
# that is due. What a replay sends comes after all else that is due.
# With LIMIT 1 each Event is looked up in the index: by the statistics of a young table Postgres would read
# the whole feed.
_CLAIM = f"""
WITH RECURSIVE owing AS (
    (SELECT endpoint FROM webhooks.deliveries
     WHERE state = 'pending' AND (SELECT ledger.may_send_webhooks()) ORDER BY endpoint LIMIT 1)
    UNION ALL
    SELECT (SELECT d.endpoint FROM webhooks.deliveries d
            WHERE d.state = 'pending' AND d.endpoint > owing.endpoint ORDER BY d.endpoint LIMIT 1)
    FROM owing WHERE owing.endpoint IS NOT NULL
), probes AS (
    UPDATE webhooks.endpoint_health SET probe_until = now() + %(lease)s * interval '1 second'
    WHERE endpoint IN (
        SELECT h.endpoint FROM webhooks.endpoint_health h
        WHERE h.failing AND h.opened_at IS NOT NULL AND h.probe_at <= to_timestamp(%(now)s)
          AND h.probe_until < now() AND coalesce(h.asked_until <= to_timestamp(%(now)s), true)
          AND (SELECT ledger.may_send_webhooks()) AND EXISTS (
              SELECT FROM webhooks.deliveries d
              WHERE d.endpoint = h.endpoint COLLATE "default" AND d.state = 'pending'
                AND d.due_at <= to_timestamp(%(now)s)
                AND d.leased_until < now() OFFSET 0)
        FOR UPDATE SKIP LOCKED)
    RETURNING endpoint
), due AS (
    SELECT next.id
    FROM owing
    LEFT JOIN json_to_recordset(%(room)s::json) AS room(endpoint text, free integer) USING (endpoint)
    LEFT JOIN webhooks.endpoint_health h USING (endpoint)
    LEFT JOIN probes USING (endpoint)
    CROSS JOIN LATERAL (
        SELECT either.id, either.due_at, either.replayed
        FROM (SELECT own.* FROM ({_DUE_OF_ENDPOINT.format(replay="IS NULL")}) AS own
              UNION ALL
              SELECT again.* FROM ({_DUE_OF_ENDPOINT.format(replay="IS NOT NULL")}) AS again) AS either
        ORDER BY either.replayed, either.due_at LIMIT {_ROOM}
    ) AS next
    WHERE probes.endpoint IS NOT NULL OR NOT coalesce(
        h.failing AND h.opened_at IS NOT NULL OR h.asked_until > to_timestamp(%(now)s), false)
    ORDER BY next.replayed, next.due_at LIMIT %(limit)s
), claimed AS (
    UPDATE webhooks.deliveries d
    SET leased_until = now() + %(lease)s * interval '1 second',
        schedule_from = least(d.schedule_from, d.tries)
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint, d.account, d.tries - d.schedule_from AS made, d.position, d.ordinal, d.object,
              d.replay, d.replay IS NOT NULL OR d.schedule_from > 0 AS again, d.event, d.type, d.created,
              d.due_at
)
SELECT claimed.id, claimed.endpoint, claimed.account, claimed.made, claimed.position, claimed.ordinal,
       claimed.object, claimed.replay, claimed.again, claimed.event, claimed.type,
       f.id, f.livemode, f.created, f.type, f.api_version, f.request_id, f.idempotency_key, f.data,
       {COUNT_OWED.format(event="claimed.event")}
FROM claimed
LEFT JOIN LATERAL (
    SELECT * FROM projections.feed
    WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
      AND id = claimed.event AND created = claimed.created LIMIT 1
) AS f ON true
ORDER BY claimed.replay IS NOT NULL, claimed.due_at
"""  # noqa: S608 (constants)
# Sets the columns of a delivery that is to be sent again: it is due at `now` (unix seconds), with the whole
# schedule before it. An attempt under way goes on. If it fails, the next one is made, but not within the same
# second, in which the signature would be the same.
RENEW = """
state = 'pending',
due_at = CASE WHEN d.leased_until > now() THEN to_timestamp(%(now)s + 1)
         WHEN d.state = 'pending' THEN least(d.due_at, to_timestamp(%(now)s)) ELSE to_timestamp(%(now)s) END,
schedule_from = d.tries + (d.leased_until > now())::integer
"""
# A failure leaves a delivery as it is that was made due again while this attempt was under way.
_SETTLE = """
UPDATE webhooks.deliveries
SET tries = tries + 1, leased_until = '-infinity',
    state = CASE WHEN %(state)s::text = 'delivered' THEN 'delivered'
            WHEN state = 'pending' AND NOT (schedule_from > tries AND %(state)s::text = 'failed')
            THEN %(state)s ELSE state END,
    due_at = CASE WHEN schedule_from > tries THEN due_at
             ELSE coalesce(to_timestamp(%(due_at)s::float8), due_at) END
WHERE id = %(id)s RETURNING id, tries, endpoint, livemode, state
"""
_RECORD_ATTEMPT = f"""
WITH settled AS ({_SETTLE}), attempt AS (
    INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status, answer, sealed_answer, error)
    SELECT id, tries, to_timestamp(%(at)s::float8), %(duration_ms)s::integer, %(status)s::smallint,
           %(answer)s::bytea, %(sealed_answer)s::bytea, %(error)s::text
    FROM settled)
"""  # noqa: S608 (constants)
# The health of the endpoint is written with it: a row only for one that fails or has failed. Two processes
# that record at once wait for each other at that row, so each change of it is seen, and logged, by one. Of
# the failures of one transaction each has a time of its own: that of its statement.
_HEALTH = """
h.endpoint, h.account, h.livemode, h.failing, extract(epoch FROM h.since)::float8, h.attempts, h.given_up,
h.status, h.error
"""
_RECORD_FAILURE = f"""{_RECORD_ATTEMPT}
INSERT INTO webhooks.endpoint_health AS h
    (endpoint, account, livemode, failing, since, attempts, given_up, last_attempt_at, status, error,
     asked_until, began_at, failure_logged_at, given_up_logged_at)
SELECT endpoint, %(account)s, livemode, true, to_timestamp(%(at)s::float8), 1, (state = 'failed')::integer,
       to_timestamp(%(at)s::float8), %(status)s::smallint, %(error)s::text,
       to_timestamp(%(asked_until)s::float8),
       statement_timestamp(), statement_timestamp(),
       CASE state WHEN 'failed' THEN statement_timestamp() ELSE '-infinity' END
FROM settled
ON CONFLICT ON CONSTRAINT endpoint_health_key DO UPDATE
SET account = excluded.account, failing = true,
    since = CASE WHEN h.failing THEN h.since ELSE excluded.since END,
    attempts = CASE WHEN h.failing THEN h.attempts ELSE 0 END + 1,
    given_up = CASE WHEN h.failing THEN h.given_up ELSE 0 END + excluded.given_up,
    last_attempt_at = excluded.last_attempt_at, status = excluded.status, error = excluded.error,
    asked_until = greatest(h.asked_until, excluded.asked_until),
    (opened_at, failed_probes, probe_at, probe_until) = ({breaker.AFTER_FAILURE}),
    began_at = CASE WHEN h.failing THEN h.began_at ELSE statement_timestamp() END,
    failure_logged_at = CASE
        WHEN h.failing AND h.failure_logged_at >= h.began_at
            OR h.failure_logged_at > statement_timestamp() - %(pause)s * interval '1 second'
        THEN h.failure_logged_at
        ELSE statement_timestamp() END,
    given_up_logged_at = CASE
        WHEN excluded.given_up = 0 AND NOT (h.failing AND h.given_up > 0)
            OR h.failing AND h.given_up_logged_at >= h.began_at
            OR h.given_up_logged_at > statement_timestamp() - %(pause)s * interval '1 second'
        THEN h.given_up_logged_at
        ELSE statement_timestamp() END
RETURNING {_HEALTH}, h.failure_logged_at = statement_timestamp(), h.given_up_logged_at = statement_timestamp()
"""  # noqa: S608 (constants)
_RECORD_SUCCESS = f"""{_RECORD_ATTEMPT}
UPDATE webhooks.endpoint_health h SET failing = false, opened_at = NULL
FROM settled WHERE h.endpoint = settled.endpoint AND h.failing
RETURNING {_HEALTH}, h.failure_logged_at >= h.began_at, false
"""  # noqa: S608 (constants)
_RELEASE_LEASES = """
UPDATE webhooks.deliveries SET leased_until = '-infinity' WHERE id = ANY (%(ids)s::text[])
"""
# Not those that were made due again since then, nor those of a replay or retry that has not ended, which
# counts them.
_DELETE_EXPIRED = """
DELETE FROM webhooks.deliveries WHERE id = ANY (ARRAY(
    SELECT d.id FROM webhooks.deliveries d WHERE d.id < %(before)s
    AND NOT (d.state = 'pending' AND d.due_at > to_timestamp(%(since)s))
    AND NOT EXISTS (SELECT FROM webhooks.replays r WHERE r.id = d.replay AND r.ended IS NULL)
    AND NOT EXISTS (SELECT FROM webhooks.retries r WHERE r.id = d.replay AND r.ended IS NULL)
    ORDER BY d.id LIMIT %(limit)s))
"""
_BACKLOG = """
SELECT state, count(*), coalesce(extract(epoch FROM min(due_at)), 0)::float8
FROM (SELECT state, due_at FROM webhooks.deliveries WHERE state IN ('pending', 'failed')
      LIMIT %(limit)s) AS owed
GROUP BY state
"""
_COUNT_PENDING = """
SELECT count(*), count(DISTINCT d.endpoint), count(*) FILTER (WHERE d.due_at <= to_timestamp(%(now)s)),
       count(DISTINCT d.endpoint) FILTER (WHERE d.due_at <= to_timestamp(%(now)s)),
       (SELECT position FROM webhooks.checkpoint), (SELECT position FROM ledger.head)
FROM webhooks.deliveries d WHERE d.state = 'pending'
"""
# Locked in the order in which those who record outcomes lock them.
_DROP_PENDING = """
UPDATE webhooks.deliveries d SET state = 'dropped'
FROM (SELECT id FROM webhooks.deliveries WHERE state = 'pending' AND position <= %(upto)s
      ORDER BY endpoint, id FOR UPDATE) AS locked
WHERE d.id = locked.id
"""
_LAG = "SELECT h.position - c.position FROM ledger.head h, webhooks.checkpoint c"


class ClaimedDelivery(NamedTuple):
    """A delivery claimed under a lease.

    account        the Event's
    attempts_made  how many since the schedule began
    position       that of the recorded event; `ordinal` tells its Events apart
    object         set if it is sent in order
    replay         the replay that it belongs to, if any
    is_repeated    whether it was retried or replayed: then the Event may be older than the feed
    event_id       the snapshot's, or that of a ping
    type           likewise
    feed_row       what the live feed has of the Event, as `open_events` takes it; None while it has nothing
    owed_to        to how many endpoints the Event is owed
    """

    id: str
    endpoint: str
    account: str
    attempts_made: int
    position: int
    ordinal: int
    object: str | None
    replay: str | None
    is_repeated: bool
    event_id: str
    type: str
    feed_row: TupleRow | None
    owed_to: int


class Attempt(NamedTuple):
    """One attempt of a delivery: the response's status and first bytes, or an error. `at` is in unix
    seconds. The receiver asked for no other attempt within `pause_seconds` of the response. `sealed_answer`
    in place of `answer`: these bytes sealed for the subject of the Event, which they may repeat."""

    at: float
    duration_ms: int
    status: int | None
    answer: bytes | None
    error: str | None
    pause_seconds: float = 0.0
    sealed_answer: bytes | None = None

    @property
    def ended_at(self) -> float:
        """In unix seconds."""
        return self.at + self.duration_ms / 1000

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx; anything else is a failure (contract §5.5)."""
        return self.status is not None and 200 <= self.status < 300


class PendingDeliveries(NamedTuple):
    """What is owed and not given up. `due` of the deliveries, to `due_endpoints`, would be sent at once.
    Events after position `fanned_out` of the log, which ends at `head`, have no deliveries yet."""

    deliveries: int
    endpoints: int
    due: int
    due_endpoints: int
    fanned_out: int
    head: int


async def claim(
    conn: Conn,
    *,
    now: float,
    limit: int,
    endpoint_limit_default: int,
    endpoint_limits: Mapping[str, int],
    lease_seconds: float,
) -> list[ClaimedDelivery]:
    """Claim deliveries due at `now` (unix seconds) for `lease_seconds`, the longest due first.

    At most `limit`, and of each endpoint at most as many as `endpoint_limits` has for its id, or
    `endpoint_limit_default`. None at all while webhooks are off (`switch`).
    """
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
    return [_to_claimed(row) for row in rows]


def _to_claimed(row: TupleRow) -> ClaimedDelivery:
    own, of_feed = row[:OWN_COLUMNS], row[OWN_COLUMNS:]
    feed_row = (*of_feed, *own[_PLACE]) if of_feed[0] is not None else None
    return ClaimedDelivery._make((*own, feed_row, row[-1]))


async def record_outcome(
    conn: Conn,
    delivery: str,
    state: DeliveryState,
    *,
    account: str,
    due_at: float | None = None,
    attempt: Attempt | None = None,
) -> HealthChange | None:
    """Store the outcome of an attempt and release the lease; returns what to log of the endpoint's health,
    if anything. `account` is the endpoint's. `due_at` (unix seconds) is when the next attempt is due.
    `attempt` is None when none was made; it counts all the same, but not as a failure of the endpoint."""
    settlement = {"id": delivery, "state": state, "due_at": due_at}
    if attempt is None:
        await conn.execute(_SETTLE, settlement)
        return None
    parameters = {**settlement, **attempt._asdict(), "account": account, "pause": LOG_PAUSE_SECONDS}
    if attempt.succeeded:
        row = await fetch_one(conn, _RECORD_SUCCESS, parameters)
    else:
        asked_until = attempt.ended_at + attempt.pause_seconds if attempt.pause_seconds else None
        parameters |= {"ended": attempt.ended_at, "asked_until": asked_until, **breaker.LIMITS}
        row = await fetch_one(conn, _RECORD_FAILURE, parameters)
    change = None if row is None else HealthChange(*row)
    return change if change is not None and change.is_news else None


async def release_leases(conn: Conn, deliveries: Sequence[str]) -> None:
    """Release leases without an attempt: these deliveries are due as before."""
    await conn.execute(_RELEASE_LEASES, {"ids": list(deliveries)})


async def delete_expired(conn: Conn, now: float) -> int:
    """Delete deliveries older than RETENTION_SECONDS (as long as Events are readable), but none that is to be
    sent again; at most DELETE_ROWS_MAX. Returns how many. `now` is in unix seconds."""
    since = now - RETENTION_SECONDS
    before = "dlv_" + encode_base62(int(since * 1000) << 80)
    parameters = {"before": before, "since": since, "limit": DELETE_ROWS_MAX}
    return (await conn.execute(_DELETE_EXPIRED, parameters)).rowcount


async def count_pending(conn: Conn, now: float) -> PendingDeliveries:
    """Count all pending deliveries at `now` (unix seconds), however long it takes. Raises psycopg.Error."""
    row = await fetch_one(conn, _COUNT_PENDING, {"now": now})
    assert row is not None
    return PendingDeliveries(*row)


async def drop_pending(conn: Conn, upto: int, now: float) -> int:
    """Give up the pending deliveries of Events up to this position: nobody is owed them any more, and none
    waits for them after `now` (unix seconds). Returns how many. Raises psycopg.Error."""
    dropped = (await conn.execute(_DROP_PENDING, {"upto": upto})).rowcount
    await order.release_first(conn, now)
    return dropped


async def read_backlog(conn: Conn, now: float, setting: Setting) -> WebhookBacklog:
    """The unfinished webhook work at `now` (unix seconds), for a process with this LEDGER_WEBHOOKS. Counts
    COUNT_ROWS_MAX deliveries at most."""
    rows = await fetch_all(conn, _BACKLOG, {"limit": COUNT_ROWS_MAX})
    failing_count, failing = await read_failing(conn, now)
    by_state = {state: (count, since) for state, count, since in rows}
    lag = await fetch_one(conn, _LAG)
    assert lag is not None
    overdue_seconds = max(0.0, now - by_state["pending"][1]) if "pending" in by_state else 0.0
    counts = {state: by_state.get(state, (0, 0.0))[0] for state in ("pending", "failed")}
    off_reasons = (await read_switch(conn)).list_off_reasons(setting)
    off_by_reason = {reason.value: reason in off_reasons for reason in OffReason}
    return WebhookBacklog(counts, overdue_seconds, max(0, lag[0]), off_by_reason, failing_count, failing)
