"""One POST to a server that may be anything (contract §5.5), and to no address it must not reach."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from unittest.mock import Mock

import pytest

from ledger.webhooks import http_client
from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.http_client import (
    RESPONSE_BYTES_MAX,
    RESPONSE_SECONDS_MAX,
    WebhookClient,
    is_public_address,
    parse_retry_after,
)

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]

PATIENCE_SECONDS = 10 * RESPONSE_SECONDS_MAX
"""For an attempt, so that a busy machine is not taken for one that waited for all of an answer."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"


def post_event(
    serve: Serve, *, private: bool = True, host: str = "127.0.0.1", timeout_seconds: float = 3.0
) -> Attempt:
    """What becomes of a POST to a server that answers so."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await serve(writer)
        except ConnectionError:
            pass  # it had read enough
        finally:
            writer.close()

    async def run() -> Attempt:
        poster = WebhookClient(allow_private=private, timeout_seconds=timeout_seconds)
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await poster.post(f"http://{host}:{port}/hook", b"{}", [], sent_at=1.0)
        finally:
            await poster.close()
            server.close()

    return asyncio.run(run())


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def trickling(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.5)


async def not_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    """Says nothing."""


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0), ("120", 120), (" 7 ", 7), ("3601", 3600), ("9" * 400, 3600),
        ("-1", 0), ("1.5", 0), ("soon", 0), ("", 0), ("\xb2", 0),
        ("Sat, 28 Nov 2026 10:01:30 GMT", 90), ("Sat, 28 Nov 2026 09:00:00 GMT", 0),
        ("Saturday, 28-Nov-26 10:01:30 GMT", 90), ("Fri, 01 Jan 2100 00:00:00 GMT", 3600),
        ("Sat, 28 Nov 99999 10:01:30 GMT", 0),
    ],
)  # fmt: skip
def test_a_receiver_asks_for_a_pause_of_an_hour_at_most(value: str, seconds: float) -> None:
    headers = [(b"Retry-After", value.encode("latin-1")), (b"Date", b"Sat, 28 Nov 2026 10:00:00 GMT")]
    assert parse_retry_after(headers) == seconds


@pytest.mark.parametrize(("status", "seconds"), [(429, 30), (503, 30), (500, 0), (301, 0), (200, 0)])
def test_only_a_busy_receiver_may_ask_for_a_pause(status: int, seconds: float) -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d Any\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n" % status)

    assert post_event(serve).pause_seconds == seconds


def test_no_more_of_a_response_is_read_than_is_stored() -> None:
    attempt = post_event(endless)
    assert attempt.succeeded
    assert attempt.answer == b"x" * RESPONSE_BYTES_MAX


def test_an_endless_response_is_a_success_by_its_status() -> None:
    started = time.monotonic()
    attempt = post_event(trickling, timeout_seconds=PATIENCE_SECONDS)
    assert attempt.succeeded
    assert attempt.answer is not None
    assert attempt.answer.startswith(b"xx")
    assert time.monotonic() - started < PATIENCE_SECONDS / 2


@pytest.mark.parametrize(
    ("serve", "error"), [(not_http, "protocol"), (hangs_up, "protocol"), (silent, "timeout")]
)
def test_an_attempt_without_a_valid_response_fails_with_its_kind(serve: Serve, error: str) -> None:
    assert post_event(serve)[2:5] == (None, None, error)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nstray"
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class KeepingReceiver:
    """A receiver that keeps connections. Each answer but the first on a connection is `later`; with None it
    closes the connection instead. `stray` is sent after each answer, at once or while the connection is
    idle."""

    def __init__(
        self,
        *,
        stray: bytes = b"",
        idle_seconds: float = 0.0,
        close: bool = False,
        later: bytes | None = OK,
    ) -> None:
        self.stray = stray
        self.idle_seconds = idle_seconds
        self.close = close
        self.later = later
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answer: bytes | None = OK
        while answer is not None and await self._read_request(reader):
            if self.idle_seconds:
                writer.write(answer)
                await asyncio.sleep(self.idle_seconds)
                writer.write(self.stray)
            else:
                writer.write(answer + self.stray)
            answer = None if self.close else self.later
        writer.close()

    async def _read_request(self, reader: asyncio.StreamReader) -> bool:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True


async def post_twice(receiver: KeepingReceiver) -> list[Attempt]:
    client = WebhookClient(allow_private=True, timeout_seconds=PATIENCE_SECONDS)
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        attempts = [await client.post(url, b"{}", [], sent_at=1.0)]
        await asyncio.sleep(2 * receiver.idle_seconds)
        return [*attempts, await client.post(url, b"{}", [], sent_at=2.0)]
    finally:
        await client.close()
        server.close()


def test_a_connection_is_kept_for_the_next_delivery() -> None:
    receiver = KeepingReceiver()
    assert [attempt[2:5] for attempt in asyncio.run(post_twice(receiver))] == 2 * [(200, b"ok", None)]
    assert receiver.connections == 1


def test_connections_that_nobody_uses_are_closed_with_a_delivery_to_another_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "KEEP_ALIVE_SECONDS", 0.0)
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await KeepingReceiver().handle(reader, writer)
        closed.set()

    async def run() -> None:
        client = WebhookClient(allow_private=True, timeout_seconds=PATIENCE_SECONDS)
        servers = [await asyncio.start_server(handle, "127.0.0.1", 0) for _ in range(2)]
        for server in servers:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
            assert (await client.post(url, b"{}", [], sent_at=1.0)).succeeded
        await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
        await client.close()
        for server in servers:
            server.close()

    asyncio.run(run())


def test_a_delivery_on_a_kept_connection_looks_for_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    # httpcore imports sniffio for each lock: where that is not installed, it is searched for every time.
    receiver = KeepingReceiver()
    asyncio.run(post_twice(receiver))
    finder = Mock(find_spec=Mock(return_value=None))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    asyncio.run(post_twice(receiver))
    assert finder.find_spec.call_args_list == []


@pytest.mark.parametrize("idle_seconds", [0.0, 0.1])
@pytest.mark.parametrize("stray", [b"\r\n", b"stray bytes", b"HTTP/1.1 ", OK, ERROR, REQUEST_TIMEOUT])
def test_what_a_receiver_sends_after_its_response_is_not_the_next_one(
    stray: bytes, idle_seconds: float
) -> None:
    receiver = KeepingReceiver(stray=stray, idle_seconds=idle_seconds)
    assert [attempt[2:5] for attempt in asyncio.run(post_twice(receiver))] == 2 * [(200, b"ok", None)]
    assert receiver.connections == 2


@pytest.mark.parametrize(
    "receiver",
    [
        KeepingReceiver(close=True),
        KeepingReceiver(close=True, idle_seconds=0.1),
        KeepingReceiver(later=REQUEST_TIMEOUT),
        KeepingReceiver(later=None),
    ],
    ids=["closes at once", "closes while idle", "answers 408", "closes instead of an answer"],
)
def test_a_kept_connection_that_ends_does_not_fail_the_next_delivery(receiver: KeepingReceiver) -> None:
    assert [attempt[2:5] for attempt in asyncio.run(post_twice(receiver))] == 2 * [(200, b"ok", None)]
    assert receiver.connections == 2


@pytest.mark.parametrize(("answer", "status"), [(REQUEST_TIMEOUT, 408), (ERROR, 500)])
def test_a_failure_on_a_new_connection_is_not_repeated(answer: bytes, status: int) -> None:
    came = 0

    async def serve(writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        writer.write(answer)

    assert post_event(serve).status == status
    assert came == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_is_sent_to_a_private_address_that_is_refused(host: str) -> None:
    came: list[asyncio.StreamWriter] = []

    async def serve(writer: asyncio.StreamWriter) -> None:
        came.append(writer)

    assert post_event(serve, private=False, host=host)[2:5] == (None, None, "private_address")
    assert came == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_public_addresses_are_distinguished_from_private_ones(address: str, public: bool) -> None:
    assert is_public_address(address) is public
