"""The page at /console and its files: static ES modules of this package, under the strictest policy.

Every path under /console that names no file is the page itself, whose scripts read the view from the URL.
A file is read again when it has changed, so that a page under development needs no restart.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Message, Send

from ledger.api.errors import STATUS_NOT_MODIFIED
from ledger.errors import UnknownRoute

ROOT = "/console"
FOLDER = Path(__file__).parent / "static"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}
_ENCODED_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def is_of_console(path: str) -> bool:
    """Whether a path is that of the console, or under it."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def add_policy(send: Send) -> Send:
    """`send`, with HEADERS on whatever is answered: files, sessions, that nothing has changed, errors."""

    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            more = [header for header in _ENCODED_HEADERS if header[0] not in names]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return send_with_policy


class _File(NamedTuple):
    """A file as it is sent: whole, and compressed if that makes it shorter."""

    modified_ns: int
    media_type: str
    tag: str
    plain: bytes
    compressed: bytes | None


class StaticFiles:
    """The files under a folder by their paths, kept in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = self._list()
        self._files: dict[str, _File] = {}

    def answer(self, name: str, request: Request) -> Response:
        """The file of a path relative to the folder, or that it has not changed. Raises UnknownRoute."""
        path = self._find(name)
        if path is None:
            raise UnknownRoute(f"Unrecognized request URL ({request.method}: {request.url.path}).")
        file = self._read(name, path)
        is_compressed = file.compressed is not None and _accepts_gzip(request)
        tag = f'"{file.tag}-gzip"' if is_compressed else f'"{file.tag}"'
        headers = {"etag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=STATUS_NOT_MODIFIED, headers=headers)
        if is_compressed:
            headers["content-encoding"] = "gzip"
        content = file.compressed if is_compressed else file.plain
        return Response(content, media_type=file.media_type, headers=headers)

    def _find(self, name: str) -> Path | None:
        """The path of a file that was there at the start, or was added since. No name leads out of the
        folder: it is compared with those of the files, and never used as a path."""
        if name not in self._paths:
            self._paths = self._list()
        return self._paths.get(name)

    def _list(self) -> dict[str, Path]:
        found = (path for path in self._folder.rglob("*") if path.suffix in _MEDIA_TYPES)
        return {path.relative_to(self._folder).as_posix(): path for path in found}

    def _read(self, name: str, path: Path) -> _File:
        modified_ns = path.stat().st_mtime_ns
        file = self._files.get(name)
        if file is None or file.modified_ns != modified_ns:
            plain = path.read_bytes()
            compressed = gzip.compress(plain, 9, mtime=0)
            file = self._files[name] = _File(
                modified_ns,
                _MEDIA_TYPES[path.suffix],
                hashlib.sha256(plain).hexdigest()[:32],
                plain,
                compressed if len(compressed) < len(plain) else None,
            )
        return file


def console_routes() -> APIRouter:
    """GET and HEAD of /console and everything under it that no other route has."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(FOLDER)

    @router.api_route("/console/static/{name:path}", methods=["GET", "HEAD"])
    async def show_file(name: str, request: Request) -> Response:
        return files.answer(name, request)

    @router.api_route("/console", methods=["GET", "HEAD"])
    @router.api_route("/console/{view:path}", methods=["GET", "HEAD"])
    async def show_page(request: Request) -> Response:
        return files.answer("index.html", request)

    return router


def _accepts_gzip(request: Request) -> bool:
    """Whether an answer may be compressed. `gzip;q=0` forbids it; no browser sends that, but it is a rule of
    HTTP."""
    for each in request.headers.get("accept-encoding", "").split(","):
        coding, _, quality = each.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
