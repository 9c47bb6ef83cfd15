"""Answers to GET about files and file links, and which file's bytes a key or a link is good for."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.call import Call
from ledger.domain.file import File
from ledger.domain.file_link import FileLink, is_expired
from ledger.files.urls import FileLinkUrls
from ledger.objects import expand, get_param, get_target, render_object
from ledger.queries.pages import ListQuery, Pages, QueryResult, render_list
from ledger.store.store import Store

FILES = ListQuery(
    projection="files",
    noun="file",
    url="/v1/files",
    select="""
SELECT state, created, position FROM projections.files
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'files')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
SELECT created, position FROM projections.files
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'files')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={"purpose": "AND purpose = %(purpose)s"},
)
FILE_LINKS = ListQuery(
    projection="file_links",
    noun="file link",
    url="/v1/file_links",
    select="""
SELECT state, created, position FROM projections.file_links
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'file_links')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
SELECT created, position FROM projections.file_links
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'file_links')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "file": "AND file = %(file)s",
        "expired_by": "AND expires_at <= %(expired_by)s",
        "usable_at": "AND (expires_at IS NULL OR expires_at > %(usable_at)s)",
    },
)


class FileQueries:
    """Reads of files against one store and its read models."""

    def __init__(self, store: Store, pages: Pages, link_urls: FileLinkUrls) -> None:
        self._store = store
        self._pages = pages
        self._file_urls = link_urls

    async def retrieve(self, call: Call) -> QueryResult:
        """`GET /v1/files/{id}`"""
        return QueryResult(await self._render(call, await get_target(call, File, self._store.streams.read)))

    async def retrieve_link(self, call: Call) -> QueryResult:
        """`GET /v1/file_links/{id}`"""
        return QueryResult(
            await self._render(call, await get_target(call, FileLink, self._store.streams.read))
        )

    async def list_files(self, call: Call) -> QueryResult:
        """`GET /v1/files`"""
        page = await self._pages.fetch_page(call, FILES)
        states = [msgspec.json.decode(row[0], type=File) for row in page.rows]
        return render_list(FILES, [await self._render(call, state) for state in states], page)

    async def list_links(self, call: Call) -> QueryResult:
        """`GET /v1/file_links`"""
        params = call.parameters
        filters: dict[str, Any] = {}
        if "file" in params:
            await get_param(call, File, "file", params["file"], self._store.streams.read)
            filters["file"] = params["file"]
        if "expired" in params:
            filters["expired_by" if params["expired"] else "usable_at"] = self._now()
        page = await self._pages.fetch_page(call, FILE_LINKS, filters)
        states = [msgspec.json.decode(row[0], type=FileLink) for row in page.rows]
        return render_list(FILE_LINKS, [await self._render(call, state) for state in states], page)

    async def get_file(self, call: Call) -> File:
        """`GET /v1/files/{id}/contents`: the file whose bytes are asked for."""
        return await get_target(call, File, self._store.streams.read)

    async def find_linked_file(self, name: str) -> File | None:
        """The file that `name`, the end of a link's address, gives; None if forged, unknown or expired."""
        link_id = self._file_urls.parse_link_name(name)
        link = await self._store.streams.read(link_id) if link_id is not None else None
        if not isinstance(link, FileLink) or is_expired(link, self._now()):
            return None
        file = await self._store.streams.read(link.file)
        assert isinstance(file, File)
        return file

    def _now(self) -> int:
        return int(self._store.clock.now())

    async def _render(self, call: Call, state: File | FileLink) -> dict[str, Any]:
        now = self._now()
        return await expand(state, render_object(state, now), call.expand, now, self._store.streams.read)
