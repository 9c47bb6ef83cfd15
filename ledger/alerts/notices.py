"""Notices: the events of alerts as they are sent, signed, to each receiver, one after another.

The body is an event in the shape of Stripe's, so an official SDK verifies and parses it; Standard Webhooks'
headers are sent beside. An attempt that fails is repeated after a pause that grows to RETRY_SECONDS_MAX,
until the event is KEPT_SECONDS old; the next one waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.alerts.receivers import ReceiverKeys, read_url
from ledger.alerts.records import Actor, record_operation, render_alert
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all
from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.http_client import WebhookClient
from ledger.webhooks.signature import sign, sign_standard

RETRY_SECONDS_MAX = 60.0
KEPT_SECONDS = 86_400.0

# The first pending notice of each receiver, if it is due and none of it is being sent.
_DUE = """
SELECT r.id, r.sealed_url, n.sequence, n.attempts, e.id, e.type, extract(epoch FROM e.at)::float8,
       a.id, a.key, a.kind, e.severity, e.summary, e.cause, e.details, extract(epoch FROM a.raised_at)::float8
FROM alerts.receivers r
CROSS JOIN LATERAL (
    SELECT * FROM alerts.notices p WHERE p.receiver = r.id AND p.state = 'pending'
    ORDER BY p.sequence LIMIT 1) AS n
JOIN alerts.events e ON e.sequence = n.sequence
JOIN alerts.alerts a ON a.id = e.alert
WHERE r.removed_at IS NULL AND n.due_at <= now() AND r.id <> ALL (%(busy)s::text[])
"""
_SETTLE = """
UPDATE alerts.notices n
SET attempts = n.attempts + 1, attempted_at = to_timestamp(%(at)s), duration_ms = %(duration_ms)s,
    status = %(status)s::smallint, error = %(error)s::text,
    state = CASE WHEN %(succeeded)s THEN 'delivered'
                 WHEN e.at < now() - %(kept)s * interval '1 second' THEN 'failed' ELSE 'pending' END,
    due_at = now() + least(%(retry_max)s, 2.0 ^ least(n.attempts, 20)) * interval '1 second'
FROM alerts.events e
WHERE n.receiver = %(receiver)s AND n.sequence = %(sequence)s AND n.state = 'pending'
  AND e.sequence = n.sequence
"""


class DueNotice(NamedTuple):
    """A notice to be sent, its event, and what does not change of the alert. Times are in unix seconds."""

    receiver: str
    sealed_url: bytes
    sequence: int
    attempts: int
    event: str
    type: str
    at: float
    alert: str
    key: str
    kind: str
    severity: str
    summary: str
    cause: str
    details: dict[str, Any]
    raised_at: float


async def list_due(conn: Conn, busy: Sequence[str]) -> list[DueNotice]:
    """The next notice of each receiver that is not busy, if it is due. Raises psycopg.Error."""
    return [DueNotice(*row) for row in await fetch_all(conn, _DUE, {"busy": list(busy)})]


async def settle(conn: Conn, notice: DueNotice, attempt: Attempt) -> None:
    """Record an attempt: the notice is delivered, due again, or given up. Raises psycopg.Error."""
    parameters = {
        "receiver": notice.receiver,
        "sequence": notice.sequence,
        "at": attempt.at,
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
        "succeeded": attempt.succeeded,
        "kept": KEPT_SECONDS,
        "retry_max": RETRY_SECONDS_MAX,
    }
    await conn.execute(_SETTLE, parameters)


def render_event(notice: DueNotice) -> bytes:
    """The body. `livemode` is false only of an alert about an object in test mode."""
    state = {"resolved": "resolved", "cleared": "cleared"}.get(notice.type, "active")
    alert = render_alert(
        notice.alert, notice.key, notice.kind, notice.severity, notice.summary, notice.cause, notice.details,
        state, notice.raised_at, None if state == "active" else notice.at,
    )  # fmt: skip
    livemode = bool(notice.details.get("livemode", True))
    return _encode(notice.event, f"alert.{notice.type}", notice.at, livemode, alert)


async def begin_test(conn: Conn, keys: ReceiverKeys, receiver: str, actor: Actor) -> str:
    """Record that an operator tests a receiver; returns its URL. Raises as `read_url`."""
    async with conn.transaction():
        url = await read_url(conn, keys, receiver)
        await record_operation(conn, "alert_receiver_tested", actor, {"receiver": receiver})
    return url


async def run_test(client: WebhookClient, keys: ReceiverKeys, receiver: str, url: str) -> dict[str, Any]:
    """Send one event that means nothing, and say how that went."""
    now = time.time()
    event = new_id("alev", now)
    body = _encode(event, "alert.test", now, True, {"id": receiver, "object": "alert_receiver"})
    attempt = await send(client, keys, receiver, url, event, body)
    return {
        "id": receiver,
        "object": "alert_receiver_test",
        "event": event,
        "delivered": attempt.succeeded,
        "status": attempt.status,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
    }


def _encode(event: str, event_type: str, at: float, livemode: bool, subject: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        {
            "id": event,
            "object": "event",
            "type": event_type,
            "created": int(at),
            "livemode": livemode,
            "data": {"object": subject},
        }
    )


async def send(
    client: WebhookClient, keys: ReceiverKeys, receiver: str, url: str | None, event: str, body: bytes
) -> Attempt:
    """POST one event, signed as of now. Never raises; without a URL the attempt fails with `sealed_url`."""
    now = time.time()
    if url is None:
        return Attempt(now, 0, None, None, "sealed_url")
    secrets, signed_at = [keys.derive_secret(receiver)], int(now)
    headers = [
        ("Stripe-Signature", sign(secrets, signed_at, body)),
        ("webhook-id", event),
        ("webhook-timestamp", str(signed_at)),
        ("webhook-signature", sign_standard(secrets, event, signed_at, body)),
    ]
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    return await client.post(url, body, encoded, sent_at=now)
