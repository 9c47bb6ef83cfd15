"""Accounts and their API keys: made, listed, revoked, and looked up for every request.

A key is shown once, when it is made; the database holds its SHA-256 (a key has 190 random bits, so
nothing slower is needed) and its last four characters. A process remembers a key for
`REMEMBERED_SECONDS`, so a revocation holds everywhere within that time.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.database import Link, question
from ledger.errors import InvalidParameter
from ledger.ids import new_id
from ledger.wire.versions import LATEST

REMEMBERED_SECONDS = 1.0
REMEMBERED_MAX = 10_000
SECRET_CHARACTERS = 32

Value = TypeVar("Value")
Kind = Literal["sk", "rk", "pk"]

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
_ACCOUNTS = (
    "SELECT id, name, platform, api_version, created_at::text FROM ledger.accounts ORDER BY created_at, id"
)
_PLATFORM = "SELECT platform FROM ledger.accounts WHERE id = %s"
_CREATE_KEY = """
INSERT INTO ledger.api_keys (id, account, kind, livemode, hash, last4, name, scopes)
VALUES (%(id)s, %(account)s, %(kind)s, %(livemode)s, %(hash)s, %(last4)s, %(name)s, %(scopes)s)
"""
_KEYS = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM k.expires_at)::float8, a.api_version
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
UPDATE ledger.api_keys SET expires_at = least(expires_at, now())
WHERE id = %(id)s RETURNING id
"""


class ApiKey(NamedTuple):
    """A key as the database knows it. `expires_at` is in unix seconds; None: never."""

    id: str
    account: str
    kind: Kind
    livemode: bool
    last4: str
    name: str
    scopes: tuple[str, ...]
    expires_at: float | None
    api_version: str

    @property
    def masked(self) -> str:
        mode = "live" if self.livemode else "test"
        return f"{self.kind}_{mode}_***{self.last4}"

    @property
    def state(self) -> str:
        return "active" if self.expires_at is None or self.expires_at > time.time() else "expired"

    def allows(self, scope: str) -> bool:
        """A restricted key allows what it names; write includes read (`rak_<resource>_<read|write>`)."""
        if scope in self.scopes:
            return True
        return scope.endswith("_read") and scope.removesuffix("read") + "write" in self.scopes


async def create_account(conn: AsyncConnection[TupleRow], name: str, *, platform: str | None = None) -> str:
    """A new account's id. Raises InvalidParameter when `platform` is not an account."""
    account = new_id("acct", time.time())
    values = {"id": account, "name": name, "platform": platform, "api_version": LATEST}
    try:
        await conn.execute(_CREATE_ACCOUNT, values)
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{platform}'", param="platform") from None
    return account


async def list_accounts(conn: AsyncConnection[TupleRow]) -> list[TupleRow]:
    """(id, name, platform, api_version, created_at), oldest first."""
    return await (await conn.execute(_ACCOUNTS)).fetchall()


async def create_key(
    conn: AsyncConnection[TupleRow],
    account: str,
    kind: Kind,
    *,
    livemode: bool,
    name: str,
    scopes: Sequence[str] = (),
) -> tuple[str, str]:
    """(key id, the secret to show once). Raises InvalidParameter for an unknown account."""
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
            },
        )
    except psycopg.errors.ForeignKeyViolation:
        raise InvalidParameter(f"No such account: '{account}'", param="account") from None
    return key_id, secret


async def list_keys(conn: AsyncConnection[TupleRow], account: str | None = None) -> list[ApiKey]:
    """The account's keys, or all, oldest first."""
    return [_key(row) for row in await (await conn.execute(_KEYS, {"account": account})).fetchall()]


async def revoke_key(conn: AsyncConnection[TupleRow], key_id: str) -> None:
    """End a key now. Raises InvalidParameter when there is none of that id."""
    if await (await conn.execute(_REVOKE, {"id": key_id})).fetchone() is None:
        raise InvalidParameter(f"No such key: '{key_id}'", param="id")


class KeyRing:
    """API keys and account relations by need, remembered shortly."""

    def __init__(self, dsn: str) -> None:
        self._link = Link(dsn, "ledger_api", name="keys")
        self._keys: dict[str, tuple[float, ApiKey]] = {}
        self._platforms: dict[str, tuple[float, str | None]] = {}

    async def close(self) -> None:
        await self._link.drop()

    def recall(self, secret: str) -> ApiKey | None:
        """The key if it was looked up just now."""
        known = self._keys.get(secret)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    async def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is; None when there is none. Raises Unavailable."""
        row = await self._one(_KEY, _hash(secret))
        if row is None:
            return None
        key = _key(row)
        _remember(self._keys, secret, key)
        return key

    async def reaches(self, key: ApiKey, account: str) -> bool:
        """Whether the key may act on `account`: its own, or one connected to it."""
        if account == key.account:
            return True
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
