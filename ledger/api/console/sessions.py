"""The routes with which the page of the console opens, shows and ends its session.

They are no part of the internal API: what they answer is of use to that page alone. Only the page may open a
session, so that no other site can sign a person in with a key of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from ledger import __version__
from ledger.accounts import Account, ApiKey, find_account
from ledger.api.authentication import authenticate
from ledger.api.clock import RefreshClock
from ledger.api.console.cookie import (
    SESSION_SCHEME,
    format_cookie,
    is_from_our_page,
    read_authorization,
    read_cookie,
)
from ledger.api.exchange import Exchange
from ledger.api.key_cache import KeyCache
from ledger.api.rate_limits import RateLimits
from ledger.commands.models import Body
from ledger.config import Settings
from ledger.console.sessions import end_session, open_session, open_session_by_link
from ledger.errors import Forbidden, Unauthenticated
from ledger.postgres.connections import Conn, Pool

SESSION_PATH = "/console/session"
SECRET_LENGTH_MAX = 255
_HEADERS = {"cache-control": "no-store"}


class SessionBody(Body):
    """What opens a session: a key, or the secret of a link. Never both."""

    key: str | None = Field(None, max_length=SECRET_LENGTH_MAX)
    link: str | None = Field(None, max_length=SECRET_LENGTH_MAX)

    @model_validator(mode="after")
    def _check_exactly_one(self) -> SessionBody:
        if (self.key is None) == (self.link is None):
            raise ValueError("pass exactly one of key and link")
        return self


def session_routes(
    settings: Settings, keys: KeyCache, pool: Pool, refresh_clock: RefreshClock, rate_limits: RateLimits
) -> APIRouter:
    """POST, GET and DELETE of SESSION_PATH. Sessions that a key opens count against its limit."""
    router = APIRouter(include_in_schema=False)
    seconds = settings.console_session_seconds

    async def show(exchange: Exchange, key: ApiKey) -> dict[str, Any]:
        account = await pool.run_idempotent(lambda conn: find_account(conn, key.account))
        assert account is not None
        return _render_session(settings, key, account, await refresh_clock())

    @router.post(SESSION_PATH)
    async def create_session(request: Request, body: SessionBody) -> Response:
        """Open a session, with a cookie for it."""
        exchange: Exchange = request.state.exchange
        _check_is_from_our_page(exchange)
        now = await refresh_clock()
        if body.link is None:
            key = await authenticate(keys, b"Bearer " + (body.key or "").strip().encode(), now)
            rate_limits.check(key.id, key.account)
            _check_kind(key)
            secret = await _open(
                pool, lambda conn: open_session(conn, key.id, "key", seconds=seconds, now=now)
            )
        else:
            link = body.link
            secret = await _open(
                pool, lambda conn: open_session_by_link(conn, link, seconds=seconds, now=now)
            )
        await _end_former(pool, exchange)
        session_key = await keys.find_session(SESSION_SCHEME + secret.encode())
        assert session_key is not None
        exchange.set_key(session_key)
        cookie = _format_cookie(exchange, settings, secret, seconds)
        return JSONResponse(await show(exchange, session_key), headers={**_HEADERS, "set-cookie": cookie})

    @router.api_route(SESSION_PATH, methods=["GET", "HEAD"])
    async def read_session(request: Request) -> Response:
        """The session of the request."""
        exchange: Exchange = request.state.exchange
        key = await authenticate(keys, read_authorization(exchange.request_headers), await refresh_clock())
        exchange.set_key(key)
        return JSONResponse(await show(exchange, key), headers=_HEADERS)

    @router.delete(SESSION_PATH)
    async def delete_session(request: Request) -> Response:
        """End the session of the request, if it has one."""
        exchange: Exchange = request.state.exchange
        _check_is_from_our_page(exchange)
        await _end_former(pool, exchange)
        cookie = _format_cookie(exchange, settings, "", 0)
        return JSONResponse(
            {"object": "console_session", "deleted": True}, headers={**_HEADERS, "set-cookie": cookie}
        )

    return router


async def _end_former(pool: Pool, exchange: Exchange) -> None:
    """End the session of the request's cookie, which nobody has any more once there is another cookie."""
    secret = read_cookie(exchange.request_headers)
    if secret is not None:
        async with pool.connection() as conn:
            await end_session(conn, secret)


async def _open(pool: Pool, open_it: Callable[[Conn], Awaitable[str | None]]) -> str:
    """The secret of the session that is opened. Raises Unauthenticated if the link opens none."""
    async with pool.connection() as conn:
        secret = await open_it(conn)
    if secret is None:
        raise Unauthenticated(
            "This link was used before, or has expired: `ledger console open` prints a new one.",
            code="link_expired",
        )
    return secret


def _render_session(settings: Settings, key: ApiKey, account: Account, now: float) -> dict[str, Any]:
    return {
        "object": "console_session",
        "account": account.id,
        "account_name": account.name,
        "platform": account.platform,
        "livemode": key.livemode,
        "key": {"id": key.id, "name": key.name, "kind": key.kind, "masked": key.masked},
        "scopes": list(key.scopes),
        "now": now,
        "expires_at": key.expires_at,
        "service": {"version": __version__, "test_clock": settings.test_clock},
    }


def _check_is_from_our_page(exchange: Exchange) -> None:
    """Raises Forbidden for a request that another site may have made a browser send."""
    if not is_from_our_page(exchange.request_headers):
        raise Forbidden("Only the page of the console may open and end its sessions.")


def _check_kind(key: ApiKey) -> None:
    if key.kind not in ("sk", "rk"):
        raise Forbidden(
            f"The provided key '{key.masked}' is for front ends: it opens no session. Use a restricted or a "
            "secret key."
        )


def _format_cookie(exchange: Exchange, settings: Settings, secret: str, seconds: int) -> str:
    """By HTTPS or not is what the browser says: the settings need not know a proxy, or the lack of one."""
    origin = exchange.request_headers.get(b"origin", b"").decode("latin-1")
    address = origin if origin.startswith("http") else settings.public_url or exchange.base_url
    return format_cookie(
        exchange.request_headers, secret, seconds=seconds, is_secure=address.startswith("https:")
    )
