"""What readers see while the database is away, and when too many are connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import psycopg
import pytest
import uvloop
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ledger.feed import feed, readers, sse
from tests.conftest import Cluster
from tests.feed.server import create_reader_key, run_server

SSE = {"accept": "text/event-stream"}


def open_client(port: int, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}/internal/v1",
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )


class Outage:
    """Takes the database away from all connections, and gives it back."""

    def __init__(self, cluster: Cluster, dsn: str) -> None:
        self._cluster = cluster
        self._name = str(conninfo_to_dict(dsn)["dbname"])

    def begin(self) -> None:
        self._allow("false")
        with psycopg.connect(self._cluster.maintenance_dsn, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._name]
            )

    def end(self) -> None:
        self._allow("true")

    def _allow(self, value: str) -> None:
        self._cluster.execute(
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                sql.Identifier(self._name), sql.SQL(value)
            )
        )


async def read_until(lines: AsyncIterator[str], found: Callable[[str], bool]) -> str:
    """The first line of which `found` is true."""
    async for line in lines:
        if found(line):
            return line
    raise AssertionError("the stream has ended")


async def run_outage(dsn: str, outage: Outage) -> None:
    key = await create_reader_key(dsn)
    async with (
        run_server(dsn) as (_, port),
        open_client(port, key) as http,
        http.stream("GET", "/feed", headers=SSE) as stream,
    ):
        lines = stream.aiter_lines()
        await read_until(lines, lambda line: line == "event: progress")
        outage.begin()
        try:
            away = await read_until(lines, lambda line: line.startswith(":"))
            assert "the database cannot be reached" in away
            # No line is empty until there is an event: some clients would take it for one.
            assert (await anext(lines)).startswith(":")
        finally:
            outage.end()
        while (answer := await http.post("/import", content=b'{"op":"customer","id":"cus_1"}')).is_error:
            pass
        assert '"error"' not in answer.text
        item = await read_until(lines, lambda line: line.startswith("data: ") and "cus_1" in line)
        assert '"position":1' in item


def test_a_stream_says_that_the_database_is_away_and_goes_on_later(
    cluster: Cluster, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (readers, sse):
        monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr(feed, "AWAY_SECONDS", 0.5)
    uvloop.run(run_outage(dsn, Outage(cluster, dsn)))


async def run_crowd(dsn: str) -> None:
    key = await create_reader_key(dsn)
    async with run_server(dsn) as (app, port), open_client(port, key) as http:
        for headers in (SSE, {"accept": "application/x-ndjson"}):
            async with (
                http.stream("GET", "/feed", headers=SSE) as first,
                http.stream("GET", "/feed", params={"wait": 30}) as second,
            ):
                assert (first.status_code, second.status_code) == (200, 200)
                refused = await http.get("/feed", headers=headers)
                assert refused.status_code == 429
                assert refused.json()["error"]["code"] == "rate_limit"
                assert "Too many readers" in refused.json()["error"]["message"]
            while app.feed._readers:  # both have gone
                await http.get("/keys")
            assert (await http.get("/feed")).status_code == 200
        at_once = await asyncio.gather(*(http.get("/feed", params={"wait": 1}) for _ in range(8)))
        assert sorted(answer.status_code for answer in at_once) == [200] * 2 + [429] * 6


def test_a_reader_beyond_the_limit_is_refused_until_another_one_has_gone(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "READERS_MAX", 2)
    uvloop.run(run_crowd(dsn))
