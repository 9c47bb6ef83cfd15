"""What every call under /internal/v1 has around it, whichever route answers: a Request-Id, a bound on its
body, a place in the metrics and the request log, as on the public wire.

A body is read here, within the bound, before the framework sees it: JSON is parsed whole. The lines of an
import are no one body; each has a bound of its own (`commands/importing`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.api.public.protocol import Exchange, LogAccess, RenderError, read_bounded_body
from ledger.errors import RequestError
from ledger.ids import new_id

IMPORT_PATH = "/internal/v1/import"
REQUEST_ID_HEADER = b"request-id"
JSON_HEADER = (b"content-type", b"application/json")


class InternalApiMiddleware:
    """An ASGI application around the one that routes them. It leaves the `Exchange` in the request's state,
    where `api/callers` notes whose key it is."""

    def __init__(
        self, app: ASGIApp, *, render_error: RenderError, log_access: LogAccess, body_bytes_max: int
    ) -> None:
        self._app = app
        self._render_error = render_error
        self._log_access = log_access
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope["method"], scope["path"], new_id("req", time.time()))
        scope.setdefault("state", {})["exchange"] = exchange

        async def send_with_request_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                if all(name != REQUEST_ID_HEADER for name, _ in message["headers"]):
                    message["headers"] = [
                        *message["headers"],
                        (REQUEST_ID_HEADER, exchange.request_id.encode()),
                    ]
            await send(message)

        try:
            if exchange.path != IMPORT_PATH:
                receive = await self._buffer_body(scope, receive)
            await self._app(scope, receive, send_with_request_id)
        except RequestError as refusal:
            status, body, _ = self._render_error(refusal)
            await send_with_request_id(
                {"type": "http.response.start", "status": status, "headers": [JSON_HEADER]}
            )
            await send({"type": "http.response.body", "body": body.encode()})
        finally:
            if "endpoint" in scope:
                exchange.operation_name = (
                    f"{exchange.method} {_route_template(exchange.path, scope['path_params'])}"
                )
            self._log_access(exchange)

    async def _buffer_body(self, scope: Scope, receive: Receive) -> Receive:
        body = await read_bounded_body(dict(scope["headers"]), receive, self._body_bytes_max)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_buffered() -> Message:
            return messages.pop() if messages else await receive()

        return receive_buffered


def _route_template(path: str, parameters: Mapping[str, object]) -> str:
    """The path as its route is declared: what the framework says of routes differs by its version."""
    names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join(names.get(segment, segment) for segment in path.split("/"))
