"""The operations on files and file links, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.file_urls import FileUrls
from ledger.api.public.operations import Operation
from ledger.commands import files
from ledger.queries.files import FileQueries
from ledger.wire import tables


def file_operations(reads: FileQueries, file_urls: FileUrls) -> list[Operation]:
    """Both are of one permission, `file` (contract §1.2)."""
    file = partial(Operation, resource="file", expandable="file")
    link = partial(Operation, resource="file", expandable="file_link")
    return [
        file(
            method="POST",
            path="/v1/files",
            summary="Upload a file",
            table=tables.files.CREATE,
            decide=file_urls.add_urls_to_command(files.upload),
            takes_file=True,
        ),
        file(
            method="GET",
            path="/v1/files",
            summary="List files, newest first",
            table=tables.files.LIST,
            read=file_urls.add_urls_to_query(reads.list_files),
        ),
        file(
            method="GET",
            path="/v1/files/{file}",
            summary="Retrieve a file",
            table=tables.files.RETRIEVE,
            read=file_urls.add_urls_to_query(reads.retrieve),
        ),
        file(
            method="GET",
            path="/v1/files/{file}/contents",
            summary="Download a file's bytes",
            table=tables.files.CONTENTS,
            download=reads.get_file,
        ),
        link(
            method="POST",
            path="/v1/file_links",
            summary="Create a file link",
            table=tables.file_links.CREATE,
            decide=file_urls.add_urls_to_command(files.create_link),
        ),
        link(
            method="GET",
            path="/v1/file_links",
            summary="List file links, newest first",
            table=tables.file_links.LIST,
            read=file_urls.add_urls_to_query(reads.list_links),
        ),
        link(
            method="GET",
            path="/v1/file_links/{link}",
            summary="Retrieve a file link",
            table=tables.file_links.RETRIEVE,
            read=file_urls.add_urls_to_query(reads.retrieve_link),
        ),
        link(
            method="POST",
            path="/v1/file_links/{link}",
            summary="Update a file link, or end it",
            table=tables.file_links.UPDATE,
            decide=file_urls.add_urls_to_command(files.update_link),
        ),
    ]
