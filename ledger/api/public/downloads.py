"""Files leaving: the head that goes with their bytes, and the route that serves them through a link.

What is served was uploaded by anyone, from our own origin: nothing in it may run there. Only what browsers
show without running it is shown, the rest is saved; types are never guessed; pages are sandboxed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from ledger.domain.file import File
from ledger.errors import UnknownRoute
from ledger.files.storage import FileStorage
from ledger.queries.context import QueryContext
from ledger.queries.files import find_linked_file
from ledger.wire.files import LINKS_PATH

_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "pdf": "application/pdf",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
    "zip": "application/zip",
}
_INLINE_TYPES = frozenset({"gif", "jpg", "pdf", "png", "txt"})


def build_file_headers(file: File) -> dict[str, str]:
    """The head of an answer with the file's bytes; names in lower case."""
    disposition = "inline" if file.type in _INLINE_TYPES else "attachment"
    return {
        "content-type": _MEDIA_TYPES.get(file.type or "", "application/octet-stream"),
        "content-length": str(file.size),
        "content-disposition": f"{disposition}; filename*=UTF-8''{quote(file.filename or file.id, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-store",
    }


def file_link_routes(
    queries: QueryContext, contents: FileStorage, refresh_clock: Callable[[], Awaitable[float]]
) -> APIRouter:
    """`GET /links/{name}`: no key, the name is the key, until the link expires."""
    router = APIRouter(tags=["file"])

    @router.get(LINKS_PATH + "{name}", response_class=StreamingResponse)
    async def link(name: str) -> StreamingResponse:
        """The bytes of a file, to whoever has the link's address."""
        await refresh_clock()
        file = await find_linked_file(queries, name)
        if file is None:
            raise UnknownRoute("This file link does not exist or has expired.")
        return StreamingResponse(contents.read(file), headers=build_file_headers(file))

    return router
