"""What FastAPI does with errors: it answers them as the public protocol does."""

from __future__ import annotations

import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger.api.errors import render_error
from ledger.api.unknown_routes.hints import unknown_route_error
from ledger.commands.body_errors import choose_error, invalid_json_error, validation_error
from ledger.errors import LedgerError, Unavailable
from ledger.ids import new_id
from ledger.postgres.connections import first_line
from ledger.postgres.sessions import LOST
from ledger.time_limits import RequestLimit

_PAGES = dict.fromkeys(("/", "/docs", "/openapi.json"), ("GET",))
"""Routes that the OpenAPI document does not list."""


def add_error_handlers(app: FastAPI) -> None:
    """Make the routes that FastAPI serves answer errors as the public protocol does."""
    app.add_exception_handler(LedgerError, _handle_error)
    for lost in LOST:
        app.add_exception_handler(lost, _handle_database_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)


async def answer_within(seconds: float, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let `app` answer a request. If its answer has not begun within `seconds`, the caller gets that of a
    database that cannot be used."""

    async def send_within_limit(message: Message) -> None:
        limit.lift()
        await send(message)

    limit = RequestLimit(seconds)
    try:
        async with limit:
            await app(scope, receive, send_within_limit)
    except Unavailable as error:
        await (await _handle_error(Request(scope), error))(scope, receive, send)


async def _handle_error(request: Request, error: Exception) -> Response:
    status, body, headers = render_error(error)
    response_headers = {name.decode(): value.decode() for name, value in headers}
    if hasattr(request.state, "exchange"):
        request.state.exchange.error_body = body
    else:  # outside the two APIs, which give each request its id
        response_headers["request-id"] = new_id("req", time.time())
    return Response(body, status, response_headers, "application/json")


async def _handle_database_error(request: Request, error: Exception) -> Response:
    return await _handle_error(request, Unavailable(first_line(error)))


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """FastAPI raises this for a path it has no route for, and for a body that is not JSON."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return await _handle_error(request, invalid_json_error())
    described = request.app.openapi()["paths"].items()
    served = {path: {method.upper() for method in methods} for path, methods in described} | _PAGES
    return await _handle_error(request, unknown_route_error(request.method, request.url.path, served))


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = choose_error(error.errors())
    declared = request.scope["route"].dependant
    parameters = declared.body_params if first["loc"][0] == "body" else declared.query_params
    model = parameters[0].field_info.annotation if parameters else None
    return await _handle_error(request, validation_error(first, skip=1, model=model))
