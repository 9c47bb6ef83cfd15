"""HTTP connections: uvicorn's protocol with a limit on the request head, our error envelope and fewer writes.

uvicorn writes head and body of a response separately, and a write is the most expensive part of a small
response (a fifth of a POST's profile). Writes of one turn of the event loop are collected and sent at its
end. uvicorn's parser accepts a request head of any length; this one accepts HEAD_BYTES_MAX. uvicorn would
lose the body of a request that offers an upgrade to another protocol; this one ignores the offer.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.api.errors import encode_answer
from ledger.errors import InvalidParameter
from ledger.ids import encode_base62

HEAD_BYTES_MAX = 65_536


class BufferedTransport:
    """A transport that sends what is written in one turn of the event loop as one write."""

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

    def close(self) -> None:
        """Write what is buffered, then close the connection."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._buffer:
            self._transport.write(b"".join(self._buffer))
            self._buffer.clear()


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _in_head = False
    _header_bytes = 0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the buffer in front of the connection's transport."""
        super().connection_made(BufferedTransport(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes; refuse a request head that is too long."""
        if self._in_head:
            self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("Request head too large.")

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

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a request head."""
        self._in_head, self._header_bytes, self._head_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header's bytes. Raises ValueError for a head that is too large."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEAD_BYTES_MAX:
            raise ValueError("request head too large")  # stops the parser; uvicorn then answers 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting: the body follows."""
        self._in_head = False
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request, except one that is about to be parsed again."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed HTTP request with the contract's error envelope, and close the connection."""
        _, text = encode_answer(InvalidParameter(msg))
        body = text.encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"request-id: req_{encode_base62(secrets.randbits(128))}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
