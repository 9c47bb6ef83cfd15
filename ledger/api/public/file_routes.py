"""The operations on files and file links, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.file_urls import FileUrls
from ledger.api.public.operations import Operation
from ledger.commands import files
from ledger.queries.files import FileReads
from ledger.wire import tables


def file_operations(reads: FileReads, file_urls: FileUrls) -> list[Operation]:
    """Both are of one permission, `file` (CONTRACT 1.2)."""
    file = partial(Operation, resource="file", expandable="file")
    link = partial(Operation, resource="file", expandable="file_link")
    return [
        file(
            method="POST",
            path="/v1/files",
            summary="Upload a file",
            table=tables.files.CREATE,
            decide=file_urls.telling_in(files.upload),
            takes_file=True,
        ),
        file(
            method="GET",
            path="/v1/files",
            summary="List files, newest first",
            table=tables.files.LIST,
            answer=file_urls.telling(reads.list_files),
        ),
        file(
            method="GET",
            path="/v1/files/{file}",
            summary="Retrieve a file",
            table=tables.files.RETRIEVE,
            answer=file_urls.telling(reads.retrieve),
        ),
        file(
            method="GET",
            path="/v1/files/{file}/contents",
            summary="Download a file's bytes",
            table=tables.files.CONTENTS,
            download=reads.contents,
        ),
        link(
            method="POST",
            path="/v1/file_links",
            summary="Create a file link",
            table=tables.file_links.CREATE,
            decide=file_urls.telling_in(files.link),
        ),
        link(
            method="GET",
            path="/v1/file_links",
            summary="List file links, newest first",
            table=tables.file_links.LIST,
            answer=file_urls.telling(reads.list_links),
        ),
        link(
            method="GET",
            path="/v1/file_links/{link}",
            summary="Retrieve a file link",
            table=tables.file_links.RETRIEVE,
            answer=file_urls.telling(reads.retrieve_link),
        ),
        link(
            method="POST",
            path="/v1/file_links/{link}",
            summary="Update a file link, or end it",
            table=tables.file_links.UPDATE,
            decide=file_urls.telling_in(files.update_link),
        ),
    ]
