"""The secret digits in the URL of a file link, derived from the link's id and the service key.

The digits are never stored (README, invariant 7): they are derived again whenever a caller may see the URL.
"""

from __future__ import annotations

import hmac

from ledger.crypto.mac import Mac
from ledger.ids import encode_digest
from ledger.keys.service_keys import ServiceKeys


class FileLinkUrls:
    """Derives and checks the digits of file links under the service key."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._mac = Mac(ServiceKeys.of(service_keys).derive(b"ledger/file_link/address/1"))

    def derive_digits(self, link_id: str) -> str:
        """32 base-62 digits that only the service key can produce."""
        return encode_digest(self._mac.digest(link_id.encode()))

    def parse_link_name(self, name: str) -> str | None:
        """The id of the link that `name`, the last segment of a URL, belongs to; None for a forged name."""
        link_id, _, digits = name.partition(".")
        is_valid = hmac.compare_digest(self.derive_digits(link_id).encode(), digits.encode())
        return link_id if is_valid else None
