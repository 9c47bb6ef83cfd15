"""The cookie of a session of the console, which stands in place of a key in the requests of its page.

A browser sends a cookie with requests that other sites make it send, so it counts only where the browser says
that our own page asks: `Sec-Fetch-Site: same-origin` (W3C Fetch Metadata), or, where a browser sends none
because the address is neither HTTPS nor loopback, our own header, which a page of another origin cannot send
without a preflight that allows credentials, and no preflight of ours does (`api/public/cors`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ledger.console.sessions import SESSION_PREFIX

SESSION_SCHEME = b"Console "
"""How the session's secret stands in place of an Authorization header."""
_COOKIE_HEADER = b"cookie"
_match_secret = re.compile(SESSION_PREFIX.encode() + rb"[A-Za-z0-9_-]{43}").fullmatch


def read_authorization(headers: Mapping[bytes, bytes]) -> bytes:
    """The Authorization header of a request, or else what stands for it: the cookie, if it counts. The secret
    of a session is none for the header: a page may not have it, and programs have keys."""
    authorization = headers.get(b"authorization", b"")
    if authorization.startswith(SESSION_SCHEME):
        return b""
    if authorization or _COOKIE_HEADER not in headers or not is_from_our_page(headers):
        return authorization
    secret = read_cookie(headers)
    return SESSION_SCHEME + secret.encode() if secret else b""


def is_from_our_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser sends the request for a page of this origin."""
    site = headers.get(b"sec-fetch-site")
    return b"ledger-console" in headers if site is None else site == b"same-origin"


def read_cookie(headers: Mapping[bytes, bytes]) -> str | None:
    """The secret of the session in the request's cookie; None without one."""
    name = _get_name(headers)
    found = None
    for pair in headers.get(_COOKIE_HEADER, b"").split(b";"):
        each, _, value = pair.strip().partition(b"=")
        if each in (name, b"__Host-" + name) and _match_secret(value):
            if each != name:  # no other host can have set it
                return value.decode()
            found = found or value.decode()
    return found


def format_cookie(headers: Mapping[bytes, bytes], secret: str, *, seconds: int, is_secure: bool) -> str:
    """The Set-Cookie header of a session; `seconds` 0 removes the cookie. `is_secure`: the page is read by
    HTTPS."""
    name = _get_name(headers).decode("latin-1")
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return f"__Host-{name}={secret}; {attributes}; Secure" if is_secure else f"{name}={secret}; {attributes}"


def _get_name(headers: Mapping[bytes, bytes]) -> bytes:
    """One for each port: cookies do not know ports, and services on one machine would end each other's
    sessions."""
    _, _, port = headers.get(b"host", b"").rpartition(b":")
    return b"ledger_console_" + port if port.isdigit() else b"ledger_console"
