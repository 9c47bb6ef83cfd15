"""The operations on files and file links, a part of the table in `routes`."""

from __future__ import annotations

from functools import partial

from ledger.api.public.operations import Operation
from ledger.commands import files
from ledger.queries import files as file_queries
from ledger.wire import tables

# Files and links need one permission, `file` (contract §1.2).
_file = partial(Operation, resource="file", expandable="file")
_link = partial(Operation, resource="file", expandable="file_link")

FILES = (
    _file(
        method="POST",
        path="/v1/files",
        summary="Upload a file",
        table=tables.files.CREATE,
        decide=files.upload,
        takes_file=True,
    ),
    _file(
        method="GET",
        path="/v1/files",
        summary="List files, newest first",
        table=tables.files.LIST,
        read=file_queries.list_files,
    ),
    _file(
        method="GET",
        path="/v1/files/{file}",
        summary="Retrieve a file",
        table=tables.files.RETRIEVE,
        read=file_queries.retrieve,
    ),
    _file(
        method="GET",
        path="/v1/files/{file}/contents",
        summary="Download a file's bytes",
        table=tables.files.CONTENTS,
        download=file_queries.get_file,
    ),
    _link(
        method="POST",
        path="/v1/file_links",
        summary="Create a file link",
        table=tables.file_links.CREATE,
        decide=files.create_link,
    ),
    _link(
        method="GET",
        path="/v1/file_links",
        summary="List file links, newest first",
        table=tables.file_links.LIST,
        read=file_queries.list_links,
    ),
    _link(
        method="GET",
        path="/v1/file_links/{link}",
        summary="Retrieve a file link",
        table=tables.file_links.RETRIEVE,
        read=file_queries.retrieve_link,
    ),
    _link(
        method="POST",
        path="/v1/file_links/{link}",
        summary="Update or expire a file link",
        table=tables.file_links.UPDATE,
        decide=files.update_link,
    ),
)
