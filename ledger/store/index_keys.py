"""The keys of the audit index: small hashes of the values that are equal in a search.

The table holds no more than these and a position; whoever finds a row by them compares the values in the log.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

CREATED_MAX = 2**40 - 1
_CREATION_KEY_MASK = 2**23 - 1


def derive_key(account: str, livemode: bool, *values: str) -> int:
    """The key of an account's events in one mode, or of those that have these values: 32 bits, signed as
    Postgres has them."""
    hashed = _hash_owner(account, livemode)
    for value in values:
        hashed = crc32(f" {value}".encode(), hashed)
    return hashed - 2**31


def derive_creation_key(account: str, livemode: bool, object_type: str, created: int) -> int:
    """The key of the events that created an object of this type, in the order of `created` (unix seconds):
    23 bits of their hash and 40 of the time. Times after the year 36811 count as the last one."""
    hashed = derive_key(account, livemode, object_type) & _CREATION_KEY_MASK
    return hashed << 40 | min(created, CREATED_MAX)


@lru_cache
def _hash_owner(account: str, livemode: bool) -> int:
    return crc32(f"{account} {livemode:d}".encode())
