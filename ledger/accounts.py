"""Accounts and their API keys: create, list, roll and revoke them.

A key's secret is shown once, when the key is created. The database holds its SHA-256 (a secret has 190 random
bits, so no slower hash is needed) and its last four characters.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from ledger.errors import InvalidParameter
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.wire.aggregates import AGGREGATES
from ledger.wire.published_types import PUBLISHED_TYPES
from ledger.wire.versions import LATEST_VERSION

SECRET_CHARACTERS = 32
NAME_LENGTH_MAX = 5000
OVERLAP_SECONDS_MAX = 30 * 86_400
SERVICE_ACTOR = "ledger"
"""Who acts when the service itself does, at the first start of an embedded database."""

KeyKind = Literal["sk", "rk", "pk"]
Mode = Literal["test", "live"]
EphemeralKind = Literal["ek"]

INTERNAL_SCOPES = (
    "catalog", "network", "publish", "audit", "personal_data", "projections", "webhooks", "keys", "clock",
    "feed", "ledger_feed", "alerts", "legal_holds",
)  # fmt: skip

_PERMISSIONS = {
    "account",
    "balance",
    "balance_transaction",
    "event",
    "payment_method",
    *(row.permission for row in AGGREGATES if row.permission),
    *(row.permission for row in PUBLISHED_TYPES),
}
SCOPES = (
    *(f"rak_{resource}_{access}" for resource in sorted(_PERMISSIONS) for access in ("read", "write")),
    *INTERNAL_SCOPES,
)
SCOPES_PAGE = "docs/operations.md, Accounts and keys"

_ALPHABET = string.ascii_letters + string.digits

# Each change is recorded in the statement that makes it. A worker logs it from there, but not what the
# service itself did: whoever starts it for the first time has just been shown the keys.
_CREATE_ACCOUNT = """
WITH operation AS (
    INSERT INTO ledger.operations (who, action, account, logged, details)
    VALUES (%(who)s::text, 'account_created', %(id)s, %(who)s::text = 'ledger',
            jsonb_strip_nulls(jsonb_build_object('reason', nullif(%(reason)s::text, '')))))
INSERT INTO ledger.accounts (id, name, platform, api_version)
VALUES (%(id)s, %(name)s, %(platform)s, %(api_version)s)
"""
_SELECT_ACCOUNT = """
SELECT id, name, platform, api_version, extract(epoch FROM created_at)::float8 FROM ledger.accounts
"""
_ACCOUNTS = f"""{_SELECT_ACCOUNT}
WHERE %(of)s::text IS NULL OR id = %(of)s OR platform = %(of)s
ORDER BY created_at, id
"""
_ACCOUNT = f"{_SELECT_ACCOUNT} WHERE id = %(id)s"
# `created` is shown in whole seconds, so it is filtered by them.
_CONNECTED = f"""{_SELECT_ACCOUNT}
WHERE platform = %(platform)s
AND (%(eq)s::bigint IS NULL OR floor(extract(epoch FROM created_at)) = %(eq)s)
AND (%(gt)s::bigint IS NULL OR floor(extract(epoch FROM created_at)) > %(gt)s)
AND (%(gte)s::bigint IS NULL OR floor(extract(epoch FROM created_at)) >= %(gte)s)
AND (%(lt)s::bigint IS NULL OR floor(extract(epoch FROM created_at)) < %(lt)s)
AND (%(lte)s::bigint IS NULL OR floor(extract(epoch FROM created_at)) <= %(lte)s)
"""
_NO_BOUNDS = dict.fromkeys(("eq", "gt", "gte", "lt", "lte"))
_CURSOR = "(SELECT created_at, id FROM ledger.accounts WHERE id = %(cursor)s)"
_CONNECTED_OLDER = f"""{_CONNECTED}
AND (%(cursor)s::text IS NULL OR (created_at, id) < {_CURSOR})
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_CONNECTED_NEWER = f"""{_CONNECTED}
AND (%(cursor)s::text IS NULL OR (created_at, id) > {_CURSOR})
ORDER BY created_at, id LIMIT %(limit)s
"""
_CREATE_KEY = """
WITH operation AS (
    INSERT INTO ledger.operations (who, logged, action, account, key, details)
    VALUES (%(who)s::text, %(who)s::text = 'ledger',
            CASE WHEN %(replaces)s::text IS NULL THEN 'key_created' ELSE 'key_rolled' END, %(account)s,
            %(id)s, jsonb_strip_nulls(jsonb_build_object(
                'kind', %(kind)s::text, 'mode', CASE WHEN %(livemode)s THEN 'live' ELSE 'test' END,
                'replaces', %(replaces)s::text, 'reason', nullif(%(reason)s::text, '')))))
INSERT INTO ledger.api_keys (id, account, kind, livemode, hash, last4, name, scopes, expires_at)
VALUES (%(id)s, %(account)s, %(kind)s, %(livemode)s, %(hash)s, %(last4)s, %(name)s, %(scopes)s,
        to_timestamp(%(expires_at)s))
"""
_KEYS = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM k.expires_at)::float8, a.api_version,
       extract(epoch FROM k.created_at)::float8, extract(epoch FROM k.last_used_at)::float8
FROM ledger.api_keys k JOIN ledger.accounts a ON a.id = k.account
"""
_KEYS_OF_ACCOUNT = f"""{_KEYS}
WHERE (%(account)s::text IS NULL OR k.account = %(account)s)
AND (%(livemode)s::boolean IS NULL OR k.livemode = %(livemode)s)
ORDER BY k.created_at, k.id
"""
_KEY_IN_REACH = f"""{_KEYS}
WHERE k.id = %(id)s AND k.livemode <= %(livemode)s AND %(account)s IN (a.id, a.platform)
"""
# One that has expired already is not revoked: a call that is repeated is recorded once.
_REVOKE_KEY = """
WITH operation AS (
    INSERT INTO ledger.operations (who, action, account, key, details)
    SELECT %(who)s, 'key_revoked', account, id,
           jsonb_strip_nulls(jsonb_build_object('reason', nullif(%(reason)s::text, ''))) FROM ledger.api_keys
    WHERE id = %(id)s AND (expires_at IS NULL OR expires_at > to_timestamp(%(now)s)))
UPDATE ledger.api_keys SET expires_at = least(expires_at, to_timestamp(%(now)s))
WHERE id = %(id)s RETURNING id
"""
_LOCK_KEY = """
SELECT account, kind, livemode, name, scopes, extract(epoch FROM expires_at)::float8
FROM ledger.api_keys WHERE id = %(id)s FOR UPDATE
"""
_EXPIRE_KEY = """
UPDATE ledger.api_keys SET expires_at = least(expires_at, to_timestamp(%(at)s))
WHERE id = %(id)s
"""


class Account(NamedTuple):
    """An account. `platform` is the account it is connected to, if any; `created_at` is in unix seconds."""

    id: str
    name: str
    platform: str | None
    api_version: str
    created_at: float


class ApiKey(NamedTuple):
    """A key as the database holds it. `expires_at` is in unix seconds; None: never.

    An ephemeral key is in no database: its `id` is that of its customer session, and it may read only
    objects of `customer`.
    """

    id: str
    account: str
    kind: KeyKind | EphemeralKind
    livemode: bool
    last4: str
    name: str
    scopes: tuple[str, ...]
    expires_at: float | None
    api_version: str
    customer: str | None = None

    @property
    def mode(self) -> Mode:
        """The mode as users name it."""
        return _mode_name(self.livemode)

    @property
    def masked(self) -> str:
        """What may be shown of the key, for example `sk_test_***AbCd`."""
        return f"{self.kind}_{self.mode}_***{self.last4}"

    def is_expired(self, now: float) -> bool:
        """Whether the key has expired at `now` (unix seconds of the ledger's clock)."""
        return self.expires_at is not None and self.expires_at <= now

    def get_status(self, now: float) -> str:
        """`active` or `expired` at `now` (unix seconds of the ledger's clock)."""
        return "expired" if self.is_expired(now) else "active"

    def allows(self, scope: str) -> bool:
        """Whether a restricted key has this scope. A write scope includes the read scope of the same
        resource (`rak_<resource>_<read|write>`)."""
        if scope in self.scopes:
            return True
        return scope.endswith("_read") and scope.removesuffix("read") + "write" in self.scopes


class KeySummary(NamedTuple):
    """A key and its times in unix seconds. `last_used_at` is None for a key never used, and late by up to
    LAST_USED_INTERVAL_SECONDS."""

    key: ApiKey
    created_at: float
    last_used_at: float | None

    def to_json(self, now: float) -> dict[str, Any]:
        """The key as HTTP and the shell show it at `now`, without its secret."""
        key = self.key
        return {
            "id": key.id,
            "account": key.account,
            "kind": key.kind,
            "mode": key.mode,
            "livemode": key.livemode,
            "masked": key.masked,
            "name": key.name,
            "scopes": list(key.scopes),
            "state": key.get_status(now),
            "created_at": self.created_at,
            "expires_at": key.expires_at,
            "last_used_at": self.last_used_at,
        }


async def create_account(
    conn: Conn, name: str, *, platform: str | None = None, who: str = SERVICE_ACTOR, reason: str = ""
) -> str:
    """Create an account, connected to the account `platform` if given; its id. `who` does it, and why
    (`reason`), is for the record.

    Raises InvalidParameter for an empty name, and when `platform` is not an account.
    """
    if not name.strip():
        raise InvalidParameter("The name of an account must not be empty.", param="name")
    _check_name(name)
    account = new_id("acct", time.time())
    values = {"id": account, "name": name, "platform": platform, "api_version": LATEST_VERSION}
    values |= {"who": who, "reason": reason}
    try:
        await conn.execute(_CREATE_ACCOUNT, values)
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{platform}'", param="platform") from None
    return account


async def list_accounts(conn: Conn, account: str | None = None) -> list[Account]:
    """The account `account` and those connected to it, or all accounts; oldest first."""
    return [Account(*row) for row in await fetch_all(conn, _ACCOUNTS.encode(), {"of": account})]


async def find_account(conn: Conn, account: str) -> Account | None:
    """The account, or None."""
    row = await fetch_one(conn, _ACCOUNT.encode(), {"id": account})
    return None if row is None else Account(*row)


async def list_connected(
    conn: Conn,
    platform: str,
    *,
    limit: int,
    created: Mapping[str, int],
    cursor: str | None = None,
    is_newer: bool = False,
) -> list[Account]:
    """At most `limit` accounts connected to `platform`: those older than the account `cursor`, newest first;
    or if `is_newer`, those newer than it, oldest first. `created`: bounds in unix seconds, by operator (eq,
    gt, gte, lt, lte)."""
    query = _CONNECTED_NEWER if is_newer else _CONNECTED_OLDER
    values = {**_NO_BOUNDS, **created, "platform": platform, "cursor": cursor, "limit": limit}
    return [Account(*row) for row in await fetch_all(conn, query.encode(), values)]


async def create_key(
    conn: Conn,
    account: str,
    kind: KeyKind,
    *,
    livemode: bool,
    name: str,
    scopes: Sequence[str] = (),
    expires_at: float | None = None,
    who: str = SERVICE_ACTOR,
    reason: str = "",
    replaces: str | None = None,
) -> tuple[str, str]:
    """Create a key: (its id, its secret, which is shown once). `expires_at` is in unix seconds; None: never.
    `who` does it, why (`reason`), and the id of the key that it replaces are for the record.

    Raises InvalidParameter for an unknown account, or a name that cannot be stored.
    """
    _check_name(name)
    random_part = "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))
    secret = f"{kind}_{_mode_name(livemode)}_{random_part}"
    key_id = new_id("key", time.time())
    try:
        await conn.execute(
            _CREATE_KEY,
            {
                "id": key_id,
                "account": account,
                "kind": kind,
                "livemode": livemode,
                "hash": hash_secret(secret),
                "last4": secret[-4:],
                "name": name,
                "scopes": list(scopes),
                "expires_at": expires_at,
                "who": who,
                "reason": reason,
                "replaces": replaces,
            },
        )
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{account}'", param="account") from None
    return key_id, secret


async def roll_key(
    conn: Conn, key_id: str, *, overlap_seconds: int, now: float, who: str = SERVICE_ACTOR, reason: str = ""
) -> tuple[str, str]:
    """Replace a key: (id, secret) of a new key with the same rights. The old key expires `overlap_seconds`
    after `now` (unix seconds of the ledger's clock), or earlier if it was to expire earlier.

    Raises InvalidParameter when there is no such key, or it has expired.
    """
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK_KEY, {"id": key_id})
        if row is None:
            raise InvalidParameter(f"No such key: '{key_id}'", code="resource_missing", param="id")
        account, kind, livemode, name, scopes, expires_at = row
        if expires_at is not None and expires_at <= now:
            raise InvalidParameter(f"The key '{key_id}' has expired; create a new one.", param="id")
        new_key = await create_key(
            conn,
            account,
            kind,
            livemode=livemode,
            name=name,
            scopes=scopes,
            expires_at=expires_at,
            who=who,
            reason=reason,
            replaces=key_id,
        )
        await conn.execute(_EXPIRE_KEY, {"id": key_id, "at": now + overlap_seconds})
    return new_key


async def list_keys(conn: Conn, account: str | None = None, *, mode: Mode | None = None) -> list[KeySummary]:
    """The keys of the account `account`, or of all accounts, in `mode`, or in both; oldest first."""
    livemode = None if mode is None else mode == "live"
    rows = await fetch_all(conn, _KEYS_OF_ACCOUNT.encode(), {"account": account, "livemode": livemode})
    return [_to_key_summary(row) for row in rows]


async def find_key(conn: Conn, key_id: str, *, account: str, livemode: bool) -> KeySummary | None:
    """The key, if it belongs to `account` or an account connected to it; None otherwise, and for a live-mode
    key unless `livemode`."""
    row = await fetch_one(
        conn, _KEY_IN_REACH.encode(), {"id": key_id, "account": account, "livemode": livemode}
    )
    return None if row is None else _to_key_summary(row)


async def revoke_key(
    conn: Conn, key_id: str, *, now: float, who: str = SERVICE_ACTOR, reason: str = ""
) -> None:
    """Make a key expire at `now` (unix seconds of the ledger's clock), unless it has expired before.

    Raises InvalidParameter when there is no such key.
    """
    values = {"id": key_id, "now": now, "who": who, "reason": reason}
    if await fetch_one(conn, _REVOKE_KEY, values) is None:
        raise InvalidParameter(f"No such key: '{key_id}'", param="id")


def hash_secret(secret: str) -> bytes:
    """What the database holds in place of a key's secret."""
    return hashlib.sha256(secret.encode()).digest()


def _check_name(name: str) -> None:
    """Raises InvalidParameter for a name that is too long, or that Postgres and JSON cannot store."""
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidParameter(f"A name has at most {NAME_LENGTH_MAX} characters.", param="name")
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise InvalidParameter("The name is not valid UTF-8 text.", param="name")


def _mode_name(livemode: bool) -> Mode:
    return "live" if livemode else "test"


def to_api_key(row: Sequence[Any]) -> ApiKey:
    """The key of a row: id, account, kind, livemode, last4, name, scopes, expires_at, api_version."""
    key_id, account, kind, livemode, last4, name, scopes, expires_at, api_version = row
    return ApiKey(key_id, account, kind, livemode, last4, name, tuple(scopes), expires_at, api_version)


def _to_key_summary(row: TupleRow) -> KeySummary:
    *key, created_at, last_used_at = row
    return KeySummary(to_api_key(key), created_at, last_used_at)
