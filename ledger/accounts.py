"""Accounts and their API keys: made, listed, revoked, and looked up for every request.

A key is shown once, when it is made; the database holds its SHA-256 (a key has 190 random bits, so
nothing slower is needed) and its last four characters. A process remembers a key for
`REMEMBERED_SECONDS`, so a revocation holds everywhere within that time.
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
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.errors import InvalidParameter
from ledger.ids import new_id
from ledger.postgres.connections import Link, question
from ledger.wire.versions import LATEST

REMEMBERED_SECONDS = 1.0
REMEMBERED_MAX = 10_000
USE_TOLD_SECONDS = 5.0
USE_TOLD_WITHIN_SECONDS = 2.0
SECRET_CHARACTERS = 32

Value = TypeVar("Value")
Kind = Literal["sk", "rk", "pk"]
Ephemeral = Literal["ek"]

INTERNAL_SCOPES = ("catalog", "network", "publish", "audit", "projections", "webhooks", "keys", "clock")

SCOPES = (
    *(
        f"rak_{resource}_{access}"
        for resource in (
            "balance_transaction", "charge", "customer", "customer_session", "dispute", "event", "file",
            "webhook",
        )
        for access in ("read", "write")
    ),
    *INTERNAL_SCOPES,
)  # fmt: skip

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
_REVOKE = """
UPDATE ledger.api_keys SET expires_at = least(expires_at, to_timestamp(%(now)s))
WHERE id = %(id)s RETURNING id
"""
_ROLLED = """
SELECT account, kind, livemode, name, scopes, extract(epoch FROM expires_at)::float8
FROM ledger.api_keys WHERE id = %(id)s FOR UPDATE
"""
_END_LATER = """
UPDATE ledger.api_keys SET expires_at = least(expires_at, to_timestamp(%(at)s))
WHERE id = %(id)s
"""
_USED = """
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
    kind: Kind | Ephemeral
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

    def expired(self, now: float) -> bool:
        """Whether it is good for nothing any more, `now` by the one clock."""
        return self.expires_at is not None and self.expires_at <= now

    def state(self, now: float) -> str:
        return "expired" if self.expired(now) else "active"

    def allows(self, scope: str) -> bool:
        """A restricted key allows what it names; write includes read (`rak_<resource>_<read|write>`)."""
        if scope in self.scopes:
            return True
        return scope.endswith("_read") and scope.removesuffix("read") + "write" in self.scopes


class ListedKey(NamedTuple):
    """A key as it is listed. Unix seconds; `last_used_at` is None for one never used, and may lag by the
    interval at which processes tell of it."""

    key: ApiKey
    created_at: float
    last_used_at: float | None


async def create_account(conn: AsyncConnection[TupleRow], name: str, *, platform: str | None = None) -> str:
    """A new account's id. Raises InvalidParameter when `platform` is not an account."""
    account = new_id("acct", time.time())
    values = {"id": account, "name": name, "platform": platform, "api_version": LATEST}
    try:
        await conn.execute(_CREATE_ACCOUNT, values)
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{platform}'", param="platform") from None
    return account


async def list_accounts(conn: AsyncConnection[TupleRow], of: str | None = None) -> list[TupleRow]:
    """(id, name, platform, api_version, created_at in unix seconds), oldest first: the account `of` and those
    connected to it, or all."""
    return await (await conn.execute(_ACCOUNTS, {"of": of})).fetchall()


async def create_key(
    conn: AsyncConnection[TupleRow],
    account: str,
    kind: Kind,
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
                "hash": _hash(secret),
                "last4": secret[-4:],
                "name": name,
                "scopes": list(scopes),
                "expires_at": expires_at,
            },
        )
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{account}'", param="account") from None
    return key_id, secret


async def roll_key(
    conn: AsyncConnection[TupleRow], key_id: str, *, overlap_seconds: int, now: float
) -> tuple[str, str]:
    """(id, secret) of a key that may do what this one may, which ends after the overlap, at once with 0.
    `now` by the one clock.

    Raises InvalidParameter when there is none of that id, or it has expired.
    """
    async with conn.transaction():
        row = await (await conn.execute(_ROLLED, {"id": key_id})).fetchone()
        if row is None:
            raise InvalidParameter(f"No such key: '{key_id}'", code="resource_missing", param="id")
        account, kind, livemode, name, scopes, expires_at = row
        if expires_at is not None and expires_at <= now:
            raise InvalidParameter(f"The key '{key_id}' has expired; create a new one.", param="id")
        made = await create_key(
            conn, account, kind, livemode=livemode, name=name, scopes=scopes, expires_at=expires_at
        )
        await conn.execute(_END_LATER, {"id": key_id, "at": now + overlap_seconds})
    return made


async def list_keys(conn: AsyncConnection[TupleRow], account: str | None = None) -> list[ListedKey]:
    """The account's keys, or all, oldest first."""
    rows = await (await conn.execute(_KEYS, {"account": account})).fetchall()
    return [ListedKey(_key(row[:9]), *row[9:]) for row in rows]


async def revoke_key(conn: AsyncConnection[TupleRow], key_id: str, *, now: float) -> None:
    """End a key, `now` by the one clock. Raises InvalidParameter when there is none of that id."""
    if await (await conn.execute(_REVOKE, {"id": key_id, "now": now})).fetchone() is None:
        raise InvalidParameter(f"No such key: '{key_id}'", param="id")


class KeyRing:
    """API keys and account relations by need, remembered shortly; `ephemeral` knows those of front ends."""

    def __init__(self, dsn: str, ephemeral: Callable[[str], Awaitable[ApiKey | None]]) -> None:
        self._link = Link(dsn, "ledger_api", name="keys")
        self._ephemeral = ephemeral
        self._keys: dict[str, tuple[float, ApiKey]] = {}
        self._platforms: dict[str, tuple[float, str | None]] = {}
        self._used: dict[str, float] = {}
        self._telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tell now and then which keys were used, until closed."""
        self._telling = asyncio.create_task(self._tell(), name="keys used")

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(USE_TOLD_WITHIN_SECONDS):
                await self.tell_used()
        await self._link.drop()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(USE_TOLD_SECONDS)
            with suppress(psycopg.Error):  # told with the next ones
                await self.tell_used()

    def recall(self, secret: str) -> ApiKey | None:
        """The key if it was looked up just now."""
        known = self._keys.get(secret)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    async def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is; None when there is none. Raises Unavailable."""
        if secret.startswith("ek_"):
            return await self._ephemeral(secret)
        row = await self._one(_KEY, _hash(secret))
        if row is None:
            return None
        key = _key(row)
        _remember(self._keys, secret, key)
        self._used[key.id] = time.time()
        return key

    async def tell_used(self) -> None:
        """Keep when keys were last used, as seen since this was last called: never on a request's way."""
        used, self._used = self._used, {}
        if used:
            try:
                async with self._link as conn:
                    await conn.execute(_USED, {"ids": list(used), "times": list(used.values())})
            except psycopg.Error:
                self._used = used | self._used
                raise

    async def reaches(self, key: ApiKey, account: str) -> bool:
        """Whether the key may act on `account`: its own, or one connected to it."""
        if account == key.account:
            return True
        if key.kind == "ek":
            return False
        known = self._platforms.get(account)
        if known is not None and known[0] > time.monotonic():
            return known[1] == key.account
        row = await self._one(_PLATFORM, account)
        if row is None:
            return False
        _remember(self._platforms, account, row[0])
        return bool(row[0] == key.account)

    async def _one(self, query: str, value: str | bytes) -> TupleRow | None:
        async with question(), self._link as conn:
            return await (await conn.execute(query.encode(), (value,))).fetchone()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: TupleRow) -> ApiKey:
    key_id, account, kind, livemode, last4, name, scopes, expires_at, api_version = row
    return ApiKey(key_id, account, kind, livemode, last4, name, tuple(scopes), expires_at, api_version)


def _remember(known: dict[str, tuple[float, Value]], name: str, value: Value) -> None:
    if len(known) >= REMEMBERED_MAX:
        known.clear()
    known[name] = (time.monotonic() + REMEMBERED_SECONDS, value)
