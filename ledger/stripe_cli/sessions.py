"""Sessions of the Stripe CLI in the database: open one, connect to it, keep its cursor, delete it.

A session belongs to the account and mode of the API key that opened it and ends with that key, or
SESSION_SECONDS_MAX after nothing was connected to it any more. Its cursor only moves forward, whatever an
older connection does that has not noticed yet that it is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.errors import RateLimited
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.stripe_cli.secrets import hash_websocket_id

SESSIONS_PER_ACCOUNT_MAX = 32
"""Sessions that an account may have open, in each mode."""
SESSION_SECONDS_MAX = 600
"""How long a session without a connection is kept: a restart of the service takes less."""
IDLE_SECONDS_MIN = 30
"""A session without a connection for so long makes room for a new one: the CLI is back after 1 s or 10 s."""
RESENDS_PER_SESSION_MAX = 1000
REQUEST_LOGS_CHANNEL = "ledger_request_logs"
"""A notification on it tells all processes that a session for request logs was opened, or is connected."""

# Sessions of one account are counted one after another.
_LOCK_ACCOUNT = "SELECT pg_advisory_xact_lock(hashtextextended('stripe_cli.sessions ' || %(account)s, 0))"
_COUNT = "SELECT count(*) FROM stripe_cli.sessions WHERE account = %(account)s AND livemode = %(livemode)s"
_DELETE_IDLE = """
DELETE FROM stripe_cli.sessions
WHERE account = %(account)s AND livemode = %(livemode)s
AND seen_at < now() - %(idle)s * interval '1 second'
"""
_INSERT = """
INSERT INTO stripe_cli.sessions
    (id, websocket_hash, account, livemode, key, device, features, filters, position)
SELECT %(id)s, %(hash)s, %(account)s, %(livemode)s, %(key)s, %(device)s, %(features)s::text[],
       %(filters)s::jsonb, h.position
FROM ledger.head h
ON CONFLICT ON CONSTRAINT sessions_websocket DO NOTHING
"""
_SELECT_VERSION = "SELECT api_version FROM ledger.accounts WHERE id = %(account)s"
_CONNECT = """
UPDATE stripe_cli.sessions s SET connection = %(connection)s, seen_at = now()
FROM ledger.api_keys k
WHERE s.websocket_hash = %(hash)s AND s.seen_at > now() - %(seconds)s * interval '1 second'
AND k.id = s.key AND (k.expires_at IS NULL OR k.expires_at > to_timestamp(%(now)s))
RETURNING s.id, s.account, s.livemode, s.key, s.device, s.features, s.filters::text, s.connection,
          s.position, s.acknowledged, s.missed
"""
_SELECT_STATES = """
SELECT s.id, s.connection, k.expires_at IS NULL OR k.expires_at > to_timestamp(%(now)s),
       coalesce((SELECT max(r.id) FROM stripe_cli.resends r WHERE r.session = s.id), 0)
FROM stripe_cli.sessions s JOIN ledger.api_keys k ON k.id = s.key
WHERE s.id = ANY (%(sessions)s::text[])
"""
_TOUCH = """
UPDATE stripe_cli.sessions s SET seen_at = now()
FROM unnest(%(sessions)s::text[], %(connections)s::text[]) AS open(id, connection)
WHERE s.id = open.id AND s.connection = open.connection
"""
_SAVE = """
UPDATE stripe_cli.sessions
SET position = %(position)s, acknowledged = %(acknowledged)s::text[], missed = %(missed)s, seen_at = now()
WHERE id = %(id)s AND position <= %(position)s
"""
_NOTIFY = "SELECT pg_notify(%s, '')"
_DELETE_ENDED = """
DELETE FROM stripe_cli.sessions s USING ledger.api_keys k
WHERE k.id = s.key AND (s.seen_at < now() - %(seconds)s * interval '1 second'
                        OR k.expires_at <= to_timestamp(%(now)s))
"""
# The listeners of the Event's account, and those of the platform that it is connected to. An Event past the
# feed's days is sent to nobody.
_RESEND = """
INSERT INTO stripe_cli.resends (session, event, created)
SELECT s.id, f.id, f.created
FROM ledger.accounts a
JOIN projections.feed f
    ON f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
    AND f.id = %(event)s AND f.account = a.id AND f.livemode = %(livemode)s
JOIN stripe_cli.sessions s ON s.account = ANY (ARRAY[a.id, a.platform]) AND s.livemode = f.livemode
WHERE a.id = %(account)s AND s.features && '{webhooks,v2_events}'
AND s.seen_at > now() - %(seconds)s * interval '1 second'
AND (SELECT count(*) FROM stripe_cli.resends r WHERE r.session = s.id) < %(limit)s
"""


class Session(NamedTuple):
    """A session as it was when something connected to it; the columns are described in migration 0026.

    position, acknowledged, missed  where its cursor was then
    """

    id: str
    account: str
    livemode: bool
    key: str
    device: str
    features: tuple[str, ...]
    filters: Mapping[str, Sequence[str]]
    connection: str
    position: int
    acknowledged: frozenset[str]
    missed: int


class SessionState(NamedTuple):
    """What may end a connection, and what it may have to send: as the database has it now.

    connection  the newest of the session
    key_valid   whether the session's API key is
    resend      id of the newest resend that it has not acknowledged; 0 for none
    """

    connection: str | None
    key_valid: bool
    resend: int


class Cursor(NamedTuple):
    """What a session has acknowledged: all Events up to `position`, and these messages after it; `missed`
    Events were skipped, and it does not know yet."""

    position: int
    acknowledged: Collection[str]
    missed: int


async def create_session(
    conn: Conn,
    *,
    websocket_id: str,
    account: str,
    livemode: bool,
    key: str,
    device: str,
    features: Sequence[str],
    filters: Mapping[str, Sequence[str]],
    now: float,
) -> None:
    """Open a session that is sent the Events after now. Repeating it with the same secret id changes nothing.
    Raises RateLimited if the account has too many."""
    owner = {"account": account, "livemode": livemode}
    async with conn.transaction():
        await conn.execute(_LOCK_ACCOUNT, owner)
        if await _count(conn, owner) >= SESSIONS_PER_ACCOUNT_MAX:
            await conn.execute(_DELETE_IDLE, {**owner, "idle": IDLE_SECONDS_MIN})
            if await _count(conn, owner) >= SESSIONS_PER_ACCOUNT_MAX:
                raise RateLimited(
                    f"This account has {SESSIONS_PER_ACCOUNT_MAX} sessions of the Stripe CLI open, which is "
                    "the most that it may have. Stop one of them first.",
                    code="rate_limit",
                )
        row = {
            **owner,
            "id": new_id("wsl", now),
            "hash": hash_websocket_id(websocket_id),
            "key": key,
            "device": device,
            "features": list(features),
            "filters": msgspec.json.encode(filters).decode(),
        }
        await conn.execute(_INSERT, row)
        await _announce(conn, features)


async def read_default_version(conn: Conn, account: str) -> str:
    """The account's API version."""
    row = await fetch_one(conn, _SELECT_VERSION, {"account": account})
    assert row is not None, "an account of a key exists"
    version: str = row[0]
    return version


async def connect_session(conn: Conn, websocket_id: str, connection: str, now: float) -> Session | None:
    """The session with this secret id, which from now on obeys the connection of this name; None if there is
    none or it has ended at `now` (unix seconds)."""
    parameters = {
        "hash": hash_websocket_id(websocket_id),
        "connection": connection,
        "seconds": SESSION_SECONDS_MAX,
        "now": now,
    }
    row = await fetch_one(conn, _CONNECT, parameters)
    if row is None:
        return None
    session_id, account, livemode, key, device, features, filters, name, position, acknowledged, missed = row
    await _announce(conn, features)
    return Session(
        session_id,
        account,
        livemode,
        key,
        device,
        tuple(features),
        msgspec.json.decode(filters),
        name,
        position,
        frozenset(acknowledged),
        missed,
    )


async def read_states(conn: Conn, sessions: Collection[str], now: float) -> dict[str, SessionState]:
    """The state of each of these sessions that still exists, by id; `now` in unix seconds."""
    rows = await fetch_all(conn, _SELECT_STATES, {"sessions": list(sessions), "now": now})
    return {session: SessionState(*state) for session, *state in rows}


async def touch_sessions(conn: Conn, connections: Mapping[str, str]) -> None:
    """Keep these sessions, by id with the name of their connection: something is connected to them."""
    await conn.execute(_TOUCH, {"sessions": list(connections), "connections": list(connections.values())})


async def save_cursor(conn: Conn, session: Session, cursor: Cursor) -> None:
    """Store how far a session is, unless a newer connection is further: what it has acknowledged to an older
    one it has acknowledged."""
    parameters = {
        "id": session.id,
        "position": cursor.position,
        "acknowledged": sorted(cursor.acknowledged),
        "missed": cursor.missed,
    }
    await conn.execute(_SAVE, parameters)


async def delete_ended(conn: Conn, now: float) -> int:
    """Delete the sessions that have ended at `now` (unix seconds); returns how many."""
    return (await conn.execute(_DELETE_ENDED, {"seconds": SESSION_SECONDS_MAX, "now": now})).rowcount


async def resend(conn: Conn, account: str, livemode: bool, event_id: str) -> int:
    """Send an Event of `account` once more to each listener of the Stripe CLI that gets its Events, whichever
    process it is connected to; returns to how many."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "event": event_id,
        "seconds": SESSION_SECONDS_MAX,
        "limit": RESENDS_PER_SESSION_MAX,
    }
    return (await conn.execute(_RESEND, parameters)).rowcount


async def _announce(conn: Conn, features: Sequence[str]) -> None:
    if "request_logs" in features:
        await conn.execute(_NOTIFY, (REQUEST_LOGS_CHANNEL,))


async def _count(conn: Conn, owner: Mapping[str, Any]) -> int:
    row = await fetch_one(conn, _COUNT, owner)
    assert row is not None
    return int(row[0])
