"""Where file links are served: an address holds digits derived from the link's id and the service key.

The digits are never kept (README, invariant 7): whoever may show an address derives them again.
"""

from __future__ import annotations

import hmac

from ledger.ids import encode_digest

LINKS_PATH = "/links/"


class FileLinkUrls:
    """Addresses under the service key."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/file_link/address/1", "sha256")

    def derive_digits(self, link_id: str) -> str:
        """The 32 digits that only the service key can make."""
        return encode_digest(hmac.digest(self._key, link_id.encode(), "sha256"))

    def parse_link_name(self, name: str) -> str | None:
        """The id of the link that `name`, the end of an address, is for; None for a forged one."""
        link_id, _, digits = name.partition(".")
        is_valid = hmac.compare_digest(self.derive_digits(link_id).encode(), digits.encode())
        return link_id if is_valid else None

    def path_of(self, link_id: str) -> str:
        """Where the link is served, from the root of the deployment's own URL."""
        return f"{LINKS_PATH}{link_id}.{self.derive_digits(link_id)}"
