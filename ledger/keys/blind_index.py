"""Keyed hashes by which rows are found, or compared, whose values are sealed or not kept: a blind index.

Equal values of one account and mode have equal hashes; nobody without the service key can tell a value from
its hash, or try values until one fits.
"""

from __future__ import annotations

from ledger.crypto.mac import Mac
from ledger.keys.service_keys import ServiceKeys

LABEL = b"ledger/blind-index/1"
HASH_BYTES = 16
_TEXT_PREFIX = "hash:"
_TEXT_LENGTH = len(_TEXT_PREFIX) + 2 * HASH_BYTES


class BlindIndex:
    """The keyed hashes of a deployment."""

    def __init__(self, service_keys: ServiceKeys) -> None:
        self._mac = Mac(service_keys.derive(LABEL))

    def hash(self, account: str, livemode: bool, name: str, value: str) -> bytes:
        """The hash of the value that an object of this account and mode has under `name`."""
        owner = f"{account}\x1f{'live' if livemode else 'test'}\x1f{name}\x1f"
        return self._mac.digest((owner + value).encode())[:HASH_BYTES]

    def hash_as_text(self, account: str, livemode: bool, name: str, value: str) -> str:
        """The same in the place of a text: `is_hash` of it is true."""
        return _TEXT_PREFIX + self.hash(account, livemode, name, value).hex()


def is_hash(text: str) -> bool:
    """Whether the text of a column is a hash, and not the value itself, as older releases stored it."""
    return len(text) == _TEXT_LENGTH and text.startswith(_TEXT_PREFIX)
