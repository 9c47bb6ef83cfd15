"""Answers to GET about files and file links, and which file's bytes a key or a link is good for."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.call import Call
from ledger.domain.file import File
from ledger.domain.file_link import FileLink, expired
from ledger.files.urls import Addresses
from ledger.objects import addressed, expanded, named, shown
from ledger.queries.pages import Found, Pages, View, listed
from ledger.store.store import Store

FILES = View(
    projection="files",
    noun="file",
    url="/v1/files",
    select="""
SELECT state, created, position FROM projections.files
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'files')
AND account = %(account)s AND livemode = %(livemode)s
""",
    place="""
SELECT created, position FROM projections.files
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'files')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={"purpose": "AND purpose = %(purpose)s"},
)
FILE_LINKS = View(
    projection="file_links",
    noun="file link",
    url="/v1/file_links",
    select="""
SELECT state, created, position FROM projections.file_links
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'file_links')
AND account = %(account)s AND livemode = %(livemode)s
""",
    place="""
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


class FileReads:
    """Reads of files against one store and its read models."""

    def __init__(self, store: Store, pages: Pages, addresses: Addresses) -> None:
        self._store = store
        self._pages = pages
        self._addresses = addresses

    async def retrieve(self, call: Call) -> Found:
        """`GET /v1/files/{id}`"""
        return Found(await self._shown(call, await addressed(call, File, self._store.streams.read)))

    async def retrieve_link(self, call: Call) -> Found:
        """`GET /v1/file_links/{id}`"""
        return Found(await self._shown(call, await addressed(call, FileLink, self._store.streams.read)))

    async def list_files(self, call: Call) -> Found:
        """`GET /v1/files`"""
        page = await self._pages.page(call, FILES)
        states = [msgspec.json.decode(row[0], type=File) for row in page.rows]
        return listed(FILES, [await self._shown(call, state) for state in states], page)

    async def list_links(self, call: Call) -> Found:
        """`GET /v1/file_links`"""
        given = call.parameters
        filters: dict[str, Any] = {}
        if "file" in given:
            await named(call, File, "file", given["file"], self._store.streams.read)
            filters["file"] = given["file"]
        if "expired" in given:
            filters["expired_by" if given["expired"] else "usable_at"] = self._now()
        page = await self._pages.page(call, FILE_LINKS, filters)
        states = [msgspec.json.decode(row[0], type=FileLink) for row in page.rows]
        return listed(FILE_LINKS, [await self._shown(call, state) for state in states], page)

    async def contents(self, call: Call) -> File:
        """`GET /v1/files/{id}/contents`: the file whose bytes are asked for."""
        return await addressed(call, File, self._store.streams.read)

    async def linked(self, name: str) -> File | None:
        """The file that `name`, the end of a link's address, gives; None if forged, unknown or expired."""
        link_id = self._addresses.link_of(name)
        link = await self._store.streams.read(link_id) if link_id is not None else None
        if not isinstance(link, FileLink) or expired(link, self._now()):
            return None
        file = await self._store.streams.read(link.file)
        assert isinstance(file, File)
        return file

    def _now(self) -> int:
        return int(self._store.clock.now())

    async def _shown(self, call: Call, state: File | FileLink) -> dict[str, Any]:
        now = self._now()
        return await expanded(state, shown(state, now), call.expand, now, self._store.streams.read)
