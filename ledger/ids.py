"""Ids: `prefix_` and 22 base62 digits of a UUIDv7. They are unique, sort by creation and contain its time.

Ids derived from the log (`derive_id`) have the same form, but their random part is a digest of what they are
derived from: so the same log always results in the same ids (README, invariant 4).
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from operator import itemgetter

from ledger.crypto.entropy import RandomPieces

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Digits and pairs of digits as bytes and 16-bit numbers, which are written side by side: 8 kB that stay in
# the processor's cache between two requests. As strings they take 200 kB, and an id or secret twice as long.
_PACKED_DIGITS = _DIGITS.encode()
_PACKED_PAIRS = memoryview("".join([a + b for a in _DIGITS for b in _DIGITS]).encode()).cast("H")
_DIGEST_PAIRS = array("H", [_PACKED_PAIRS[pair % len(_PACKED_PAIRS)] for pair in range(2**16)])
"""The pair of digits for each two bytes of a digest: 128 kB, and no division for each pair (1.0 µs instead of
1.6 for a client secret)."""
_pack_id = struct.Struct("=H HHB HHB HHB HHB").pack
_DIGIT_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_ID_DIGITS = 22
_BASE62_POW_3 = 62**3
_BASE62_POW_5 = 62**5  # below 2**30: Python divides such numbers twice as fast as larger ones
_RANDOM_BYTES = 10
_UNPACK_PAIRS = [struct.Struct(f">{pairs}H").unpack for pairs in range(33)]
_PACK_PAIRS = [struct.Struct(f"={pairs}H").pack for pairs in range(33)]
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
RESERVED_IDS = frozenset({".", "..", "search"})
"""Ids that no object can have: in the URL of an object, `.` and `..` are resolved before the request is sent,
and `search` is a route."""
_RANDOM_MASK = (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)
_random_pieces = RandomPieces(_RANDOM_BYTES)


def encode_base62(number: int) -> str:
    """A number below 2**128 as 22 digits, most significant first: they sort as the number does."""
    # Written out, without a loop: each request creates several ids.
    digits, pairs = _PACKED_DIGITS, _PACKED_PAIRS
    number, d = divmod(number, _BASE62_POW_5)
    number, c = divmod(number, _BASE62_POW_5)
    number, b = divmod(number, _BASE62_POW_5)
    number, a = divmod(number, _BASE62_POW_5)
    return _pack_id(
        pairs[number],
        pairs[a // _BASE62_POW_3], pairs[a // 62 % 3844], digits[a % 62],
        pairs[b // _BASE62_POW_3], pairs[b // 62 % 3844], digits[b % 62],
        pairs[c // _BASE62_POW_3], pairs[c // 62 % 3844], digits[c % 62],
        pairs[d // _BASE62_POW_3], pairs[d // 62 % 3844], digits[d % 62],
    ).decode()  # fmt: skip


def new_id(prefix: str, created_at: float) -> str:
    """A new id for an object created at `created_at` (unix seconds)."""
    return _format_id(prefix, created_at, int.from_bytes(_random_pieces.draw(), "big"))


def encode_digest(digest: bytes) -> str:
    """Two base62 digits for each two bytes of a digest (of 4 to 64 bytes), for secrets: the digest cannot
    be derived from them."""
    count = len(digest) // 2
    pairs = itemgetter(*_UNPACK_PAIRS[count](digest))(_DIGEST_PAIRS)
    return _PACK_PAIRS[count](*pairs).decode()


def derive_id(prefix: str, created_at: float, *source: str | int) -> str:
    """The id of an object that follows from `source` (parts of the log), created at `created_at` (unix
    seconds). The same arguments always result in the same id."""
    digest = hashlib.blake2b("\x1f".join(map(str, source)).encode(), digest_size=_RANDOM_BYTES).digest()
    return _format_id(prefix, created_at, int.from_bytes(digest, "big"))


def parse_id_time(object_id: str) -> float | None:
    """The creation time in an id, in unix seconds (to the millisecond); None for an id of another form."""
    digits = object_id.rpartition("_")[2]
    if len(digits) != _ID_DIGITS or not digits.isascii():
        return None
    number = 0
    for digit in digits:
        value = _DIGIT_VALUES.get(digit)
        if value is None:
            return None
        number = number * 62 + value
    return (number >> 80) / 1000 if number >> 76 & 0xF == 0x7 else None


def _format_id(prefix: str, created_at: float, random_bits: int) -> str:
    milliseconds = round(created_at * 1000) & 0xFFFF_FFFF_FFFF
    return f"{prefix}_{encode_base62(milliseconds << 80 | _VERSION_AND_VARIANT | random_bits & _RANDOM_MASK)}"
