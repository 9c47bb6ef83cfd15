"""Middleware of the internal API: it gives every request a request id and a limit on its body, and counts and
logs it, as the public API does.

The body is read here, within its limit, before the framework parses it as JSON in one piece. The body of an
import is not: it may be of any length, and each line has a limit of its own (`commands/imports/lines`). An
answer begins within the limit of time of a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.api.errors import FAULT_STATUS_MIN, RenderError, encode_answer
from ledger.api.exchange import AsgiSource, Exchange, LogAccess, generate_request_ids
from ledger.errors import LedgerError, RequestError, Unavailable
from ledger.postgres.connections import first_line
from ledger.postgres.sessions import LOST
from ledger.store.durability import Durability
from ledger.time_limits import RequestLimit

IMPORT_PATH = "/internal/v1/import"
REQUEST_ID_HEADER = b"request-id"
_READS = ("GET", "HEAD", "OPTIONS")
# Of a request that was refused before it looked at anything.
_STATUSES_BEFORE = (401, 403, 405, 413, 429)


DirectAnswer = Callable[[], Awaitable[Mapping[str, Any]]]
"""Makes the object that answers a request. An error of the request is raised."""
FindDirectAnswer = Callable[[Exchange, Scope], DirectAnswer | None]


class InternalApiMiddleware:
    """An ASGI application around the one with the routes. It puts the `Exchange` into the request's state,
    where `Callers` sets the key and the account.

    durability   waits until what was visible is on the standbys, before an answer that says what is done
    find_direct  what answers a request before the framework, None if that has to: for routes that are read
                 often, because the framework takes longer than they do
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        render_error: RenderError,
        log_access: LogAccess,
        body_bytes_max: int,
        durability: Durability,
        request_seconds: float,
        find_direct: FindDirectAnswer = lambda exchange, scope: None,
    ) -> None:
        self._app = app
        self._render_error = render_error
        self._log_access = log_access
        self._body_bytes_max = body_bytes_max
        self._durability = durability
        self._request_seconds = request_seconds
        self._find_direct = find_direct
        self._request_ids = generate_request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(
            scope["method"],
            scope["path"],
            scope["query_string"],
            dict(scope["headers"]),
            AsgiSource(scope["scheme"], receive),
            next(self._request_ids),
        )
        scope.setdefault("state", {})["exchange"] = exchange

        replaced = False
        failovers = self._durability.failovers

        async def send_with_request_id(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                try:
                    if exchange.before_answer is not None:
                        await exchange.before_answer(message["status"])
                    if _may_depend_on_changes(exchange, message["status"]):
                        await self._durability.confirm(failovers)
                except LedgerError as error:
                    replaced = True
                    await self._send_error(exchange, error, send)
                    return
                limit.lift()
                exchange.status = message["status"]
                exchange.answered_at = time.perf_counter()
                headers = message["headers"]
                if all(name != REQUEST_ID_HEADER for name, _ in headers):
                    message["headers"] = [*headers, (REQUEST_ID_HEADER, exchange.request_id.encode())]
            await send(message)

        limit = RequestLimit(self._request_seconds)
        try:
            async with limit:
                if exchange.path != IMPORT_PATH:
                    receive = await self._buffer_body(exchange, receive)
                direct = self._find_direct(exchange, scope)
                if direct is None:
                    await self._app(scope, receive, send_with_request_id)
                else:
                    await self._answer(exchange, direct, send_with_request_id)
        except (RequestError, Unavailable) as error:
            await self._send_error(exchange, error, send)
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            if exchange.status:
                raise
            await self._send_error(exchange, Unavailable("the process ends, and this request had not"), send)
        finally:
            if "endpoint" in scope:
                exchange.operation_name = (
                    f"{exchange.method} {get_route_template(exchange.path, scope['path_params'])}"
                )
            self._log_access(exchange)

    async def _answer(self, exchange: Exchange, direct: DirectAnswer, send: Send) -> None:
        try:
            exchange.status, body = encode_answer(await direct())
        except LOST as error:
            body = self._refuse(exchange, Unavailable(first_line(error)))
        except Exception as error:
            body = self._refuse(exchange, error)
        await exchange.send_response(send, body.encode())

    async def _send_error(self, exchange: Exchange, error: LedgerError, send: Send) -> None:
        await exchange.send_response(send, self._refuse(exchange, error).encode())

    def _refuse(self, exchange: Exchange, error: Exception) -> str:
        """Set status and headers of the answer to a request that ended in an error. Returns its body."""
        exchange.status, body, headers = self._render_error(error)
        exchange.response_headers += headers
        exchange.error_body = body
        return body

    async def _buffer_body(self, exchange: Exchange, receive: Receive) -> Receive:
        """Read the body, and return a `receive` that passes it to the framework as one message."""
        body = await exchange.read_body(self._body_bytes_max)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_buffered() -> Message:
            return messages.pop() if messages else await receive()

        return receive_buffered


def _may_depend_on_changes(exchange: Exchange, status: int) -> bool:
    """Whether the answer says that something is done, and the command behind it has not made that sure. An
    import does so for each of its lines."""
    return not (
        exchange.is_durable
        or exchange.method in _READS
        or exchange.path == IMPORT_PATH
        or status >= FAULT_STATUS_MIN
        or status in _STATUSES_BEFORE
    )


def get_route_template(path: str, parameters: Mapping[str, object]) -> str:
    """The path as its route declares it. Derived from the path and its parameters, because each version of
    the framework describes a route in its own way. A parameter is a whole segment, or one without its suffix,
    such as `.tlog-proof`."""
    template = path
    for name, value in parameters.items():
        before, separator, after = template.rpartition(f"/{value}")
        if separator and (not after or after[0] in "/."):
            template = f"{before}/{{{name}}}{after}"
    return template
