"""Readers that take nothing: what they cost, and that they are disconnected."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from contextlib import suppress

import httpx
import pytest
import uvloop

from ledger.api.internal.feed_stream import CHUNK_BYTES
from ledger.feed import feed
from ledger.feed.readers import Reader
from tests.feed.server import create_reader_key, run_server

CUSTOMERS = 2000
SLOW_READERS = 30
STALLED_SECONDS = 1.0


def connect_slowly(port: int, key: str, accept: str) -> socket.socket:
    """A connection that asks for the feed and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    lines = ("GET /internal/v1/feed HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", f"Accept: {accept}")
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    return client


def count_stalled(readers: Iterable[Reader]) -> int:
    """How many of them have a connection that takes nothing at present."""
    now = asyncio.get_running_loop().time()
    return sum(reader.get_stalled_seconds(now) > 0 for reader in readers)


def read_all(client: socket.socket) -> bytes:
    """What is there until the server ends the connection."""
    client.settimeout(5)
    received = bytearray()
    with suppress(ConnectionResetError):
        while data := client.recv(65_536):
            received += data
    return bytes(received)


async def run_slow_readers(dsn: str) -> None:
    key = await create_reader_key(dsn)
    async with (
        run_server(dsn) as (app, port),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, timeout=30
        ) as http,
    ):
        lines = "\n".join(json.dumps({"op": "customer", "id": f"cus_{n}"}) for n in range(CUSTOMERS))
        await http.post("/internal/v1/import", content=lines)
        whole = await http.get("/internal/v1/feed")
        assert len(whole.content) > 6 * CHUNK_BYTES
        accepts = ("application/x-ndjson", "text/event-stream")
        clients = [connect_slowly(port, key, accepts[n % 2]) for n in range(SLOW_READERS)]
        readers = app.feed._readers
        async with asyncio.timeout(10):
            while count_stalled(readers) < SLOW_READERS:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.02)
        # The third is handed over, and not written.
        assert max(reader.sent_bytes for reader in readers) < 3 * CHUNK_BYTES + 1000
        # Others are served meanwhile.
        assert (await http.get("/internal/v1/feed")).content == whole.content
        async with asyncio.timeout(10):
            while readers:  # noqa: ASYNC110  # they end by the clock
                await asyncio.sleep(0.05)
        for client in clients:
            assert not read_all(client).endswith(b"0\r\n\r\n")  # cut, and the client can tell
            client.close()


def test_readers_that_take_nothing_cost_two_chunks_and_are_disconnected(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "STALLED_SECONDS_MAX", STALLED_SECONDS)
    uvloop.run(run_slow_readers(dsn))
