"""Ids: `prefix_` and 22 base62 digits of a UUIDv7, so unique, sorted by creation, carrying their time.

Ids derived from the log (`derived_id`) have the same form, but their random part is a digest of what
they are derived from: the same log always gives the same ids (README, invariant 4).
"""

from __future__ import annotations

import hashlib
import secrets
import struct

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]
_VALUE = {digit: value for value, digit in enumerate(_DIGITS)}
_WIDTH = 22
_TEN_DIGITS = 62**10
_TWENTY_DIGITS = 62**20
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_RANDOM_MASK = (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)


def base62(number: int) -> str:
    """22 digits, most significant first, of a number below 2**128; sorts as the number does."""
    high, rest = divmod(number, _TWENTY_DIGITS)
    middle, low = divmod(rest, _TEN_DIGITS)
    return _PAIRS[high] + _ten_digits(middle) + _ten_digits(low)


def new_id(prefix: str, at: float) -> str:
    """A fresh id for an object made at `at` (unix seconds)."""
    return _identify(prefix, at, secrets.randbits(80))


def digits_of(digest: bytes) -> str:
    """Two base62 digits for every two bytes of a digest: as unguessable, where nobody reads it back."""
    return "".join([_PAIRS[pair % 3844] for pair in struct.unpack(f">{len(digest) // 2}H", digest)])


def derived_id(prefix: str, at: float, *source: str | int) -> str:
    """The id of what follows from `source` (parts of the log), made at `at` (unix seconds)."""
    digest = hashlib.blake2b("\x1f".join(map(str, source)).encode(), digest_size=10).digest()
    return _identify(prefix, at, int.from_bytes(digest, "big"))


def id_time(object_id: str) -> float | None:
    """Unix seconds (millisecond steps) carried by an id of ours; None for an id of another form."""
    digits = object_id.rpartition("_")[2]
    if len(digits) != _WIDTH or not digits.isascii():
        return None
    number = 0
    for digit in digits:
        value = _VALUE.get(digit)
        if value is None:
            return None
        number = number * 62 + value
    return (number >> 80) / 1000 if number >> 76 & 0xF == 0x7 else None


def _ten_digits(number: int) -> str:
    # Below 2**60, where arithmetic is cheap: an id is made several times a request.
    return (
        _PAIRS[number // 3844**4]
        + _PAIRS[number // 3844**3 % 3844]
        + _PAIRS[number // 3844**2 % 3844]
        + _PAIRS[number // 3844 % 3844]
        + _PAIRS[number % 3844]
    )


def _identify(prefix: str, at: float, random: int) -> str:
    milliseconds = round(at * 1000) & 0xFFFF_FFFF_FFFF
    return f"{prefix}_{base62(milliseconds << 80 | _VERSION_AND_VARIANT | random & _RANDOM_MASK)}"
