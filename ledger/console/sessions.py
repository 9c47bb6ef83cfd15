"""Sessions of the console: a browser acts with an API key for some hours without holding it.

A session is opened with a key, or with a link that works once. Its secret is in a cookie, a link's in the
link; the database holds their SHA-256, as of keys. A session has the rights, the account and the mode of its
key, and ends with it, at its own time, or when its user signs out. Times are unix seconds of the ledger's
clock. Who opened a session is recorded in `ledger.operations`.
"""

from __future__ import annotations

import secrets
from typing import Literal

from ledger.accounts import INTERNAL_SCOPES, SCOPES, hash_secret
from ledger.postgres.connections import Conn, fetch_one

SECRET_BYTES = 32
SESSION_PREFIX = "console_"
LINK_PREFIX = "link_"
LINK_SECONDS = 600
OPERATOR_SCOPES = (*INTERNAL_SCOPES, *(scope for scope in SCOPES if scope.endswith("_read")))
"""What whoever has a shell at the deployment may do anyway, and what the public API shows to read."""

OpenedWith = Literal["key", "link"]

_OPEN = """
WITH ended AS (DELETE FROM ledger.console_sessions WHERE expires_at <= to_timestamp(%(now)s)),
opened AS (
    INSERT INTO ledger.console_sessions (hash, key, expires_at)
    VALUES (%(hash)s, %(key)s, to_timestamp(%(now)s + %(seconds)s)) RETURNING key)
INSERT INTO ledger.operations (who, action, account, key, details)
SELECT k.id, 'console_session_opened', k.account, k.id, jsonb_build_object('opened_with', %(with)s::text)
FROM opened JOIN ledger.api_keys k ON k.id = opened.key
"""
_CREATE_LINK = """
WITH ended AS (DELETE FROM ledger.console_links WHERE expires_at <= to_timestamp(%(now)s))
INSERT INTO ledger.console_links (hash, key, expires_at)
VALUES (%(hash)s, %(key)s, to_timestamp(%(now)s + %(seconds)s))
"""
# Of two that use a link at once, one gets the row.
_TAKE_LINK = """
WITH link AS (DELETE FROM ledger.console_links WHERE hash = %(hash)s RETURNING key, expires_at)
SELECT link.key FROM link JOIN ledger.api_keys k ON k.id = link.key
WHERE link.expires_at > to_timestamp(%(now)s)
AND (k.expires_at IS NULL OR k.expires_at > to_timestamp(%(now)s))
"""
_END = "DELETE FROM ledger.console_sessions WHERE hash = %(hash)s"
SELECT_SESSION_KEY = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM least(k.expires_at, s.expires_at))::float8, a.api_version
FROM ledger.console_sessions s
JOIN ledger.api_keys k ON k.id = s.key JOIN ledger.accounts a ON a.id = k.account
WHERE s.hash = %s
"""
"""The key of the session with this hash, which expires when the session does: as `accounts.to_api_key`."""


async def open_session(conn: Conn, key_id: str, opened_with: OpenedWith, *, seconds: int, now: float) -> str:
    """Open a session of a key for `seconds`; its secret."""
    secret = SESSION_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    values = {"hash": hash_secret(secret), "key": key_id, "seconds": seconds, "now": now, "with": opened_with}
    await conn.execute(_OPEN, values)
    return secret


async def open_session_by_link(conn: Conn, link: str, *, seconds: int, now: float) -> str | None:
    """Use a link up and open a session of its key; its secret. None for a link that is not known, was used or
    has expired, or whose key has."""
    async with conn.transaction():
        row = await fetch_one(conn, _TAKE_LINK, {"hash": hash_secret(link), "now": now})
        if row is None:
            return None
        return await open_session(conn, row[0], "link", seconds=seconds, now=now)


async def create_link(conn: Conn, key_id: str, *, now: float) -> str:
    """The secret of a link that opens one session of a key within LINK_SECONDS."""
    link = LINK_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    values = {"hash": hash_secret(link), "key": key_id, "seconds": LINK_SECONDS, "now": now}
    await conn.execute(_CREATE_LINK, values)
    return link


async def end_session(conn: Conn, secret: str) -> None:
    """End a session, unless it has ended before."""
    await conn.execute(_END, {"hash": hash_secret(secret)})
