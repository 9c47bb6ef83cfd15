"""A database that hangs is not waited for without end: what is asked of it is refused in time."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psycopg
import pytest

from ledger.accounts import ApiKey, create_account, create_key
from ledger.api.key_cache import ANSWER_SECONDS_MAX, KeyCache
from ledger.postgres.connections import open_connection
from ledger.time_limits import RequestLimit


async def _no_ephemeral_key(_: str) -> ApiKey | None:
    return None


def stop_backend(dsn: str) -> int:
    """Stop the server's process of the look-ups of keys; returns its id."""
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
    return int(row[0])


def test_a_backend_that_hangs_is_abandoned_in_time_and_replaced(dsn: str) -> None:
    async def main() -> None:
        keys = KeyCache(dsn, _no_ephemeral_key)
        assert await keys.find("sk_test_nobody") is None
        pid = stop_backend(dsn)
        try:
            async with RequestLimit(2):
                assert await keys.find("sk_test_nobody") is None
        finally:
            os.kill(pid, signal.SIGCONT)
            await keys.close()

    asyncio.run(main())


def test_a_remembered_key_waits_a_moment_for_a_database_that_hangs_and_then_not_at_all(dsn: str) -> None:
    async def main() -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            account = await create_account(conn, "x")
            key_id, secret = await create_key(conn, account, "sk", livemode=False, name="x")
        keys = KeyCache(dsn, _no_ephemeral_key)
        assert await keys.find(secret) is not None
        pid = stop_backend(dsn)
        try:
            for seconds_max in (ANSWER_SECONDS_MAX + 0.5, 0.1):
                started = time.monotonic()
                found = await keys.find(secret)
                assert found is not None
                assert found.id == key_id
                assert time.monotonic() - started < seconds_max
        finally:
            os.kill(pid, signal.SIGCONT)
            await keys.close()

    asyncio.run(main())
