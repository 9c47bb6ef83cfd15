"""HTTP connections: uvicorn's protocol, bounded in its head, told in our words, written once.

uvicorn writes the head and the body of an answer apart, and a write is the dearest thing a small answer
does (a fifth of a POST's profile): what is written in one turn of the loop is gathered and leaves at its
end. Its parser takes a head of any length; ours takes HEAD_BYTES_MAX.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.api.envelope import encode_refusal
from ledger.errors import InvalidParameter
from ledger.ids import encode_base62

HEAD_BYTES_MAX = 65_536


class BufferedTransport:
    """A transport whose writes of one turn of the loop are one."""

    __slots__ = ("_buffer", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._buffer: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._buffer:
            self._transport.write(b"".join(self._buffer))
            self._buffer.clear()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _in_head = False
    _header_bytes = 0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(BufferedTransport(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("Request head too large.")

    def on_message_begin(self) -> None:
        self._in_head, self._header_bytes, self._head_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEAD_BYTES_MAX:
            raise ValueError("request head too large")  # the parser stops, which is answered with 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request is refused as any other, and the connection closed."""
        body = encode_refusal(InvalidParameter(msg), "invalid_request_error").encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"request-id: req_{encode_base62(secrets.randbits(128))}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
