"""The tokens in the URLs of pages of /v2. One names the page after or before an object, in one list with its
filters; callers take it as it is.

Only the service key makes tokens, and each is for one account and mode: what is in one was checked before.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from ledger.call import Call
from ledger.crypto.mac import Mac
from ledger.errors import InvalidParameter
from ledger.keys.service_keys import ServiceKeys

PREFIX = "page_"
_DIGEST_BYTES = 12


class PageToken(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A page.

    path        of the list
    parameters  of the list, without those that choose a page of it
    limit       how many objects the page has at most
    cursor      id of the object at its edge, which is not part of it
    older       whether the page has older objects than that one, or newer ones
    """

    path: str
    parameters: Mapping[str, Any]
    limit: int
    cursor: str
    older: bool


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(PageToken).decode


class PageTokens:
    """Makes and reads tokens under the service key."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._mac = Mac(ServiceKeys.of(service_keys).derive(b"ledger/v2_page/token/1"))

    def make_url(self, call: Call, token: PageToken) -> str:
        """The URL of the page, relative to the API."""
        content = _encode(token)
        text = urlsafe_b64encode(self._digest(call, content) + content).decode().rstrip("=")
        return f"{token.path}?page={PREFIX}{text}"

    def parse(self, call: Call, text: str, path: str) -> PageToken:
        """The page that `text` names in the list at `path`. Raises InvalidParameter for any other text."""
        encoded = text.removeprefix(PREFIX)
        try:
            signed = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            signed = b""
        digest, content = signed[:_DIGEST_BYTES], signed[_DIGEST_BYTES:]
        if not text.startswith(PREFIX) or not hmac.compare_digest(digest, self._digest(call, content)):
            raise InvalidParameter(
                "Invalid page: it must be that of a next_page_url or previous_page_url", param="page"
            )
        token = _decode(content)
        if token.path != path:
            raise InvalidParameter(f"Invalid page: it is one of {token.path}, another list", param="page")
        return token

    def _digest(self, call: Call, content: bytes) -> bytes:
        owner = f"{call.account}/{'live' if call.livemode else 'test'}/".encode()
        return self._mac.digest(owner + content)[:_DIGEST_BYTES]
