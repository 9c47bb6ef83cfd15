"""Downloads: the response headers of a file's bytes, and the route that serves them through a link.

Anyone may have uploaded a file, and it is served from our own origin, so nothing in it may run there.
Browsers show only types that they do not run and save all others; they must not guess a type, and they show a
file in a sandbox.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from ledger.api.clock import RefreshClock
from ledger.domain.file import File
from ledger.errors import ContentsErased, UnknownRoute
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
    """The response headers of the file's bytes; names in lower case."""
    disposition = "inline" if file.type in _INLINE_TYPES else "attachment"
    return {
        "content-type": _MEDIA_TYPES.get(file.type or "", "application/octet-stream"),
        "content-length": str(file.size),
        "content-disposition": f"{disposition}; filename*=UTF-8''{quote(file.filename or file.id, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-store",
    }


def file_link_routes(queries: QueryContext, storage: FileStorage, refresh_clock: RefreshClock) -> APIRouter:
    """`GET /links/{name}`. It needs no API key: whoever knows the name may read the file until the link
    expires."""
    router = APIRouter(tags=["file"])

    @router.get(LINKS_PATH + "{name}", response_class=StreamingResponse)
    async def download_linked_file(name: str) -> StreamingResponse:
        """The bytes of a file, for anyone who has the link's URL."""
        await refresh_clock()
        file = await find_linked_file(queries, name)
        contents = None
        if file is not None:
            with suppress(ContentsErased):
                contents = await storage.read(file)
        if file is None or contents is None:
            raise UnknownRoute("This file link does not exist or has expired.")
        return StreamingResponse(contents, headers=build_file_headers(file))

    return router
