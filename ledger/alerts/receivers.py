"""Receivers: where operators want to be told of alerts. Their URLs are sealed, their secrets never stored.

A receiver's URL is encrypted under the service key and bound to the receiver's id; only its scheme and host
are shown. Its secret is derived as those of webhook endpoints are, from its id, and shown once.
"""

from __future__ import annotations

import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.alerts.records import Actor, record_operation
from ledger.domain.webhook_urls import check_url
from ledger.errors import InvalidAlertState, UnknownObject
from ledger.ids import new_id
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.secrets import WebhookSecrets

RECEIVERS_MAX = 16
DESCRIPTION_LENGTH_MAX = 200
_NONCE_BYTES = 12

_INSERT = """
INSERT INTO alerts.receivers (id, host, sealed_url, description)
VALUES (%(id)s, %(host)s, %(sealed_url)s, %(description)s)
"""
_SELECT = """
SELECT r.id, r.host, r.description, extract(epoch FROM r.created_at)::float8,
       (SELECT count(*) FROM alerts.notices n WHERE n.receiver = r.id AND n.state = 'pending'),
       extract(epoch FROM last.attempted_at)::float8, last.status, last.error, last.duration_ms
FROM alerts.receivers r
LEFT JOIN LATERAL (
    SELECT * FROM alerts.notices n WHERE n.receiver = r.id AND n.attempted_at IS NOT NULL
    ORDER BY n.attempted_at DESC LIMIT 1) AS last ON true
WHERE r.removed_at IS NULL AND (%(id)s::text IS NULL OR r.id = %(id)s)
ORDER BY r.id
"""
_LOCK_TABLE = "LOCK TABLE alerts.receivers IN SHARE ROW EXCLUSIVE MODE"
_COUNT = "SELECT count(*) FROM alerts.receivers WHERE removed_at IS NULL"
_REMOVE = """
UPDATE alerts.receivers SET removed_at = now(), sealed_url = NULL
WHERE id = %(id)s AND removed_at IS NULL RETURNING id
"""
_DROP_NOTICES = "UPDATE alerts.notices SET state = 'dropped' WHERE receiver = %(id)s AND state = 'pending'"
_SEALED_URL = "SELECT sealed_url FROM alerts.receivers WHERE id = %(id)s AND removed_at IS NULL"


class ReceiverKeys:
    """Seals the URLs of receivers, and derives their secrets, from the service key."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._cipher = AESGCM(ServiceKeys.of(service_keys).derive(b"ledger/alerts/receiver/1"))
        self._secrets = WebhookSecrets(service_keys)

    def seal(self, receiver: str, url: str) -> bytes:
        """The URL as it is stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, url.encode(), receiver.encode())

    def open(self, receiver: str, sealed: bytes) -> str | None:
        """The URL; None if it was sealed under another key, or for another receiver."""
        try:
            return self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], receiver.encode()
            ).decode()
        except InvalidTag:
            return None

    def derive_secret(self, receiver: str) -> str:
        """The secret that signs what a receiver is sent."""
        return self._secrets.derive(receiver)


async def add_receiver(
    conn: Conn, keys: ReceiverKeys, url: str, description: str, actor: Actor
) -> dict[str, Any]:
    """Add a receiver, in one transaction with its record; returns it with its secret. Raises
    InvalidParameter for the URL, InvalidAlertState when there are RECEIVERS_MAX."""
    check_url(url, livemode=False)
    receiver = new_id("alrc", time.time())
    parts = urlsplit(url)
    parameters = {
        "id": receiver,
        "host": f"{parts.scheme}://{parts.netloc}",
        "sealed_url": keys.seal(receiver, url),
        "description": description,
    }
    async with conn.transaction():
        await conn.execute(_LOCK_TABLE)
        row = await fetch_one(conn, _COUNT)
        if row is not None and row[0] >= RECEIVERS_MAX:
            raise InvalidAlertState(f"There are {RECEIVERS_MAX} receivers: remove one first.")
        await conn.execute(_INSERT, parameters)
        await record_operation(conn, "alert_receiver_added", actor, {"receiver": receiver})
        added = await get_receiver(conn, receiver)
    return {**added, "secret": keys.derive_secret(receiver)}


async def list_receivers(conn: Conn, receiver: str | None = None) -> list[dict[str, Any]]:
    """All receivers, or the one with this id. Raises psycopg.Error."""
    return [
        {
            "id": row[0],
            "object": "alert_receiver",
            "host": row[1],
            "description": row[2],
            "created_at": row[3],
            "pending": row[4],
            "last_attempt": None
            if row[5] is None
            else {"at": row[5], "status": row[6], "error": row[7], "duration_ms": row[8]},
        }
        for row in await fetch_all(conn, _SELECT, {"id": receiver})
    ]


async def get_receiver(conn: Conn, receiver: str) -> dict[str, Any]:
    """A receiver. Raises UnknownObject."""
    found = await list_receivers(conn, receiver)
    if not found:
        raise UnknownObject("alert receiver", receiver)
    return found[0]


async def remove_receiver(conn: Conn, receiver: str, actor: Actor) -> dict[str, Any]:
    """Send nothing more to a receiver, and forget its URL. Raises UnknownObject."""
    async with conn.transaction():
        if await fetch_one(conn, _REMOVE, {"id": receiver}) is None:
            raise UnknownObject("alert receiver", receiver)
        await conn.execute(_DROP_NOTICES, {"id": receiver})
        await record_operation(conn, "alert_receiver_removed", actor, {"receiver": receiver})
    return {"id": receiver, "object": "alert_receiver", "deleted": True}


async def read_url(conn: Conn, keys: ReceiverKeys, receiver: str) -> str:
    """The URL of a receiver. Raises UnknownObject; InvalidAlertState if it was sealed under another key."""
    row = await fetch_one(conn, _SEALED_URL, {"id": receiver})
    if row is None:
        raise UnknownObject("alert receiver", receiver)
    url = keys.open(receiver, row[0])
    if url is None:
        raise InvalidAlertState(
            f"The URL of {receiver} cannot be read with this service key: remove it, and add it again."
        )
    return url
