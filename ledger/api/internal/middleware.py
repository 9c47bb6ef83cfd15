"""What every call under /internal/v1 has around it, whichever route answers: a Request-Id, a bound on its
body, a place in the metrics and the request log, as on the public wire.

A body is read here, within the bound, before the framework sees it: JSON is parsed whole. The lines of an
import are no one body; each has a bound of its own (`commands/importing`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.api.public.protocol import Exchange, Failure, Observe, bounded_body
from ledger.errors import Refused
from ledger.ids import new_id

IMPORT_PATH = "/internal/v1/import"
REQUEST_ID = b"request-id"
JSON = (b"content-type", b"application/json")


class InternalCalls:
    """An ASGI application around the one that routes them. It leaves the `Exchange` in the request's state,
    where `api/callers` notes whose key it is."""

    def __init__(self, routed: ASGIApp, *, failure: Failure, observe: Observe, body_bytes_max: int) -> None:
        self._routed = routed
        self._failure = failure
        self._observe = observe
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope["method"], scope["path"], new_id("req", time.time()))
        scope.setdefault("state", {})["exchange"] = exchange

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                if all(name != REQUEST_ID for name, _ in message["headers"]):
                    message["headers"] = [*message["headers"], (REQUEST_ID, exchange.request_id.encode())]
            await send(message)

        try:
            if exchange.path != IMPORT_PATH:
                receive = await self._bounded(scope, receive)
            await self._routed(scope, receive, telling)
        except Refused as refusal:
            status, body, _ = self._failure(refusal)
            await telling({"type": "http.response.start", "status": status, "headers": [JSON]})
            await send({"type": "http.response.body", "body": body.encode()})
        finally:
            if "endpoint" in scope:
                exchange.name = f"{exchange.method} {_template(exchange.path, scope['path_params'])}"
            self._observe(exchange)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        body = await bounded_body(dict(scope["headers"]), receive, self._body_bytes_max)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return again


def _template(path: str, parameters: Mapping[str, object]) -> str:
    """The path as its route is declared: what the framework says of routes differs by its version."""
    names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join(names.get(segment, segment) for segment in path.split("/"))
