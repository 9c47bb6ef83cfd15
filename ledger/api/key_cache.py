"""Look up API keys by secret for requests, cache them for a moment, and write their last-used times later.

Each process caches a key for CACHE_SECONDS, so all of them refuse a revoked key within that time. One that
gets no answer from the database goes on with the keys that it has looked up in the last REMEMBERED_SECONDS: a
revocation that it cannot see yet takes effect after that time at the latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
import structlog
from psycopg.rows import TupleRow

from ledger.accounts import ApiKey, hash_secret, to_api_key
from ledger.api.console.cookie import SESSION_SCHEME
from ledger.background import BackgroundLoop
from ledger.console.sessions import SELECT_SESSION_KEY
from ledger.errors import Unavailable
from ledger.lru import ExpiringCache
from ledger.postgres.connections import ReconnectingConnection, fetch_one, first_line
from ledger.postgres.sessions import LOCAL_COMMITS

CACHE_SECONDS = 1.0
REMEMBERED_SECONDS = 60.0
ANSWER_SECONDS_MAX = 1.0
"""How long a request waits for the database before it goes on with a remembered key."""
CACHE_SIZE_MAX = 10_000
CACHED_AUTHORIZATION_BYTES_MAX = 512
LAST_USED_INTERVAL_SECONDS = 5.0
LAST_USED_TIMEOUT_SECONDS = 2.0

_SELECT_PLATFORM = "SELECT platform FROM ledger.accounts WHERE id = %s"
_SELECT_KEY = """
SELECT k.id, k.account, k.kind, k.livemode, k.last4, k.name, k.scopes,
       extract(epoch FROM k.expires_at)::float8, a.api_version
FROM ledger.api_keys k JOIN ledger.accounts a ON a.id = k.account
WHERE k.hash = %s
"""
_UPDATE_LAST_USED = """
UPDATE ledger.api_keys k SET last_used_at = greatest(k.last_used_at, to_timestamp(used.at))
FROM unnest(%(ids)s::text[], %(times)s::float8[]) AS used(id, at) WHERE k.id = used.id
"""

log = structlog.get_logger()


class KeyCache:
    """Looks up API keys and account relations for requests, caches them for CACHE_SECONDS, and remembers them
    for REMEMBERED_SECONDS, for the time that the database does not answer.

    `find_ephemeral_key` resolves the secrets of ephemeral keys (`ek_…`). Writes every
    LAST_USED_INTERVAL_SECONDS, and at the end, when keys were last used: never within a request. Without
    `has_console` there are no sessions.
    """

    def __init__(
        self,
        dsn: str,
        find_ephemeral_key: Callable[[str], Awaitable[ApiKey | None]],
        *,
        has_console: bool = True,
    ) -> None:
        self._connection = ReconnectingConnection(dsn, "ledger_api", name="keys")
        # Not the same: while a standby is away, a commit that waits for it would hold up every request.
        self._last_used_connection = ReconnectingConnection(
            dsn, "ledger_api", name="last used", settings=LOCAL_COMMITS
        )
        self._find_ephemeral_key = find_ephemeral_key
        self._has_console = has_console
        # By the bytes of the Authorization header, so that a request need not decode them.
        self._keys: ExpiringCache[bytes, ApiKey] = ExpiringCache(
            CACHE_SIZE_MAX, expires_after_seconds=CACHE_SECONDS
        )
        # By account; "" for one that is connected to no platform.
        self._platforms: ExpiringCache[str, str] = ExpiringCache(
            CACHE_SIZE_MAX, expires_after_seconds=CACHE_SECONDS
        )
        # By query and its value.
        self._remembered: ExpiringCache[tuple[str, str | bytes], TupleRow] = ExpiringCache(
            2 * CACHE_SIZE_MAX, expires_after_seconds=REMEMBERED_SECONDS
        )
        self._ask_again_at = 0.0
        self._last_used: dict[str, float] = {}
        self._last_used_loop = BackgroundLoop(
            "last used times of keys", self._write_last_used_step, close_timeout_seconds=0.5
        )

    async def start(self) -> None:
        """Begin to write last-used times."""
        await self._last_used_loop.start()

    async def close(self) -> None:
        """Write the last-used times that are not written yet, unless that takes too long."""
        await self._last_used_loop.close()
        with suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(LAST_USED_TIMEOUT_SECONDS):
                await self.write_last_used()
        await self._last_used_connection.drop()
        await self._connection.drop()

    def get_cached(self, authorization: bytes) -> ApiKey | None:
        """The key in this Authorization header, if `put` was called within the last CACHE_SECONDS."""
        return self._keys.get(authorization)

    def put(self, authorization: bytes, key: ApiKey) -> None:
        """Cache the key that was found by the secret in this Authorization header, except an ephemeral one:
        it is folded from the log, which has a cache. Nor under a long header: any number of headers may hold
        one key, beside a password that is ignored, and would fill the memory."""
        if key.kind != "ek" and len(authorization) <= CACHED_AUTHORIZATION_BYTES_MAX:
            self._keys.put(authorization, key)

    async def find(self, secret: str) -> ApiKey | None:
        """The key that has this secret; None when there is none. Raises Unavailable."""
        if secret.startswith("ek_"):
            return await self._find_ephemeral_key(secret)
        return await self._find_by_hash(_SELECT_KEY, secret)

    async def find_session(self, authorization: bytes) -> ApiKey | None:
        """The key of the session that stands for an Authorization header, which expires when the session
        does; None when there is no such session. It is cached then. Raises Unavailable."""
        if not self._has_console:
            return None
        secret = authorization.removeprefix(SESSION_SCHEME).decode("latin-1")
        key = await self._find_by_hash(SELECT_SESSION_KEY, secret)
        if key is not None:
            self.put(authorization, key)
        return key

    async def write_last_used(self) -> None:
        """Write the last-used times that are not written yet. Raises psycopg.Error; the next call then writes
        them."""
        last_used, self._last_used = self._last_used, {}
        if not last_used:
            return
        try:
            async with self._last_used_connection as conn:
                times = {"ids": list(last_used), "times": list(last_used.values())}
                await conn.execute(_UPDATE_LAST_USED, times)
        except BaseException:
            self._last_used = last_used | self._last_used
            raise

    async def can_access(self, key: ApiKey, account: str) -> bool:
        """Whether the key may act on `account`: its own account, or one connected to it. Raises
        Unavailable."""
        if account == key.account:
            return True
        if key.kind == "ek":
            return False
        platform = self._platforms.get(account)
        if platform is None:
            row = await self._fetch_one(_SELECT_PLATFORM, account)
            if row is None:
                return False
            platform = row[0] or ""
            self._platforms.put(account, platform)
        return platform == key.account

    async def _write_last_used_step(self) -> float:
        await self.write_last_used()
        return LAST_USED_INTERVAL_SECONDS

    async def _find_by_hash(self, query: str, secret: str) -> ApiKey | None:
        row = await self._fetch_one(query, hash_secret(secret))
        if row is None:
            return None
        key = to_api_key(row)
        self._last_used[key.id] = time.time()
        return key

    async def _fetch_one(self, query: str, value: str | bytes) -> TupleRow | None:
        """The row of a look-up by `value`; as it was remembered if the database does not answer in time, or
        did not a moment ago. Raises Unavailable for one that is not remembered."""
        remembered = self._remembered.get((query, value))
        if remembered is not None and time.monotonic() < self._ask_again_at:
            return remembered
        try:
            async with asyncio.timeout(None if remembered is None else ANSWER_SECONDS_MAX):
                row = await self._connection.run_idempotent(
                    lambda conn: fetch_one(conn, query.encode(), (value,))
                )
        except (Unavailable, TimeoutError) as error:
            if remembered is None:
                raise
            if not self._ask_again_at:
                log.warning("keys_from_memory", reason=first_line(error), seconds_max=REMEMBERED_SECONDS)
            self._ask_again_at = time.monotonic() + CACHE_SECONDS
            return remembered
        self._ask_again_at = 0.0
        if row is None:
            self._remembered.discard((query, value))
        else:
            self._remembered.put((query, value), row)
        return row
