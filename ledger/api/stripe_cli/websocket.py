"""Websocket connections: uvicorn's protocol, which waits for nobody.

uvicorn closes a connection once what it has written is sent, so a client that does not read keeps it open for
as long as it likes, and a stop of the service waits for it. This one breaks it off after a moment.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ledger.api.errors import encode_refusal
from ledger.errors import InvalidParameter
from ledger.ids import encode_base62

FRAME_BYTES_MAX = 16 * 1024 * 1024
PING_SECONDS = 10.0
PONG_SECONDS_MAX = 20.0
"""A client that does not answer a ping for so long is gone."""
CLOSE_SECONDS_MAX = 2.0
"""How long what is written may take to be sent, once the connection is to end."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One websocket connection."""

    def data_received(self, data: bytes) -> None:
        """As asyncio has it. uvicorn does not answer a head that it cannot read, of too many headers for
        example, and would keep the connection open for ever."""
        super().data_received(data)
        is_unreadable = self.conn.handshake_exc is not None and not self.handshake_initiated
        if is_unreadable and not self.transport.is_closing():
            request_id = f"req_{encode_base62(secrets.randbits(128))}"
            refusal = InvalidParameter("Invalid HTTP request received.")
            self.transport.write(encode_refusal(refusal, request_id))
            self.transport.close()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read: the answers would pile up in memory."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the answer that websockets has made

    async def send(self, message: Any) -> None:
        """As ASGI has it. uvicorn does not know that a response in place of the handshake completes it, and
        would log an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def shutdown(self) -> None:
        """The service stops: tell the client to come back (1012), and end."""
        super().shutdown()
        self._break_off_soon()

    def keepalive_timeout(self) -> None:
        """The client is gone."""
        super().keepalive_timeout()
        self._break_off_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with the connection."""
        super().on_task_complete(task)
        self._break_off_soon()

    def _break_off_soon(self) -> None:
        self.loop.call_later(CLOSE_SECONDS_MAX, self.transport.abort)
