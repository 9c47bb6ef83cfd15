"""Accounts and their API keys: made, listed, revoked, and looked up for every request.

A key is shown once, when it is made; the database holds its SHA-256 (a key has 190 random bits, so
nothing slower is needed) and its last four characters. A process remembers a key for
`CACHE_SECONDS`, so a revocation holds everywhere within that time.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, TypeVar

import psycopg
from psycopg.rows import TupleRow

from ledger.errors import InvalidParameter
from ledger.ids import new_id
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_all, fetch_one, query_timeout
from ledger.wire.aggregates import AGGREGATES
from ledger.wire.versions import LATEST_VERSION

CACHE_SECONDS = 1.0
CACHE_SIZE_MAX = 10_000
LAST_USED_INTERVAL_SECONDS = 5.0
LAST_USED_TIMEOUT_SECONDS = 2.0
SECRET_CHARACTERS = 32

Value = TypeVar("Value")
KeyKind = Literal["sk", "rk", "pk"]
EphemeralKind = Literal["ek"]

INTERNAL_SCOPES = ("catalog", "network", "publish", "audit", "projections", "webhooks", "keys", "clock")

_PERMISSIONS = {"balance_transaction", "event", *(row.permission for row in AGGREGATES if row.permission)}
SCOPES = (
    *(f"rak_{resource}_{access}" for resource in sorted(_PERMISSIONS) for access in ("read", "write")),
    *INTERNAL_SCOPES,
)

_ALPHABET = string.ascii_letters + string.digits

_CREATE_ACCOUNT = """
INSERT INTO ledger.accounts (id, name, platform, api_version)
VALUES (%(id)s, %(name)s, %(platform)s, %(api_version)s)
"""
_ACCOUNTS = """
SELECT id, name, platform, api_version, extract(epoch FROM created_at)::float8 FROM ledger.accounts
WHERE %(of)s::text IS NULL OR id = %(of)s OR platform = %(of)s
ORDER BY created_at, id
"""
_PLATFORM = "SELECT platform FROM ledger.accounts WHERE id = %s"
_CREATE_KEY = """
INSERT INTO ledger.api_keys (id, account, kind, livemode, hash, last4, name, scopes, expires_at)
VALUES (%(id)s, %(account)s, %(kind)s, %(livemode)s, %(hash)s, %(last4)s, %(name)s, %(scopes)s,
        to_timestamp(%(expires_at)s))
"""
_KEYS = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM k.expires_at)::float8, a.api_version,
       extract(epoch FROM k.created_at)::float8, extract(epoch FROM k.last_used_at)::float8
FROM ledger.api_keys k JOIN ledger.accounts a ON a.id = k.account
WHERE %(account)s::text IS NULL OR k.account = %(account)s
ORDER BY k.created_at, k.id
"""
_KEY = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM k.expires_at)::float8, a.api_version
FROM ledger.api_keys k JOIN ledger.accounts a ON a.id = k.account
WHERE k.hash = %s
"""
_REVOKE_KEY = """
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
_UPDATE_LAST_USED = """
UPDATE ledger.api_keys k SET last_used_at = greatest(k.last_used_at, to_timestamp(used.at))
FROM unnest(%(ids)s::text[], %(times)s::float8[]) AS used(id, at) WHERE k.id = used.id
"""


class ApiKey(NamedTuple):
    """A key as the database knows it. `expires_at` is in unix seconds; None: never.

    An ephemeral key is in no database: its `id` is that of the session it came from, and it reads
    nothing but `customer`.
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
    def masked(self) -> str:
        mode = "live" if self.livemode else "test"
        return f"{self.kind}_{mode}_***{self.last4}"

    def is_expired(self, now: float) -> bool:
        """Whether it is good for nothing any more, `now` by the one clock."""
        return self.expires_at is not None and self.expires_at <= now

    def get_status(self, now: float) -> str:
        return "expired" if self.is_expired(now) else "active"

    def allows(self, scope: str) -> bool:
        """A restricted key allows what it names; write includes read (`rak_<resource>_<read|write>`)."""
        if scope in self.scopes:
            return True
        return scope.endswith("_read") and scope.removesuffix("read") + "write" in self.scopes


class KeySummary(NamedTuple):
    """A key as it is listed. Unix seconds; `last_used_at` is None for one never used, and may lag by the
    interval at which processes tell of it."""

    key: ApiKey
    created_at: float
    last_used_at: float | None


async def create_account(conn: Conn, name: str, *, platform: str | None = None) -> str:
    """A new account's id. Raises InvalidParameter when `platform` is not an account."""
    account = new_id("acct", time.time())
    values = {"id": account, "name": name, "platform": platform, "api_version": LATEST_VERSION}
    try:
        await conn.execute(_CREATE_ACCOUNT, values)
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{platform}'", param="platform") from None
    return account


async def list_accounts(conn: Conn, account: str | None = None) -> list[TupleRow]:
    """(id, name, platform, api_version, created_at in unix seconds), oldest first: the account `account`
    and those connected to it, or all."""
    return await fetch_all(conn, _ACCOUNTS, {"of": account})


async def create_key(
    conn: Conn,
    account: str,
    kind: KeyKind,
    *,
    livemode: bool,
    name: str,
    scopes: Sequence[str] = (),
    expires_at: float | None = None,
) -> tuple[str, str]:
    """(key id, the secret to show once). `expires_at` in unix seconds; None: never. Raises
    InvalidParameter for an unknown account."""
    mode = "live" if livemode else "test"
    secret = f"{kind}_{mode}_" + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_CHARACTERS))
    key_id = new_id("key", time.time())
    try:
        await conn.execute(
            _CREATE_KEY,
            {
                "id": key_id,
                "account": account,
                "kind": kind,
                "livemode": livemode,
                "hash": _hash_secret(secret),
                "last4": secret[-4:],
                "name": name,
                "scopes": list(scopes),
                "expires_at": expires_at,
            },
        )
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{account}'", param="account") from None
    return key_id, secret


async def roll_key(conn: Conn, key_id: str, *, overlap_seconds: int, now: float) -> tuple[str, str]:
    """(id, secret) of a key that may do what this one may, which ends after the overlap, at once with 0.
    `now` by the one clock.

    Raises InvalidParameter when there is none of that id, or it has expired.
    """
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK_KEY, {"id": key_id})
        if row is None:
            raise InvalidParameter(f"No such key: '{key_id}'", code="resource_missing", param="id")
        account, kind, livemode, name, scopes, expires_at = row
        if expires_at is not None and expires_at <= now:
            raise InvalidParameter(f"The key '{key_id}' has expired; create a new one.", param="id")
        new_key = await create_key(
            conn, account, kind, livemode=livemode, name=name, scopes=scopes, expires_at=expires_at
        )
        await conn.execute(_EXPIRE_KEY, {"id": key_id, "at": now + overlap_seconds})
    return new_key


async def list_keys(conn: Conn, account: str | None = None) -> list[KeySummary]:
    """The account's keys, or all, oldest first."""
    rows = await fetch_all(conn, _KEYS, {"account": account})
    return [KeySummary(_to_api_key(row[:9]), *row[9:]) for row in rows]


async def revoke_key(conn: Conn, key_id: str, *, now: float) -> None:
    """End a key, `now` by the one clock. Raises InvalidParameter when there is none of that id."""
    if await fetch_one(conn, _REVOKE_KEY, {"id": key_id, "now": now}) is None:
        raise InvalidParameter(f"No such key: '{key_id}'", param="id")


class KeyCache:
    """API keys and account relations by need, remembered shortly; `find_ephemeral_key` knows those of front
    ends."""

    def __init__(self, dsn: str, find_ephemeral_key: Callable[[str], Awaitable[ApiKey | None]]) -> None:
        self._connection = ReconnectingConnection(dsn, "ledger_api", name="keys")
        self._find_ephemeral_key = find_ephemeral_key
        self._keys: dict[str, tuple[float, ApiKey]] = {}
        self._platforms: dict[str, tuple[float, str | None]] = {}
        self._last_used: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tell now and then which keys were used, until closed."""
        self._task = asyncio.create_task(self._run(), name="keys used")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(LAST_USED_TIMEOUT_SECONDS):
                await self.write_last_used()
        await self._connection.drop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LAST_USED_INTERVAL_SECONDS)
            with suppress(psycopg.Error):  # told with the next ones
                await self.write_last_used()

    def get_cached(self, secret: str) -> ApiKey | None:
        """The key if it was looked up just now."""
        cached = self._keys.get(secret)
        return cached[1] if cached is not None and cached[0] > time.monotonic() else None

    async def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is; None when there is none. Raises Unavailable."""
        if secret.startswith("ek_"):
            return await self._find_ephemeral_key(secret)
        row = await self._fetch_one(_KEY, _hash_secret(secret))
        if row is None:
            return None
        key = _to_api_key(row)
        _cache_value(self._keys, secret, key)
        self._last_used[key.id] = time.time()
        return key

    async def write_last_used(self) -> None:
        """Keep when keys were last used, as seen since this was last called: never on a request's way."""
        last_used, self._last_used = self._last_used, {}
        if last_used:
            try:
                async with self._connection as conn:
                    await conn.execute(
                        _UPDATE_LAST_USED, {"ids": list(last_used), "times": list(last_used.values())}
                    )
            except psycopg.Error:
                self._last_used = last_used | self._last_used
                raise

    async def can_access(self, key: ApiKey, account: str) -> bool:
        """Whether the key may act on `account`: its own, or one connected to it."""
        if account == key.account:
            return True
        if key.kind == "ek":
            return False
        cached = self._platforms.get(account)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1] == key.account
        row = await self._fetch_one(_PLATFORM, account)
        if row is None:
            return False
        _cache_value(self._platforms, account, row[0])
        return bool(row[0] == key.account)

    async def _fetch_one(self, query: str, value: str | bytes) -> TupleRow | None:
        async with query_timeout(), self._connection as conn:
            return await fetch_one(conn, query.encode(), (value,))


def _hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _to_api_key(row: TupleRow) -> ApiKey:
    key_id, account, kind, livemode, last4, name, scopes, expires_at, api_version = row
    return ApiKey(key_id, account, kind, livemode, last4, name, tuple(scopes), expires_at, api_version)


def _cache_value(cache: dict[str, tuple[float, Value]], cache_key: str, value: Value) -> None:
    if len(cache) >= CACHE_SIZE_MAX:
        cache.clear()
    cache[cache_key] = (time.monotonic() + CACHE_SECONDS, value)
