"""Connections: both ends notice that the other is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

import psycopg

from ledger.postgres.connections import Conn, Pool, connect


def test_the_server_notices_a_lost_client_during_a_statement(dsn: str) -> None:
    async def vanish() -> None:
        conn = await connect(dsn, "ledger_projector", name="doomed")
        working = asyncio.create_task(conn.execute("SELECT pg_advisory_lock(7), pg_sleep(30)"))
        await asyncio.to_thread(wait_until, lambda: is_lock_held(dsn))
        with socket.socket(fileno=os.dup(conn.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(working, return_exceptions=True)
        await conn.close()

    asyncio.run(vanish())
    wait_until(lambda: not is_lock_held(dsn))


def is_lock_held(dsn: str) -> bool:
    with psycopg.connect(dsn) as conn:
        query = b"""SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        return conn.execute(query).fetchone() is not None


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_connection_makes_the_server_check_its_client(dsn: str) -> None:
    asked = {
        "client_connection_check_interval": "1000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "15000",
    }

    async def settings(conn: Conn) -> dict[str, str]:
        # `setting` is what the socket says: over a Unix socket nothing.
        query = (
            "SELECT name, CASE name WHEN 'client_connection_check_interval' THEN setting ELSE reset_val END"
            " FROM pg_settings WHERE name = ANY (%s)"
        )
        return dict(await (await conn.execute(query, [list(asked)])).fetchall())

    async def look() -> None:
        async with await connect(dsn, "ledger_projector", name="test") as conn:
            assert await settings(conn) == asked
        async with Pool(dsn) as pool, pool.connection() as conn:
            assert await settings(conn) == asked

    asyncio.run(look())
