"""Statements on kept connections: values arrive as they were sent, and ended connections are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Unavailable
from ledger.postgres import prepared
from ledger.postgres.prepared import PreparedConnection
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.time_limits import RequestLimit
from tests.postgres.test_connections import end_backend
from tests.store.lossy_proxy import open_lossy_proxy
from tests.work import record_runs

CONNECTIONS = 3
PID = parse_statement("SELECT pg_backend_pid()")
SLEEP = parse_statement("SELECT pg_backend_pid() FROM (SELECT pg_sleep(%(seconds)s)) AS slept")
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def run(dsn: str, story: Callable[[StatementPool], Awaitable[Any]]) -> None:
    async def main() -> None:
        pool = StatementPool(dsn, "ledger_api", name="test", settings={}, connections_max=CONNECTIONS)
        try:
            await story(pool)
        finally:
            await pool.close()

    asyncio.run(main())


async def fetch_within(pool: StatementPool, seconds: float, sleep_seconds: float = 0) -> int:
    """Process id of the backend, in a request of so many seconds."""
    async with RequestLimit(seconds):
        return int((await pool.fetch(SLEEP, {"seconds": sleep_seconds}))[0][0])


async def fetch_pid(pool: StatementPool) -> int:
    return int((await pool.fetch(PID, {}))[0][0])


async def count_prepared(pool: StatementPool) -> int:
    query = parse_statement("SELECT count(*) FROM pg_prepared_statements")
    return int((await pool.fetch(query, {}))[0][0])


def test_parameters_are_numbered_once_a_name() -> None:
    statement = parse_statement("SELECT %(a)s, %(b)s, %(a)s, 5 %% 3")
    assert statement == (b"SELECT $1, $2, $1, 5 % 3", ("a", "b"))


def test_values_arrive_as_they_were_sent(dsn: str) -> None:
    query = parse_statement(
        "SELECT %(text)s::text, %(number)s::bigint, %(flag)s::boolean, %(texts)s::text[], %(none)s::text,"
        " %(real)s::float8"
    )

    async def story(pool: StatementPool) -> None:
        loop = asyncio.get_running_loop()

        @settings(max_examples=100)
        @given(TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(TEXTS), st.floats(-1e9, 1e9))
        def check(text: str, number: int, flag: bool, texts: list[str], real: float) -> None:
            values = {
                "text": text,
                "number": number,
                "flag": flag,
                "texts": texts,
                "none": None,
                "real": real,
            }
            future = asyncio.run_coroutine_threadsafe(pool.fetch(query, values), loop)
            assert future.result(30) == [(text, number, flag, texts, None, real)]

        await asyncio.to_thread(check)

    run(dsn, story)


@pytest.mark.parametrize("value", ["a\0b", ["a\0b"]])
def test_a_nul_is_refused_and_cuts_nothing_off(dsn: str, value: object) -> None:
    query = parse_statement(f"SELECT %(value)s::{'text' if isinstance(value, str) else 'text[]'}")

    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        with pytest.raises(psycopg.DataError):
            await pool.fetch(query, {"value": value})
        assert await fetch_pid(pool) == pid

    run(dsn, story)


def test_a_statement_takes_one_round_trip_once_it_is_prepared(dsn: str) -> None:
    async def main() -> None:
        async with open_lossy_proxy(dsn) as (way, between):
            pool = StatementPool(way, "ledger_api", name="test", settings={}, connections_max=CONNECTIONS)
            await fetch_pid(pool)
            before = between.requests["ledger test"]
            for _ in range(20):
                await fetch_pid(pool)
            assert between.requests["ledger test"] - before == 20
            await pool.close()

    asyncio.run(main())


def test_large_values_and_results_pass(dsn: str) -> None:
    query = parse_statement("SELECT %(text)s::text")

    async def story(pool: StatementPool) -> None:
        text = "x" * 20_000_000
        async with RequestLimit(60):
            assert await pool.fetch(query, {"text": text}) == [(text,)]

    run(dsn, story)


def test_no_more_connections_than_the_limit(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        slow = [pool.fetch(SLEEP, {"seconds": 0.05}) for _ in range(4 * CONNECTIONS)]
        pids = {rows[0][0] for rows in await asyncio.gather(*slow)}
        assert len(pids) == CONNECTIONS

    run(dsn, story)


def test_who_finds_no_free_connection_is_told_so(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        slow = [asyncio.create_task(pool.fetch(SLEEP, {"seconds": 1})) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match=r"no connection became free|no answer within"):
            await fetch_within(pool, 0.2)
        await asyncio.gather(*slow)

    run(dsn, story)


def test_connections_that_ended_while_idle_are_replaced(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        slow = [pool.fetch(SLEEP, {"seconds": 0.05}) for _ in range(CONNECTIONS)]
        ended = {rows[0][0] for rows in await asyncio.gather(*slow)}
        for pid in ended:
            end_backend(dsn, pid)
        assert await fetch_pid(pool) not in ended

    run(dsn, story)


def test_a_statement_whose_connection_breaks_runs_again(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        reading = asyncio.create_task(pool.fetch(SLEEP, {"seconds": 0.2}))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(end_backend, dsn, pid)
        assert (await reading)[0][0] != pid

    run(dsn, story)


def test_no_answer_is_waited_for_forever(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        with pytest.raises(Unavailable), record_runs(PreparedConnection.run) as attempts:
            await fetch_within(pool, 0.5, sleep_seconds=2)
        assert len(attempts) <= 2  # the time is for all attempts
        assert await fetch_pid(pool) != pid

    run(dsn, story)


def test_a_server_that_does_not_answer_leaves_time_for_another_attempt(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert await fetch_within(pool, 2.2) != pid
            assert time.monotonic() - started < 2
        finally:
            os.kill(pid, signal.SIGCONT)

    run(dsn, story)


def test_a_caller_that_gives_up_leaves_no_answer_to_the_next(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        reading = asyncio.create_task(pool.fetch(SLEEP, {"seconds": 0.5}))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await fetch_pid(pool) != pid

    run(dsn, story)


def test_a_refused_statement_leaves_the_connection_usable(dsn: str) -> None:
    async def story(pool: StatementPool) -> None:
        pid = await fetch_pid(pool)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await pool.fetch(parse_statement("SELECT 1 / %(zero)s::int"), {"zero": 0})
        with pytest.raises(psycopg.errors.UndefinedTable):
            await pool.fetch(parse_statement("SELECT FROM no_such_table"), {})
        assert await fetch_pid(pool) == pid

    run(dsn, story)


def test_a_connection_keeps_a_bounded_number_of_statements(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "PREPARED_MAX", 5)

    async def story(pool: StatementPool) -> None:
        for _ in range(2):
            for number in range(12):
                query = parse_statement(f"SELECT %(value)s::int + {number}")
                assert await pool.fetch(query, {"value": 1}) == [(number + 1,)]
                assert await count_prepared(pool) <= 5

    run(dsn, story)


def test_an_unreachable_server_is_unavailable() -> None:
    async def story(pool: StatementPool) -> None:
        for _ in range(2 * CONNECTIONS):
            with pytest.raises(Unavailable):
                await fetch_within(pool, 0.2)

    run("host=/nonexistent dbname=ledger", story)
