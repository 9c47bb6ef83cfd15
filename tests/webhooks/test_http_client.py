"""One POST to a server that may be anything (contract §5.5), and to no address it must not reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from ledger.webhooks.deliveries import Attempt
from ledger.webhooks.http_client import (
    RESPONSE_BYTES_MAX,
    RESPONSE_SECONDS_MAX,
    WebhookClient,
    is_public_address,
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
            return await poster.post(f"http://{host}:{port}/hook", b"{}", "t=1,v1=x", sent_at=1.0)
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
    assert post_event(serve)[2:] == (None, None, error)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nothing_is_sent_to_a_private_address_that_is_refused(host: str) -> None:
    came: list[asyncio.StreamWriter] = []

    async def serve(writer: asyncio.StreamWriter) -> None:
        came.append(writer)

    assert post_event(serve, private=False, host=host)[2:] == (None, None, "private_address")
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
