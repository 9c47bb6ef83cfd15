"""Keys are cached under the bytes of the Authorization header that named them."""

from __future__ import annotations

import asyncio
import base64

import pytest

from ledger.accounts import ApiKey, create_account, create_key
from ledger.api.authentication import authenticate
from ledger.api.key_cache import CACHED_AUTHORIZATION_BYTES_MAX, KeyCache
from ledger.errors import Unauthenticated
from ledger.postgres.connections import open_connection


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
