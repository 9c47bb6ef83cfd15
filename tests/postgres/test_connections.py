"""Connections: both ends notice that the other is gone, and a kept one that has ended is replaced."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from ledger.errors import Unavailable
from ledger.postgres.connections import (
    POOL_SIZE_MAX,
    Conn,
    Pool,
    ReconnectingConnection,
    connect,
    fetch_one,
)
from ledger.time_limits import RequestLimit

ROOT = Path(__file__).resolve().parents[2]
Story = Callable[[Pool | ReconnectingConnection], Awaitable[None]]


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
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_connection_makes_the_server_check_its_client(dsn: str) -> None:
    # What a TCP socket has; a Unix socket has none of it, but shows that it was asked.
    asked = {
        "client_connection_check_interval": "1000",
        "tcp_keepalives_idle": "session",
        "tcp_keepalives_interval": "session",
        "tcp_keepalives_count": "session",
        "tcp_user_timeout": "session",
    }

    async def settings(conn: Conn) -> dict[str, str]:
        query = (
            "SELECT name, CASE name WHEN 'client_connection_check_interval' THEN setting ELSE source END"
            " FROM pg_settings WHERE name = ANY (%s)"
        )
        return dict(await (await conn.execute(query, [list(asked)])).fetchall())

    async def look() -> None:
        async with await connect(dsn, "ledger_projector", name="test") as conn:
            assert await settings(conn) == asked
        async with Pool(dsn) as pool, pool.connection() as conn:
            assert await settings(conn) == asked

    asyncio.run(look())


def run_on_kept_connections(dsn: str, story: Story) -> None:
    """Run the story on a pool, and on a single connection."""

    async def run() -> None:
        async with Pool(dsn) as pool:
            await story(pool)
        single = ReconnectingConnection(dsn, "ledger_api", name="test")
        await story(single)
        await single.drop()

    asyncio.run(run())


def end_backend(dsn: str, pid: int) -> None:
    """End a connection from the server's side, and wait until it has ended."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
        wait_until(
            lambda: conn.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() is None
        )


async def fetch_pid(conn: Conn) -> int:
    row = await fetch_one(conn, "SELECT pg_backend_pid()")
    assert row is not None
    return int(row[0])


def test_a_connection_that_ended_while_idle_is_replaced_before_it_is_used(dsn: str) -> None:
    async def story(kept: Pool | ReconnectingConnection) -> None:
        queries = 0

        async def query(conn: Conn) -> int:
            nonlocal queries
            queries += 1
            return await fetch_pid(conn)

        ended_pid = await kept.run_idempotent(query)
        end_backend(dsn, ended_pid)
        assert await kept.run_idempotent(query) != ended_pid
        assert queries == 2  # none met the ended connection

    run_on_kept_connections(dsn, story)


def test_all_connections_of_a_pool_may_end_at_once(dsn: str) -> None:
    async def run() -> None:
        async with Pool(dsn) as pool:
            gate = asyncio.Barrier(POOL_SIZE_MAX)

            async def hold(conn: Conn) -> int:
                await gate.wait()
                return await fetch_pid(conn)

            pids = await asyncio.gather(*(pool.run_idempotent(hold) for _ in range(POOL_SIZE_MAX)))
            for pid in pids:
                end_backend(dsn, pid)
            async with pool.connection() as conn:  # for a write, which is not repeated
                assert await fetch_pid(conn) not in pids

    asyncio.run(run())


def test_a_query_whose_connection_breaks_is_asked_again_until_the_time_is_over(dsn: str) -> None:
    async def story(kept: Pool | ReconnectingConnection) -> None:
        pids: list[int] = []

        async def query(conn: Conn, broken_times: int) -> int:
            pids.append(await fetch_pid(conn))
            if len(pids) <= broken_times:
                end_backend(dsn, pids[-1])
            return await fetch_pid(conn)

        assert await kept.run_idempotent(lambda conn: query(conn, 1)) == pids[-1]
        assert len(set(pids)) == 2
        pids.clear()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            async with RequestLimit(1):
                await kept.run_idempotent(lambda conn: query(conn, 99))
        assert len(pids) > 2
        assert time.monotonic() - started < 1.5

    run_on_kept_connections(dsn, story)


def test_a_query_is_not_asked_again_on_a_connection_that_ends_a_moment_later(dsn: str) -> None:
    async def run() -> None:
        async with Pool(dsn) as pool:
            gate = asyncio.Barrier(POOL_SIZE_MAX)

            async def hold(conn: Conn) -> int:
                await gate.wait()
                return await fetch_pid(conn)

            pids = await asyncio.gather(*(pool.run_idempotent(hold) for _ in range(POOL_SIZE_MAX)))
            used: list[int] = []

            def end_others() -> None:
                for pid in set(pids).difference(used[:1]):
                    end_backend(dsn, pid)

            async def query(conn: Conn) -> None:
                used.append(await fetch_pid(conn))
                if len(used) == 1:
                    end_backend(dsn, used[0])
                    asyncio.get_running_loop().call_later(0.01, end_others)
                await conn.execute("SELECT pg_sleep(0.2)")

            await pool.run_idempotent(query)
            assert len(used) == 2
            assert used[1] not in pids

    asyncio.run(run())


def test_a_query_that_the_server_refuses_is_not_asked_again(dsn: str) -> None:
    async def story(kept: Pool | ReconnectingConnection) -> None:
        queries = 0

        async def query(conn: Conn) -> None:
            nonlocal queries
            queries += 1
            async with conn.transaction():
                await conn.execute("SET LOCAL statement_timeout = '20ms'")
                await conn.execute("SELECT pg_sleep(10)")

        with pytest.raises(Unavailable, match="statement timeout"):
            await kept.run_idempotent(query)
        assert queries == 1

    run_on_kept_connections(dsn, story)


def test_a_connection_with_unread_notifications_is_kept(dsn: str) -> None:
    async def run() -> None:
        kept = ReconnectingConnection(dsn, "ledger_api", name="test")
        async with kept as conn:
            await conn.execute("LISTEN test_channel")
            pid = await fetch_pid(conn)
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("NOTIFY test_channel, 'one'")
        await asyncio.sleep(0.1)
        assert await kept.run_idempotent(fetch_pid) == pid
        await kept.drop()

    asyncio.run(run())


def test_each_connection_is_in_the_table_by_which_a_pool_is_sized() -> None:
    openers = ("connect", "open_connection", "partial", "plan_session", "Pool", "ReconnectingConnection")
    names: set[str] = set()
    for file in (file for package in ("ledger", "projections") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (*openers, "StatementPool"):
                values = (keyword.value for keyword in node.keywords if keyword.arg == "name")
                names |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    names.add(inspect.signature(Pool).parameters["name"].default)
    assert {"journal", "reads", "pages", "projections"} <= names
    section = (ROOT / "docs/high-availability.md").read_text().partition("**How many there are**")[2]
    table = section.partition("**Limits")[0]
    assert names <= set(re.findall("`([^`]+)`", table))


def test_a_query_of_a_command_gets_the_time_that_the_server_allows_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request limits it. So it is not given up at half of that time, as if the server hung."""
    monkeypatch.setattr("ledger.postgres.connections.QUERY_TIMEOUT_SECONDS", 0.5)

    async def main() -> None:
        async with Pool(dsn) as pool:
            await pool.run_idempotent(lambda conn: fetch_one(conn, "SELECT 1"))
            assert await pool.run_idempotent(
                lambda conn: fetch_one(conn, "SELECT 2 FROM pg_sleep(0.35)")
            ) == (2,)
            with pytest.raises(Unavailable, match="no answer in time"):
                await pool.run_idempotent(lambda conn: fetch_one(conn, "SELECT pg_sleep(3)"))

    asyncio.run(main())
