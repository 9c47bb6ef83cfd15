"""Base64 and decimal numbers, as all formats of a transparency log write them: each in one spelling."""

from __future__ import annotations

import binascii
import re
from base64 import b64encode

from ledger.tlog.merkle import HASH_BYTES, ProofError

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
NUMBER_MAX = 2**63 - 1


def encode_base64(content: bytes) -> str:
    """Standard base64 with padding."""
    return b64encode(content).decode()


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of a base64 text. Raises ProofError, which says `what` it is, for any text but the one that
    `encode_base64` makes: so that no two texts mean the same bytes."""
    try:
        content = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, ValueError):
        content = None
    if content is None or encode_base64(content) != text:
        raise ProofError(f"{what} is not base64")
    return content


def decode_hash(text: str, what: str) -> bytes:
    """The 32 bytes of a hash in base64. Raises ProofError."""
    content = decode_base64(text, what)
    if len(content) != HASH_BYTES:
        raise ProofError(f"{what} has {len(content)} bytes instead of {HASH_BYTES}")
    return content


def parse_decimal(text: str, what: str) -> int:
    """A number from 0 to 2**63 - 1, in decimal without leading zeroes. Raises ProofError."""
    if not _DECIMAL.fullmatch(text) or int(text) > NUMBER_MAX:
        raise ProofError(f"{what} is not a decimal number below 2^63 without leading zeroes")
    return int(text)
