"""Queries on files and file links (contract §2.9), and on the file that a key or a link's URL downloads."""

from __future__ import annotations

from typing import Any

from ledger.call import Call
from ledger.domain.file import File
from ledger.domain.file_link import FileLink, is_expired
from ledger.objects import get_param, get_target
from ledger.queries.context import QueryContext, list_objects, retrieve_object
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult

FILES = ListQuery.of("files", noun="file", filters={"purpose": "AND purpose = %(purpose)s"})
FILE_LINKS = ListQuery.of(
    "file_links",
    noun="file link",
    filters={
        "file": "AND file = %(file)s",
        "expired_by": "AND expires_at <= %(expired_by)s",
        "usable_at": "AND (expires_at IS NULL OR expires_at > %(usable_at)s)",
    },
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/files/{id}`"""
    return await retrieve_object(call, context, File)


async def retrieve_link(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/file_links/{id}`"""
    return await retrieve_object(call, context, FileLink)


async def list_files(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/files`"""
    return await list_objects(call, context, FILES, File)


async def list_links(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/file_links`"""
    params = call.parameters
    filters: dict[str, Any] = {}
    if "file" in params:
        await get_param(call, File, "file", params["file"], context.get)
        filters["file"] = params["file"]
    if "expired" in params:
        filters["expired_by" if params["expired"] else "usable_at"] = context.now()
    return await list_objects(call, context, FILE_LINKS, FileLink, filters=filters)


async def get_file(call: Call, context: QueryContext) -> File:
    """`GET /v1/files/{id}/contents`: the file whose contents are sent. Raises UnknownObject."""
    return await get_target(call, File, context.get)


async def find_linked_file(context: QueryContext, name: str) -> File | None:
    """The file that a link serves; `name` is the last segment of its URL. None if the name is forged, or the
    link has expired."""
    link_id = context.link_urls.parse_link_name(name)
    link = await context.get(link_id) if link_id is not None else None
    if not isinstance(link, FileLink) or is_expired(link, context.now()):
        return None
    file = await context.get(link.file)
    assert isinstance(file, File)
    return file
