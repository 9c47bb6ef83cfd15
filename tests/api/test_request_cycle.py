"""What the server does for one small request to the public API, counted; and how long it keeps a connection.

The connection ends in a list of what was written, so that each write is seen.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from ledger.accounts import ApiKey
from ledger.api.app import LedgerApp, create_app
from ledger.api.public.request_cycle import RequestCycle
from ledger.api.transport import BufferedTransport, HttpProtocol
from ledger.config import load_settings
from ledger.wire.versions import LATEST_VERSION
from tests.api.service import SERVICE_KEY
from tests.work import record_runs

KEEP_ALIVE_SECONDS = 0.2
HEAD = "Host: x\r\nUser-Agent: test\r\n\r\n"


class Writes(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.pieces: list[bytes] = []
        self.closed_at: float | None = None

    def write(self, data: Any) -> None:
        if self.is_closing():  # as uvloop does
            raise RuntimeError("the handler is closed")
        self.pieces.append(data)

    def close(self) -> None:
        self.closed_at = time.monotonic()

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    async def wait(self, number: int) -> None:
        """Wait for so many writes."""
        async with asyncio.timeout(10):
            while len(self.pieces) < number:  # noqa: ASYNC110  # the server does not know of an event
                await asyncio.sleep(0)


@pytest.fixture(scope="module")
def app() -> LedgerApp:
    """An application without a database: requests without a key are refused before they need one."""
    return create_app(load_settings(log_requests="none"), "dbname=none", SERVICE_KEY.encode())


def run_connection(
    app: LedgerApp, main: Callable[[HttpProtocol, Writes], Coroutine[None, None, None]]
) -> None:
    """Run `main` with a new connection."""

    async def run() -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,  # type: ignore[arg-type]
        )
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Sat, 28 Nov 2026 00:00:00 GMT")]
        protocol = HttpProtocol(config, state, {}, asyncio.get_running_loop())
        transport = Writes()
        protocol.connection_made(transport)
        await main(protocol, transport)
        await asyncio.sleep(0)  # the task of the last request ends after its write
        assert not state.tasks
        protocol.connection_lost(None)

    asyncio.run(run())


def test_a_response_of_the_public_api_is_one_write_without_asgi(app: LedgerApp) -> None:
    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        with record_runs(LedgerApp.__call__) as asgi_runs:
            for number in range(1, 7, 2):
                protocol.data_received(f"GET /v1/customers?limit=3 HTTP/1.1\r\n{HEAD}".encode())
                await transport.wait(number)
                form = f"POST /v1/customers HTTP/1.1\r\nContent-Length: 6\r\n{HEAD}name=x"
                protocol.data_received(form.encode())
                await transport.wait(number + 1)
        assert len(transport.pieces) == 6
        assert not asgi_runs
        assert all(re.match(rb"HTTP/1\.1 401 .*\}$", piece, re.S) for piece in transport.pieces)

    run_connection(app, main)


def test_a_post_whose_body_arrived_with_its_head_does_not_wait_for_it(app: LedgerApp) -> None:
    """And as no other command ends with it, its answer does not wait for others'."""
    key = ApiKey(
        id="key_1", account="acct_1", kind="sk", livemode=False, last4="1234", name="", scopes=(),
        expires_at=None, api_version=LATEST_VERSION,
    )  # fmt: skip
    head = f"POST /v1/customers HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 6\r\n{HEAD}".encode()

    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        for number, (pieces, chunk_runs) in enumerate((([head + b"none=1"], 0), ([head, b"non", b"e=1"], 2))):
            app.public_api._keys.put(b"Bearer x", key)
            with record_runs(RequestCycle.receive_chunk, BufferedTransport.write) as runs:
                for piece in pieces:
                    protocol.data_received(piece)
                    await asyncio.sleep(0.01)
                await transport.wait(number + 1)
            assert b"Received unknown parameter: none" in transport.pieces[number]
            assert [run.f_code.co_name for run in runs] == ["receive_chunk"] * chunk_runs

    run_connection(app, main)


def test_both_ways_to_the_public_api_give_the_same_bytes(app: LedgerApp) -> None:
    """A path with an escape goes through ASGI."""

    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        answers = []
        for path, expected_runs in (
            ("/v1/customers", 0),
            ("/v1/c%75stomers", 1),
            ("http://x/v1/customers", 1),
        ):
            with record_runs(LedgerApp.__call__) as asgi_runs:
                protocol.data_received(f"GET {path} HTTP/1.1\r\n{HEAD}".encode())
                await transport.wait(1)
                await asyncio.sleep(0.01)
            assert len(asgi_runs) == expected_runs
            head, _, body = b"".join(transport.pieces).partition(b"\r\n\r\n")
            transport.pieces.clear()
            answers.append((re.sub(rb"req_\w+", b"", head).split(b"\r\n"), body))
        assert answers[0] == answers[1] == answers[2]

    run_connection(app, main)


def test_an_idle_connection_is_closed_after_the_time_for_it(app: LedgerApp) -> None:
    """Not one whose request arrives slowly."""

    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        request = f"GET /v1/customers HTTP/1.1\r\n{HEAD}".encode()
        for number in range(1, 4):
            protocol.data_received(request)
            await transport.wait(number)
            await asyncio.sleep(KEEP_ALIVE_SECONDS * 0.6)
        protocol.data_received(request[:-2])
        await asyncio.sleep(KEEP_ALIVE_SECONDS * 2)
        assert not transport.is_closing()
        protocol.data_received(request[-2:])
        await transport.wait(4)
        idle_since = time.monotonic()
        await asyncio.sleep(KEEP_ALIVE_SECONDS * 3)
        assert transport.closed_at is not None
        assert transport.closed_at - idle_since >= KEEP_ALIVE_SECONDS * 0.9

    run_connection(app, main)


def test_a_malformed_request_is_answered_after_the_requests_before_it(app: LedgerApp) -> None:
    """Its refusal must not be taken for the answer to one of them."""
    request = f"GET /v1/customers HTTP/1.1\r\n{HEAD}".encode()
    through_asgi = request.replace(b"customers", b"c%75stomers")
    chunked = f"POST /v1/customers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{HEAD}zz\r\n".encode()

    async def main(sent: bytes, expected: list[bytes], protocol: HttpProtocol, transport: Writes) -> None:
        protocol.data_received(sent)
        protocol.data_received(b"more of it")
        async with asyncio.timeout(10):
            while not transport.is_closing():  # noqa: ASYNC110  # the server does not know of an event
                await asyncio.sleep(0)
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", b"".join(transport.pieces))
        assert statuses == expected, sent

    for sent, expected in (
        (b"nonsense\r\n\r\n", [b"400"]),
        (request + b"nonsense\r\n\r\n", [b"401", b"400"]),
        (through_asgi + request + b"nonsense\r\n\r\n", [b"401", b"401", b"400"]),
        (request + through_asgi + chunked, [b"401", b"401", b"400"]),
        (request + request + b"CONNECT x:1 HTTP/1.1\r\n\r\n", [b"401", b"401", b"400"]),
    ):
        run_connection(app, partial(main, sent, expected))


def test_a_client_that_ends_its_side_gets_the_answers_to_whole_requests(app: LedgerApp) -> None:
    request = f"GET /v1/customers HTTP/1.1\r\n{HEAD}".encode()
    cut_off = f"POST /v1/customers HTTP/1.1\r\nContent-Length: 6\r\n{HEAD}na".encode()

    async def main(sent: bytes, expected: int, protocol: HttpProtocol, transport: Writes) -> None:
        protocol.data_received(sent)
        assert protocol.eof_received() is (expected > 0)
        if not expected:
            transport.close()  # as the event loop does
        async with asyncio.timeout(10):
            while not transport.is_closing():  # noqa: ASYNC110  # the server does not know of an event
                await asyncio.sleep(0)
        assert len(re.findall(rb"HTTP/1\.1 401", b"".join(transport.pieces))) == expected
        protocol.connection_lost(None)
        await asyncio.sleep(0.01)

    for sent, expected in (
        (request, 1),
        (request * 3, 3),
        (request + request[:-2], 1),
        (request + cut_off, 1),
        (request[:-2], 0),
    ):
        run_connection(app, partial(main, sent, expected))


def test_headers_after_the_body_are_limited_as_those_before_it(app: LedgerApp) -> None:
    """They would be kept in memory without end. A long body may come in between, in small pieces."""
    head = f"POST /v1/customers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{HEAD}".encode()
    line = b"x: " + b"y" * 1000 + b"\r\n"

    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        protocol.data_received(head)
        for _ in range(200):
            protocol.data_received(b"400\r\n" + b"x" * 1024 + b"\r\n")
        protocol.data_received(b"0\r\n")
        lines = 0
        while not transport.is_closing() and lines < 1000:
            protocol.data_received(line)
            lines += 1
        assert 60 < lines < 70
        assert b"trailers too large" in b"".join(transport.pieces)
        protocol.connection_lost(None)
        await asyncio.sleep(0.01)

    run_connection(app, main)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_goes_before_its_answers_is_no_fault_of_the_service(
    app: LedgerApp, method: str
) -> None:
    request = f"{method} /v1/customers HTTP/1.1\r\n{HEAD}".encode()

    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        errors: list[Any] = []
        protocol.loop.set_exception_handler(lambda _, context: errors.append(context))
        with capture_logs() as logs:
            protocol.data_received(request * 3)
            transport.close()
            protocol.connection_lost(None)
            await asyncio.sleep(0.01)
        assert not errors
        assert [line["event"] for line in logs] == []
        assert not transport.pieces

    run_connection(app, main)


def test_an_answer_is_dropped_when_the_client_goes_at_the_end_of_the_turn(app: LedgerApp) -> None:
    async def main(protocol: HttpProtocol, transport: Writes) -> None:
        errors: list[Any] = []
        protocol.loop.set_exception_handler(lambda _, context: errors.append(context))
        protocol.buffered.write(b"x")
        transport.close()
        await asyncio.sleep(0.01)
        assert not errors

    run_connection(app, main)
