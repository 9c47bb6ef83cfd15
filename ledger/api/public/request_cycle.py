"""One request to the public API on a connection of the server, from its head to its last byte: no ASGI.

It has the interface of uvicorn's own `RequestResponseCycle`, so uvicorn's protocol starts it, queues it
behind an earlier request of the connection, feeds it the body and drains it. ASGI would pass head and body
through dictionaries and coroutines of its own: a third of what a small request cost outside its work
(decision 0079).
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import structlog

from ledger.api.errors import FAULT_STATUS_MIN, STATUS_NOT_READY, encode_refusal
from ledger.api.exchange import Exchange
from ledger.commands.execution import InternalError
from ledger.errors import InvalidParameter, LedgerError, Unavailable
from ledger.time_limits import pause_request_limit

if TYPE_CHECKING:
    from ledger.api.public.protocol import PublicApi
    from ledger.api.transport import HttpProtocol

CONNECTION_CLOSE = b"connection: close\r\n"
"""The header line of the last response on a connection."""

_STATUS_LINES = {int(status): f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

log = structlog.get_logger()


class RequestCycle:
    """A request to the public API, and its response. uvicorn's protocol knows the names of `run_asgi`,
    `message_event` and the attributes.

    body       the part of the request body that arrived and is not read yet
    more_body  whether more of it is to arrive
    """

    __slots__ = (
        "_method", "_path", "_protocol", "_query", "_waiter", "body", "disconnected", "headers",
        "keep_alive", "more_body", "response_complete", "waiting_for_100_continue",
    )  # fmt: skip

    def __init__(self, protocol: HttpProtocol, path: str, query: bytes) -> None:
        self._protocol = protocol
        self._method = protocol.parser.get_method().decode("ascii")
        self._path = path
        self._query = query
        self._waiter: asyncio.Future[None] | None = None
        self.headers = dict(protocol.headers)
        self.keep_alive = protocol.keeps_alive()
        self.waiting_for_100_continue = self.headers.get(b"expect", b"").lower() == b"100-continue"
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> RequestCycle:
        """What the protocol calls `set` on, after it has changed `body`, `more_body` or `disconnected`."""
        return self

    def set(self) -> None:
        """Wake whoever waits for the body."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run_asgi(self, app: PublicApi) -> None:
        """Answer the request. The protocol calls it once, in a task of its own."""
        exchange = app.begin(self._method, self._path, self._query, self.headers, self)
        response_started = False
        try:
            body = await app.answer(exchange)
            flow = self._protocol.flow
            if flow.write_paused:  # by an earlier response that the client is slow to read
                await flow.drain()
            response_started = True
            if isinstance(body, bytes):
                self._write_response(exchange, body)
            else:
                await self._write_stream(exchange, body)
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            refusal: LedgerError = Unavailable("the process ends, and this request had not")
            self._break_off(exchange, STATUS_NOT_READY, refusal, response_started=response_started)
        except BaseException as error:  # perhaps a download broke off
            log.error("response_broken_off", exc_info=error, request_id=exchange.request_id)
            refusal = InternalError("An unexpected error occurred.")
            self._break_off(exchange, FAULT_STATUS_MIN, refusal, response_started=response_started)
        app.log_access(exchange)

    def take_body(self, bytes_max: int) -> bytes | None:
        """The body, if all of it has arrived and has at most `bytes_max`; else None, and `receive_chunk` gets
        it."""
        if self.more_body or self.disconnected or self.waiting_for_100_continue or len(self.body) > bytes_max:
            return None
        body, self.body = self.body, b""
        return body

    async def receive_chunk(self) -> tuple[bytes, bool]:
        """The next part of the body, and whether there are more. Raises InvalidParameter if the connection
        was closed."""
        protocol = self._protocol
        if self.waiting_for_100_continue and not protocol.transport.is_closing():
            self.waiting_for_100_continue = False
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.more_body and not self.body and not self.disconnected:
            protocol.flow.resume_reading()
            self._waiter = protocol.loop.create_future()
            with pause_request_limit():
                await self._waiter
        if self.disconnected:
            raise InvalidParameter("The connection closed before the request was complete.")
        body, self.body = self.body, b""
        return body, self.more_body

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self._protocol.scheme or "http"

    @property
    def client(self) -> str | None:
        """The address of whoever is connected; None over a Unix socket."""
        return self._protocol.client[0] if self._protocol.client else None

    def _write_response(self, exchange: Exchange, body: bytes) -> None:
        """Write the whole response in one piece."""
        if not self.disconnected:
            length = b"content-length: %d\r\n\r\n" % len(body)
            content = b"" if self._method == "HEAD" else body
            response = b"".join((*self._build_head(exchange), length, content))
            if self._method == "POST" and len(self._protocol.tasks) > 1:
                # Commands of one batch end together. Written together, at the end of the turn, their answers
                # wake the clients once: 5 % more POSTs a second with 16 connections. GETs would lose 10 %. A
                # POST alone would only wait for another turn of the event loop (3 µs).
                self._protocol.buffered.write(response)
            else:
                self._protocol.buffered.write_now(response)
        self._complete()

    async def _write_stream(self, exchange: Exchange, chunks: AsyncIterator[bytes]) -> None:
        """Write a response whose headers state its length, as fast as the client reads it."""
        transport, flow = self._protocol.transport, self._protocol.flow
        if not self.disconnected:
            transport.write(b"".join((*self._build_head(exchange), b"\r\n")))
        async for chunk in chunks:
            if flow.write_paused:
                await flow.drain()
            if transport.is_closing():
                break
            transport.write(chunk)
        self._complete()

    def _build_head(self, exchange: Exchange) -> list[bytes]:
        head = [
            _STATUS_LINES[exchange.status],
            self._protocol.encode_default_headers(),
            exchange.default_headers.encoded,
        ]
        for name, value in exchange.response_headers:
            head += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            head.append(CONNECTION_CLOSE)
        return head

    def _complete(self) -> None:
        self.response_complete = True
        self._protocol.on_cycle_complete(self)

    def _break_off(
        self, exchange: Exchange, status: int, refusal: LedgerError, *, response_started: bool
    ) -> None:
        """Answer that the service failed, if nothing is sent yet, and close the connection."""
        if not response_started:
            exchange.status = status
            if not self.disconnected:
                self._protocol.buffered.write_now(encode_refusal(refusal, exchange.request_id))
        self.response_complete = True
        self._protocol.transport.close()
