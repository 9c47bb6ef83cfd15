"""The tokens in the URLs of pages of /v2. One names the page after or before an object, in one list with its
filters; callers take it as it is."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec

from ledger.errors import InvalidParameter

PREFIX = "page_"
TOKEN_LENGTH_MAX = 4_000


class PageToken(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A page.

    path        of the list
    filters     the parameters of the list, without those that choose a page of it
    limit       how many objects the page has at most
    cursor      id of the object at its edge, which is not part of it
    older       whether the page has older objects than that one, or newer ones
    """

    path: str
    filters: dict[str, Any]
    limit: int
    cursor: str
    older: bool


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(PageToken).decode


def make_page_url(token: PageToken) -> str:
    """The URL of the page, relative to the API."""
    text = urlsafe_b64encode(_encode(token)).decode().rstrip("=")
    return f"{token.path}?page={PREFIX}{text}"


def parse_page_token(text: str, path: str) -> PageToken:
    """The page that `text` names in the list at `path`. Raises InvalidParameter for any other text."""
    encoded = text.removeprefix(PREFIX).encode()
    try:
        token = _decode(urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (binascii.Error, msgspec.DecodeError):
        token = None
    if token is None or not text.startswith(PREFIX):
        raise InvalidParameter(
            "Invalid page: it must be that of a next_page_url or previous_page_url", param="page"
        )
    if token.path != path:
        raise InvalidParameter(f"Invalid page: it is one of {token.path[:80]}, another list", param="page")
    return token
