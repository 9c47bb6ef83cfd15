"""The JSON of files and file links (contract §2.9).

`url` is null here. The API fills it in, since the URL depends on the base URL of the service and, for a link,
on the key from which it is derived (`ledger/files/urls.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink, is_expired
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"links": "file_links"}
LINK_EXPANDABLE_FIELDS: dict[str, Any] = {"file": "file"}


def render_file(state: File) -> Json:
    """A file with an empty list of links: each link is an object with a stream of its own."""
    return {
        "id": state.id,
        "object": "file",
        "created": state.created,
        "expires_at": None,
        "filename": state.filename,
        "links": render_file_links(state, []),
        "purpose": state.purpose,
        "size": state.size,
        "title": None,
        "type": state.type,
        "url": None,
    }


def render_file_links(state: File, newest_links: Sequence[Json]) -> Json:
    """The list of a file's links. `newest_links` are rendered, newest first, INLINE_LINKS_MAX at most."""
    return {
        "object": "list",
        "data": newest_links,
        "has_more": len(state.links) > INLINE_LINKS_MAX,
        "url": f"/v1/file_links?file={state.id}",
    }


def render_file_link(state: FileLink, now: int) -> Json:
    """A file link. `now` (unix seconds) decides whether it has expired."""
    return {
        "id": state.id,
        "object": "file_link",
        "created": state.created,
        "expired": is_expired(state, now),
        "expires_at": state.expires_at,
        "file": state.file,
        "livemode": state.livemode,
        "metadata": state.metadata,
        "url": None,
    }
