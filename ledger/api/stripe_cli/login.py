"""`stripe login`, in development: the CLI asks for keys, a person confirms in a browser, the CLI gets them.

`ledger serve` has these routes only with an embedded database, on a loopback address and without a public URL
(decision 0100). Nothing here is logged: the URLs are secrets.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse

from ledger.api.errors import BodyTooLarge, encode_answer
from ledger.api.stripe_cli.login_page import show_confirmation, show_login, show_refusal
from ledger.api.stripe_cli.same_user import check_loopback_host, check_same_user
from ledger.clock import Clock
from ledger.config import Settings
from ledger.crypto.mac import Mac
from ledger.errors import Forbidden, InvalidParameter, RequestError, UnknownRoute
from ledger.ids import encode_digest
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.stripe_cli.logins import (
    begin_login,
    confirm_login,
    find_open_login,
    list_login_accounts,
    redeem_login,
)
from ledger.wire.forms import decode

AUTH_PATH = "/stripecli/auth"
FORM_BYTES_MAX = 8_192

_Connect = Callable[[], AbstractAsyncContextManager[Conn]]

_HEADERS = {"cache-control": "no-store"}
_NOT_OPEN = "This login has expired or is used. Run `stripe login` again."


def add_login(
    app: FastAPI, settings: Settings, dsn: str, service_keys: ServiceKeys | bytes, url: str
) -> None:
    """Add the routes to the application. `url`: that of this service for a browser on this machine."""
    connect = partial(open_connection, dsn, "ledger_api", name="stripe login")  # a login is rare
    # Any program of this machine may begin logins, and none that a failover has taken back can be confirmed.
    connect_to_begin = partial(connect, settings=LOCAL_COMMITS)
    app.include_router(_program_routes(connect, connect_to_begin, Clock(movable=settings.test_clock), url))
    app.include_router(_page_routes(connect, service_keys))


def _program_routes(connect: _Connect, connect_to_begin: _Connect, clock: Clock, url: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.post(AUTH_PATH)
    async def begin(request: Request) -> JSONResponse:
        _check_program(request)
        form = await _read_form(request)
        async with connect_to_begin() as conn:
            login = await begin_login(conn, _get_text(form, "device_name"))
        answer = {
            "browser_url": f"{url}{AUTH_PATH}/confirm/{login.page_secret}",
            "poll_url": f"{url}{AUTH_PATH}/poll/{login.poll_secret}",
            "verification_code": login.code,
        }
        return JSONResponse(answer, headers=_HEADERS)

    @router.get(AUTH_PATH + "/poll/{poll_secret}")
    async def poll(request: Request, poll_secret: str) -> JSONResponse:
        _check_program(request)
        async with connect() as conn:
            await clock.refresh(conn)
            confirmed = await redeem_login(conn, poll_secret, clock.now())
        answer: dict[str, Any] = {"redeemed": confirmed is not None}
        if confirmed is not None:
            answer["account_id"] = confirmed.account.id
            answer["account_display_name"] = confirmed.account.name
            answer["testmode_key_secret"] = confirmed.secret
            answer["testmode_key_publishable"] = confirmed.publishable
        return JSONResponse(answer, headers=_HEADERS)

    return router


def _page_routes(connect: _Connect, service_keys: ServiceKeys | bytes) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    form_mac = Mac(ServiceKeys.of(service_keys).derive(b"ledger/stripe_login/form/1"))

    def make_token(page_secret: str) -> str:
        """What a browser only knows from the page: a program that has the page's URL cannot just post."""
        return encode_digest(form_mac.digest(page_secret.encode()))

    @router.get(AUTH_PATH + "/confirm/{page_secret}")
    async def show(request: Request, page_secret: str) -> HTMLResponse:
        try:
            await check_same_user(request)
            async with connect() as conn:
                login = await find_open_login(conn, page_secret)
                accounts = await list_login_accounts(conn)
            if login is None:
                raise UnknownRoute(_NOT_OPEN)
        except RequestError as refusal:
            return _show_refusal(refusal)
        return show_login(login, accounts, make_token(page_secret))

    @router.post(AUTH_PATH + "/confirm/{page_secret}")
    async def confirm(request: Request, page_secret: str) -> HTMLResponse:
        try:
            await check_same_user(request)
            _check_own_page(request)
            form = await _read_form(request)
            if not hmac.compare_digest(_get_text(form, "token").encode(), make_token(page_secret).encode()):
                raise Forbidden("The form is not from the page of this login.")
            async with connect() as conn:
                accounts = {each.id: each for each in await list_login_accounts(conn)}
                account = accounts.get(_get_text(form, "account"))
                if account is None:
                    raise InvalidParameter("There is no such account.", param="account")
                if not await confirm_login(conn, page_secret, account.id):
                    raise UnknownRoute(_NOT_OPEN)
        except RequestError as refusal:
            return _show_refusal(refusal)
        return show_confirmation(account)

    return router


def _check_program(request: Request) -> None:
    """Refuse pages of other sites, which could begin a login and hope that somebody confirms it: browsers
    send these headers, and the CLI does not. Raises Forbidden."""
    check_loopback_host(request)
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        raise Forbidden("This is for the Stripe CLI, not for browsers.")


def _check_own_page(request: Request) -> None:
    """Refuse a form that another page has posted. Raises Forbidden."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        raise Forbidden("Confirm the login in a browser.")
    if origin not in (None, f"http://{request.headers.get('host')}") or site not in (None, "same-origin"):
        raise Forbidden("The form is not from this service.")


async def _read_form(request: Request) -> dict[str, Any]:
    """Raises BodyTooLarge and InvalidParameter."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise BodyTooLarge(f"The request body is larger than {FORM_BYTES_MAX} bytes.")
    return decode(body)


def _get_text(form: dict[str, Any], name: str) -> str:
    """A required parameter. Raises InvalidParameter."""
    value = form.get(name)
    if not isinstance(value, str):
        raise InvalidParameter(f"Missing required param: {name}.", code="parameter_missing", param=name)
    return value


def _show_refusal(refusal: RequestError) -> HTMLResponse:
    return show_refusal(encode_answer(refusal)[0], refusal.message)
