"""The websocket of the Stripe CLI: the handshake, and one task for each direction of a connection.

The secret id of a session is all that the CLI identifies itself by here. A handshake that is refused with
exactly the message UNKNOWN makes the CLI open a new session; after any other refusal it tries again for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psycopg
import structlog
from starlette.types import Receive, Scope, Send

from ledger.api.errors import RenderError
from ledger.errors import Unauthenticated
from ledger.logs import describe_error
from ledger.stripe_cli.frames import EventAck, WebhookResponse, decode_frame
from ledger.stripe_cli.listeners import Listeners
from ledger.stripe_cli.responses import ResponseRecorder
from ledger.stripe_cli.secrets import WEBSOCKET_ID_LENGTH
from ledger.stripe_cli.sessions import Session
from ledger.stripe_cli.source import Source

UNKNOWN = "Unknown WebSocket ID."
SUBPROTOCOL = "stripecli-devproxy-v1"
SEND_SECONDS_MAX = 15.0
"""How long a listener may take to make room for the next message."""
SAVE_SECONDS = 0.1
"""Acknowledgements within this time are stored together. They are lost if the process is killed: the Events
are then sent again."""
RETRY_SECONDS = 1.0
CLOSE_CODES = {"session_ended": 1008, "key_ended": 1008, "replaced": 1008, "too_slow": 1013}
"""The CLI treats all codes alike: it is back after 1 s."""

log = structlog.get_logger()


class ListenerSocket:
    """The ASGI application of the socket."""

    def __init__(self, listeners: Listeners, render_error: RenderError) -> None:
        self._listeners = listeners
        self._render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it ends."""
        await receive()  # websocket.connect
        headers = dict(scope["headers"])
        websocket_id = headers.get(b"websocket-id", b"").decode("latin-1")
        try:
            session = None
            if len(websocket_id) == WEBSOCKET_ID_LENGTH and websocket_id.isascii():
                session = await self._listeners.connect(websocket_id)
            if session is None:
                raise Unauthenticated(UNKNOWN)
        except Exception as error:
            await self._refuse(send, error)
            return
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await self._serve(session, receive, send)

    async def _refuse(self, send: Send, error: Exception) -> None:
        status, body, headers = self._render_error(error)
        headers = [(b"content-type", b"application/json"), *headers]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body.encode()})

    async def _serve(self, session: Session, receive: Receive, send: Send) -> None:
        ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def end(reason: str) -> None:
            if not ending.done():
                ending.set_result(reason)

        sources = self._listeners.open(session, end)
        connection = _Connection(session, sources, self._listeners.responses, receive, send)
        facts = {"session": session.id, "account": session.account, "features": session.features}
        log.info("listener_connected", **facts)
        reason = "cancelled"
        try:
            reason = await connection.run(ending)
        finally:
            self._listeners.close_session(session)
            log.info("listener_disconnected", reason=reason, **facts)


class _Connection:
    """A connection that is open."""

    def __init__(
        self,
        session: Session,
        sources: Sequence[Source],
        responses: ResponseRecorder,
        receive: Receive,
        send: Send,
    ) -> None:
        self._session = session
        self._sources = sources
        self._responses = responses
        self._receive = receive
        self._send = send
        self._acknowledged = asyncio.Event()

    async def run(self, ending: asyncio.Future[str]) -> str:
        """Send and receive until the CLI disconnects, cannot be written to, or `ending` has a reason. Returns
        the reason."""
        tasks = [
            asyncio.ensure_future(self._receive_all()),
            asyncio.ensure_future(self._save_soon()),
            *(asyncio.ensure_future(self._send_all(source)) for source in self._sources),
        ]
        try:
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            ended = [task.result() for task in (ending, *tasks) if task.done()]
        finally:
            ending.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._save()
        reason = ended[0]
        code = CLOSE_CODES.get(reason)
        if code is not None:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(SEND_SECONDS_MAX):
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
        return reason

    async def _send_all(self, source: Source) -> str:
        delayed = False
        while True:
            try:
                async for frame in source.frames():
                    delayed = False
                    async with asyncio.timeout(SEND_SECONDS_MAX):
                        await self._send({"type": "websocket.send", "text": frame})
            except TimeoutError:
                return "too_slow"
            except OSError:  # uvicorn's: the client has gone
                return "disconnected"
            except psycopg.Error as error:
                if not delayed:  # one line an outage
                    log.warning("listener_delayed", session=self._session.id, reason=describe_error(error))
                delayed = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _receive_all(self) -> str:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return "disconnected"
            text = message.get("text")
            frame = decode_frame(text) if text is not None else None
            if isinstance(frame, EventAck):
                for source in self._sources:
                    source.acknowledge(frame)
                self._acknowledged.set()
            elif isinstance(frame, WebhookResponse):
                self._responses.add(self._session, frame)

    async def _save_soon(self) -> str:
        while True:
            await self._acknowledged.wait()
            await asyncio.sleep(SAVE_SECONDS)
            self._acknowledged.clear()
            await self._save()

    async def _save(self) -> None:
        for source in self._sources:
            try:
                await source.save()
            except psycopg.Error as error:  # what is not stored is sent again
                log.warning("listener_not_saved", session=self._session.id, reason=describe_error(error))
