"""A database that hangs is not waited for without end: what is asked of it is refused in time."""

from __future__ import annotations

import asyncio
import os
import signal

import psycopg
import pytest

from ledger.accounts import ApiKey
from ledger.api.key_cache import KeyCache
from ledger.errors import Unavailable
from ledger.postgres import connections


async def _no_ephemeral_key(_: str) -> ApiKey | None:
    return None


def test_a_backend_that_hangs_is_abandoned_in_time_and_replaced(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "QUERY_TIMEOUT_SECONDS", 0.5)

    async def main() -> None:
        keys = KeyCache(dsn, _no_ephemeral_key)
        assert await keys.find("sk_test_nobody") is None
        with psycopg.connect(dsn) as conn:
            row = conn.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE application_name = 'ledger keys' AND datname = current_database()"
            ).fetchone()
        assert row is not None
        try:
            os.kill(row[0], signal.SIGSTOP)
        except (PermissionError, ProcessLookupError):
            pytest.skip("the server's processes are not ours to stop")
        try:
            with pytest.raises(Unavailable):
                await keys.find("sk_test_nobody")
            assert await keys.find("sk_test_nobody") is None
        finally:
            os.kill(row[0], signal.SIGCONT)
            await keys.close()

    asyncio.run(main())
