"""`GET /`, and the reference at `/docs`: Swagger UI from files of this package, on the OpenAPI document.

People paste secret keys into the reference. So it loads no script, style, font or image from another host,
and the policy in its headers lets nothing else run or be contacted; a key stays in the page's memory. The
files of Swagger UI are those of its release (swagger_ui/origin.json; `make swagger-ui` renews them).
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from ledger import __version__
from ledger.errors import UnknownRoute

_FOLDER = Path(__file__).parent
_SHARED_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
_PAGE_HEADERS = {**_SHARED_HEADERS, "vary": "accept"}
_WHAT = "Customer sessions, disputes and events over Stripe's wire protocol, on an append-only log."
_Links = Mapping[str, tuple[str, str]]
_LINKS: _Links = {
    "reference": ("docs", "every operation, to read and to try"),
    "openapi": ("openapi.json", "the same as an OpenAPI document"),
    "health": ("healthz", "the process is up"),
    "readiness": ("readyz", "the database answers and every projection keeps up"),
    "metrics": ("metrics", "for Prometheus"),
}
_CONSOLE: _Links = {"console": ("console", "a page for people, for whoever has a key")}
_SOURCES = "README.md and docs/ in the sources of this release, from docs/api.md on"


def add_pages(app: FastAPI, *, has_console: bool) -> None:
    """Add the pages to the application, made without FastAPI's own."""
    router = APIRouter(include_in_schema=False)
    links = {**_LINKS, **_CONSOLE} if has_console else _LINKS
    service_html, service_json = _render_html(links), _render_json(links)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def show_service(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return Response(service_html, media_type="text/html", headers=_PAGE_HEADERS)
        return Response(service_json, media_type="application/json", headers=_PAGE_HEADERS)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def show_reference() -> FileResponse:
        return FileResponse(_FOLDER / "reference.html", headers=_SHARED_HEADERS)

    @router.api_route("/docs/reference.js", methods=["GET", "HEAD"])
    async def show_reference_script() -> FileResponse:
        return FileResponse(_FOLDER / "reference.js", headers=_SHARED_HEADERS)

    @router.api_route("/redoc", methods=["GET", "HEAD"])
    async def refuse_redoc(request: Request) -> Response:
        raise UnknownRoute(
            f"Unrecognized request URL ({request.method}: /redoc). The reference of the API is at /docs."
        )

    app.include_router(router)
    app.mount("/docs/swagger_ui", _Assets(directory=_FOLDER / "swagger_ui"))


class _Assets(StaticFiles):
    """Files with the headers of the page that loads them. A browser asks each time whether a file changed."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_SHARED_HEADERS)
        return response


def _render_html(links: _Links) -> str:
    rows = "".join(
        f'<li><a href="{path}">/{path}</a>: {html.escape(text)}</li>\n' for path, text in links.values()
    )
    return f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Ledger {__version__}</title>
<h1>Ledger {__version__}</h1>
<p>{html.escape(_WHAT)}</p>
<ul>
{rows}</ul>
<p>The API is at /v1 and, for other services and operators, at /internal/v1; both need a key. More is in
{html.escape(_SOURCES)}.</p>
</html>
"""


def _render_json(links: _Links) -> str:
    described = {
        "service": "ledger",
        "version": __version__,
        "description": _WHAT,
        "api": "/v1",
        "internal_api": "/internal/v1",
        **{name: f"/{path}" for name, (path, _) in links.items()},
        "documentation": _SOURCES,
    }
    return json.dumps(described, indent=2) + "\n"
