"""The JSON of files and file links (contract §2.9), and the URLs in it.

A rendered object has `url: null`: the URL of a file depends on the base URL of the service, that of a link
also on secret digits (`ledger/files/urls.py`). `add_urls` fills both in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ledger.domain.evidence import FILE_FIELDS
from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink, is_expired
from ledger.wire.json_values import Json, make_list_object

EXPANDABLE_FIELDS: dict[str, Any] = {"links": "file_links"}
LINK_EXPANDABLE_FIELDS: dict[str, Any] = {"file": "file"}

LINKS_PATH = "/links/"


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
    url = f"/v1/file_links?file={state.id}"
    return make_list_object(newest_links, url, has_more=len(state.links) > INLINE_LINKS_MAX)


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


def build_link_url(base_url: str, link_id: str, digits: str) -> str:
    """The URL that serves the link's file without a key; `base_url` has no path."""
    return f"{base_url}{LINKS_PATH}{link_id}.{digits}"


def add_urls(rendered: Json, base_url: str, derive_digits: Callable[[str], str] | None = None) -> None:
    """Set `url` of each file in a rendered object, and of each file link if `derive_digits` is given.

    Follows only the members that can contain a file, never members that a caller named (metadata) or another
    service published.
    """
    match rendered.get("object"):
        case "file":
            rendered["url"] = f"{base_url}/v1/files/{rendered['id']}/contents"
            nested = rendered["links"]["data"]
        case "file_link":
            if derive_digits is not None:
                rendered["url"] = build_link_url(base_url, rendered["id"], derive_digits(rendered["id"]))
            nested = (rendered["file"],)
        case "dispute":
            evidence, transactions = rendered["evidence"], rendered["balance_transactions"]
            nested = (*(evidence[name] for name in FILE_FIELDS), *(item["source"] for item in transactions))
        case "balance_transaction":
            nested = (rendered["source"],)
        case _:
            return
    for member in nested:
        if isinstance(member, dict):
            add_urls(member, base_url, derive_digits)
