"""The JSON of files and file links (contract §2.9).

Where a file can be fetched is no part of what it is: `url` is null here, and filled in by who knows the
service's address and, for a link, the key that its address is derived with (`ledger/files/urls.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink, is_expired


def render_file(state: File) -> dict[str, Any]:
    """Its list of links is empty: they have streams of their own (`links`)."""
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


def render_file_links(state: File, newest_links: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The list of a file's links, of which the `newest_links` INLINE_LINKS_MAX are in it."""
    return {
        "object": "list",
        "data": newest_links,
        "has_more": len(state.links) > INLINE_LINKS_MAX,
        "url": f"/v1/file_links?file={state.id}",
    }


def render_file_link(state: FileLink, now: int) -> dict[str, Any]:
    """`expired` is as of `now`."""
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
