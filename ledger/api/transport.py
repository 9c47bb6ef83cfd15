"""HTTP connections: uvicorn's protocol with a short way to the public API, a limit on the request head and
our error envelope.

A request to the public API becomes a `RequestCycle`, which answers it with one write and without ASGI
(decision 0079). All others are uvicorn's. uvicorn's parser accepts a request head of any length; this one
accepts HEAD_BYTES_MAX. uvicorn would lose the body of a request that offers an upgrade to another protocol;
this one ignores the offer, except that of a websocket at the one path that has one.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.api.app import LedgerApp
from ledger.api.errors import encode_refusal
from ledger.api.exchange import CONNECTION_EXTENSION
from ledger.api.public.protocol import PublicApi
from ledger.api.public.request_cycle import RequestCycle
from ledger.api.stripe_cli.routes import SOCKET_PATH
from ledger.errors import InvalidParameter
from ledger.ids import encode_base62

HEAD_BYTES_MAX = 65_536
V1_PATHS = b"/v1/"
V2_PATHS = b"/v2/"
_SOCKET_PATH = SOCKET_PATH.encode()


TLS_HELLO = b"\x16\x03"
"""What a client that speaks TLS begins with: a handshake record, of any version."""
TLS_LOG_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


class TlsHelloLog:
    """Logs that clients speak TLS to a process that does not: one line in TLS_LOG_PAUSE_SECONDS at most, for
    anybody may cause it."""

    def __init__(self) -> None:
        self._logged_at: float | None = None
        self._others = 0

    def add(self, client: str, now: float) -> None:
        """Log a client, or count it for the next line. `now` in seconds of the event loop's clock."""
        if self._logged_at is not None and now - self._logged_at < TLS_LOG_PAUSE_SECONDS:
            self._others += 1
            return
        log.warning(
            "tls_hello_on_plain_port",
            client=client,
            others_since_last_line=self._others,
            advice="use http:// in the client's URL, or terminate TLS in front of Ledger",
            see="docs/operations.md, TLS in front of Ledger",
        )
        self._logged_at, self._others = now, 0


class BufferedTransport:
    """A transport that sends what is written in one turn of the event loop as one write, and nothing once the
    connection is closed: uvloop raises then."""

    __slots__ = ("_buffer", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._buffer: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop."""
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)

    def write_now(self, data: bytes) -> None:
        """Write at once, after what is buffered."""
        if self._buffer:
            self._buffer.append(data)
            self._flush()
        else:
            self._send(data)

    def has_unsent(self) -> bool:
        """Whether something waits until the client takes more."""
        return bool(self._buffer) or self._transport.get_write_buffer_size() > 0

    def release(self) -> asyncio.Transport:
        """Write what is buffered. Returns the transport, for another protocol."""
        self._flush()
        return self._transport

    def close(self) -> None:
        """Write what is buffered, then close the connection."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._send(data)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _tls_hellos = TlsHelloLog()  # of all connections of the process
    _in_head = False
    _head_bytes = 0
    _received_bytes = 0
    _bytes_since_body = 0
    _idle_since: float | None = None
    _default_headers: list[tuple[bytes, bytes]] | None = None
    _encoded_default_headers = b""
    _last_words: bytes | None = None
    _host_header: bytes | None = None  # in place of the client's, on a Unix socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the buffer in front of the connection's transport."""
        assert isinstance(self.app, LedgerApp)
        self._v1_api, self._v2_api = self.app.public_api, self.app.v2_api
        self.buffered = BufferedTransport(transport, self.loop)
        super().connection_made(self.buffered)  # type: ignore[arg-type]
        if self.server is not None and self.server[1] is None:  # a path, and no port
            self._host_header = self.app.own_host

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that the connection was on, and let go of it: it knows this connection too."""
        super().connection_lost(exc)
        self.cycle = None  # type: ignore[assignment]
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes; refuse a request head that is too long, and headers after the body that
        are."""
        if self._last_words is not None:
            return
        self._received_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        self._bytes_since_body += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._offers_websocket():
                self._switch_to_websocket(rest)
                return
            self._read_without_upgrade(rest)
        except httptools.HttpParserError:
            if data.startswith(TLS_HELLO):
                self._refuse_tls()
            else:
                self.send_400_response("Invalid HTTP request received.")
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("Request head too large.")
        elif self._bytes_since_body > HEAD_BYTES_MAX and not self._in_head:
            self.send_400_response("Request trailers too large.")

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. Returns whether it still gets answers: to the whole requests that it has
        sent to the public API. Over TLS it gets none, because the event loop closes the connection."""
        if self._last_words is not None:
            return True
        cycle: object = self.cycle
        if self.scheme == "https" or not isinstance(cycle, RequestCycle):
            return False
        return self._end_after_answers(b"")

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its offer of an upgrade, which a server may ignore (RFC 9110,
        section 7.8). `rest` follows its head.

        Java's HttpClient offers HTTP/2 with its first request, and the parser skips the body of such a
        request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("Invalid HTTP request received.")
            return
        head = [method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*head, b"", rest]))

    def _offers_websocket(self) -> bool:
        """Whether the request whose head was read is a handshake at the socket's path, with nothing before
        it on the connection that is yet to be answered. One with a body is none, nor is one of HTTP/1.0
        (RFC 9110, section 7.8)."""
        headers = {(name, value.lower()) for name, value in self.headers}
        is_handshake = (b"upgrade", b"websocket") in headers and self.parser.get_http_version() == "1.1"
        has_body = any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in headers
        )
        is_alone = self.cycle is None or self.cycle.response_complete
        path = self.url.partition(b"?")[0]
        is_ours = path == _SOCKET_PATH and self.parser.get_method() == b"GET"
        return is_handshake and not has_body and is_alone and is_ours

    def _switch_to_websocket(self, rest: bytes) -> None:
        """Let uvicorn's protocol for websockets have the connection, and read the head again. `rest` follows
        it."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self.connections.discard(self)
        transport = self.buffered.release()
        protocol_class: Any = self.ws_protocol_class
        protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        head = [b"GET " + self.url + b" HTTP/1.1", *(b"%b: %b" % header for header in self.headers)]
        protocol.data_received(b"\r\n".join([*head, b"", rest]))

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a request head."""
        self._in_head, self._head_bytes = True, 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin to answer the request; its body follows. Raises ValueError for a head that is too large,
        which stops the parser."""
        self._in_head = False
        self._bytes_since_body = 0
        if (
            self._head_bytes or self._received_bytes > HEAD_BYTES_MAX
        ) and self._sum_headers() > HEAD_BYTES_MAX:
            raise ValueError("request head too large")
        if self._host_header is not None:
            self._replace_host(self._host_header)
        if self.parser.should_upgrade():
            return
        path, _, query = self.url.partition(b"?")
        if path.startswith((V1_PATHS, V2_PATHS)) and b"%" not in path and b"#" not in self.url:
            api = self._v1_api if path.startswith(V1_PATHS) else self._v2_api
            self._begin_cycle(RequestCycle(self, path.decode("ascii"), query), api)
        else:
            self._begin_asgi_cycle()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, except one that is about to be parsed again."""
        self._bytes_since_body = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin a request that has arrived already, or wait for the next one as long as `timeout_keep_alive`.

        uvicorn starts a timer after each response and stops it at the next request. Here one timer looks,
        when it ends, since when the connection has been idle (0.6 µs less per request)."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._last_words is not None:
            self._close_with(self._last_words)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._start_idle_timer(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for `timeout_keep_alive`, or look again later."""
        idle_seconds = 0.0 if self._idle_since is None else self.loop.time() - self._idle_since
        if idle_seconds < self.timeout_keep_alive:
            self._start_idle_timer(self.timeout_keep_alive - idle_seconds)
        else:
            super().timeout_keep_alive_handler()

    def on_cycle_complete(self, cycle: RequestCycle) -> None:
        """The response is written: close the connection, wait for the next request, or begin one that has
        arrived already."""
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def keeps_alive(self) -> bool:
        """Whether the request that is being parsed leaves the connection open."""
        return self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"

    def encode_default_headers(self) -> bytes:
        """The header lines that the server adds to each response. It makes new ones every second."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._encoded_default_headers = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._encoded_default_headers

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed HTTP request with the contract's error envelope, after the requests before it,
        and close the connection."""
        if self._last_words is None:
            request_id = f"req_{encode_base62(secrets.randbits(128))}"
            self._end_after_answers(encode_refusal(InvalidParameter(msg), request_id))

    def _refuse_tls(self) -> None:
        """Say why, though only who looks at the bytes sees it: TLS libraries report a wrong version."""
        host = self.client[0] if self.client else "unknown"  # a Unix socket, or gone already
        self._tls_hellos.add(host, self.loop.time())
        self.send_400_response(
            "This port speaks HTTP, not HTTPS: use http:// in the URL, or let a proxy in front of Ledger "
            "terminate TLS."
        )

    def _end_after_answers(self, last_words: bytes) -> bool:
        """Receive nothing more. Answer the whole requests that have arrived, write `last_words`, and close.
        Returns whether a request was still to be answered."""
        self._last_words = last_words
        cycle = self.cycle
        if cycle is not None and cycle.more_body and self.pipeline:
            self.pipeline.popleft()  # the rest of its body does not come
        elif cycle is None or cycle.more_body or cycle.response_complete:
            self._close_with(last_words)
            return False
        return True

    def abort(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        self.transport.abort()

    def push(self, piece: bytes) -> bool:
        """Send the next piece of an answer that ASGI has begun, if nothing waits to be sent. Returns whether
        it is sent. An answer without a length is sent in chunks by uvicorn."""
        if self.buffered.has_unsent() or self.buffered.is_closing():
            return False
        self.buffered.write_now(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def _close_with(self, last_words: bytes) -> None:
        if last_words:
            self.transport.write(last_words)
        self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _start_idle_timer(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _begin_cycle(self, cycle: RequestCycle, api: PublicApi) -> None:
        """Start the request now, or after the earlier ones of this connection."""
        previous, self.cycle = self.cycle, cycle  # type: ignore[assignment]
        if previous is None or previous.response_complete:
            self._start_asgi_task(cycle, api)  # type: ignore[arg-type]
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, api))  # type: ignore[arg-type]

    def _begin_asgi_cycle(self) -> None:
        """Let uvicorn begin the request; it makes its own copy of the head."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        extensions: dict[str, Any] = {CONNECTION_EXTENSION: self}
        self.scope["extensions"] = extensions
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _replace_host(self, host: bytes) -> None:
        """On a Unix socket a client may name any host, as the Stripe CLI names api.stripe.com. URLs that we
        answer with lead to us."""
        self.headers = [header for header in self.headers if header[0] != b"host"]
        self.headers.append((b"host", host))

    def _sum_headers(self) -> int:
        return sum(len(name) + len(value) for name, value in self.headers)
