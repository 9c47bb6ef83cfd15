"""Send a delivery again, because somebody asked: it is due at once, with the whole schedule before it.

The delivery's row is used again: there is one for each Event and endpoint, its earlier attempts stay and
their numbers go on. An attempt under way is not joined by another one: the next is made only if it fails.
An endpoint whose breaker is open, or that asked for a pause, is tried at once.
Each retry is recorded in `ledger.operations` by the statement that makes it; a worker logs it from there.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import InvalidWebhookState, UnknownObject
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec
from ledger.webhooks.deliveries import RENEW
from ledger.webhooks.history.owners import OF_OWNER, bind_owner, read_endpoint
from ledger.webhooks.schedule.breaker import probe_now
from ledger.webhooks.subscriptions import FeedEvent, Owner

TRIES_MAX = 30_000
"""Attempts of one delivery after which it is not retried any more: their numbers have 15 bits."""

_LOCK = f"""
SELECT d.state, d.endpoint, d.tries FROM webhooks.deliveries d
WHERE d.id = %(id)s AND {OF_OWNER} FOR UPDATE OF d
"""  # noqa: S608 (constants)
_RECORD = """
INSERT INTO ledger.operations (who, action, account, details)
SELECT %(who)s, 'webhook_delivery_retried', %(owner)s, jsonb_build_object(
    'delivery', renewed.id, 'event_id', renewed.event, 'endpoint', renewed.endpoint,
    'mode', CASE WHEN renewed.livemode THEN 'live' ELSE 'test' END)
FROM renewed RETURNING details ->> 'delivery'
"""
_RETRY = f"""
WITH renewed AS (
    UPDATE webhooks.deliveries d SET {RENEW} WHERE d.id = %(id)s
    RETURNING d.id, d.event, d.endpoint, d.livemode)
{_RECORD}
"""  # noqa: S608
_SEND = f"""
WITH renewed AS (
    INSERT INTO webhooks.deliveries AS d
        (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
    VALUES (%(id)s, %(event)s, %(endpoint)s, %(account)s, %(livemode)s, %(created)s, %(position)s,
            %(ordinal)s, %(type)s, to_timestamp(%(now)s))
    ON CONFLICT ON CONSTRAINT deliveries_once DO UPDATE SET {RENEW} WHERE d.tries < {TRIES_MAX}
    RETURNING d.id, d.event, d.endpoint, d.livemode)
{_RECORD}
"""  # noqa: S608


class Request(NamedTuple):
    """Who asks for a retry (a key's id, or user@host of a shell), and when (`now`, unix seconds)."""

    who: str
    now: float


async def retry_delivery(
    conn: Conn, codec: Codec, delivery_id: str, owner: Owner | None, request: Request
) -> None:
    """Make the delivery due again, in the caller's transaction. Raises UnknownObject, UnreadableRecord of its
    endpoint, InvalidWebhookState; then nothing has changed."""
    row = await fetch_one(conn, _LOCK, {"id": delivery_id, **bind_owner(owner)})
    if row is None:
        raise UnknownObject("delivery", delivery_id)
    state, endpoint_id, tries = row
    if state == "forwarded":
        raise InvalidWebhookState(
            f"The delivery '{delivery_id}' went to a listener of the Stripe CLI. To send it the Event again: "
            "stripe events resend"
        )
    endpoint = await read_endpoint(conn, codec, endpoint_id)
    assert endpoint is not None, "a delivery has an endpoint"
    _check_reachable(endpoint)
    if tries >= TRIES_MAX:
        raise _tries_error(delivery_id)
    parameters = {"id": delivery_id, "now": request.now, "who": request.who, "owner": endpoint.account}
    await conn.execute(_RETRY, parameters)
    await probe_now(conn, endpoint_id, request.now)


async def send_event(conn: Conn, endpoint: WebhookEndpoint, event: FeedEvent, request: Request) -> str:
    """Make the Event due to the endpoint, whatever its types are and when it was created, in the caller's
    transaction; returns the id of the delivery. Raises InvalidWebhookState; then nothing has changed."""
    _check_reachable(endpoint)
    parameters = {
        "id": new_id("dlv", request.now), "event": event.id, "endpoint": endpoint.id,
        "account": event.account, "livemode": event.livemode, "created": event.created,
        "position": event.position, "ordinal": event.ordinal, "type": event.type, "now": request.now,
        "who": request.who, "owner": endpoint.account,
    }  # fmt: skip
    row = await fetch_one(conn, _SEND, parameters)
    if row is None:
        raise _tries_error(event.id)
    await probe_now(conn, endpoint.id, request.now)
    return str(row[0])


def _check_reachable(endpoint: WebhookEndpoint) -> None:
    """Raises InvalidWebhookState for an endpoint to which nothing is sent."""
    if endpoint.deleted:
        raise InvalidWebhookState(
            f"The webhook endpoint '{endpoint.id}' is deleted: nothing is sent to it any more."
        )
    if endpoint.disabled:
        raise InvalidWebhookState(
            f"The webhook endpoint '{endpoint.id}' is disabled: nothing is sent to it until it is enabled."
        )


def _tries_error(what: str) -> InvalidWebhookState:
    return InvalidWebhookState(f"'{what}' was attempted {TRIES_MAX} times and is not sent again.")
