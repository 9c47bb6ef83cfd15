"""Keys are cached under the bytes of the Authorization header that named them."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest
from structlog.testing import capture_logs

from ledger.accounts import ApiKey, create_account, create_key, revoke_key
from ledger.api import key_cache
from ledger.api.authentication import authenticate
from ledger.api.key_cache import CACHED_AUTHORIZATION_BYTES_MAX, KeyCache
from ledger.errors import Unauthenticated, Unavailable
from ledger.postgres.connections import ReconnectingConnection, open_connection
from ledger.time_limits import RequestLimit


async def _no_ephemeral_key(_: str) -> ApiKey | None:
    return None


def test_long_headers_that_name_one_key_do_not_fill_the_cache(dsn: str) -> None:
    """A password beside the key is ignored, so anybody who knows a publishable key can send many of them."""

    async def main() -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            account = await create_account(conn, "x")
            _, secret = await create_key(conn, account, "pk", livemode=False, name="x", expires_at=100.0)
        keys = KeyCache(dsn, _no_ephemeral_key)
        try:
            for password_bytes, is_cached in ((10, True), (CACHED_AUTHORIZATION_BYTES_MAX, False)):
                user = f"{secret}:{'x' * password_bytes}".encode()
                authorization = b"Basic " + base64.b64encode(user)
                key = await authenticate(keys, authorization, 99.0)
                assert (keys.get_cached(authorization) == key) is is_cached
                with pytest.raises(Unauthenticated, match="Expired"):
                    await authenticate(keys, authorization, 100.0)
        finally:
            await keys.close()

    asyncio.run(main())


def test_keys_are_remembered_for_a_time_while_the_database_is_away(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation takes effect when the database answers again, or after that time."""
    monkeypatch.setattr(key_cache, "REMEMBERED_SECONDS", 1.0)
    monkeypatch.setattr(key_cache, "ANSWER_SECONDS_MAX", 0.1)
    monkeypatch.setattr(key_cache, "CACHE_SECONDS", 0.05)

    async def main() -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            account = await create_account(conn, "x")
            _, secret = await create_key(conn, account, "sk", livemode=False, name="x")
            keys = KeyCache(dsn, _no_ephemeral_key)
            key = await keys.find(secret)
            assert key is not None
            remembered_until = time.monotonic() + key_cache.REMEMBERED_SECONDS
            there, keys._connection = (
                keys._connection,
                ReconnectingConnection("host=127.0.0.1 port=1", "ledger_api", name="away"),
            )
            await revoke_key(conn, key.id, now=100.0)
            with capture_logs() as logged:
                assert [await keys.find(secret) for _ in range(3)] == [key] * 3
            assert [entry["event"] for entry in logged] == ["keys_from_memory"]
            with pytest.raises(Unavailable):
                async with RequestLimit(0.2):
                    await keys.find(secret[:-1] + "x")
            await asyncio.sleep(remembered_until - time.monotonic())
            with pytest.raises(Unavailable):
                async with RequestLimit(0.2):
                    await keys.find(secret)
            keys._connection = there
            revoked = await keys.find(secret)
            assert revoked is not None
            assert revoked.expires_at == 100.0
            await keys.close()

    asyncio.run(main())
