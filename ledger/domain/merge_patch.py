"""How values that a caller gives change values that are there.

In what a decision is given, a name that is absent leaves things as they are, and None clears. Metadata
and nested hashes are merged member by member, so a client may send only the members it changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidParameter

KEYS_MAX = 50
KEY_LENGTH_MAX = 40
VALUE_LENGTH_MAX = 500

_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def merged(current: Mapping[str, str], given: Mapping[str, str | None] | None) -> dict[str, str]:
    """Metadata after a change: '' or None as a value removes the key, `given` None removes all.

    Raises InvalidParameter, param `metadata` or `metadata[key]`, past the limits of contract 1.10.
    """
    if given is None:
        return {}
    after = dict(current)
    for key, value in given.items():
        if not value:
            after.pop(key, None)
            continue
        param = f"metadata[{key}]"
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            text = f"Metadata keys must have 1 to {KEY_LENGTH_MAX} characters."
            raise InvalidParameter(text, param=param)
        if "[" in key or "]" in key:
            raise InvalidParameter("Metadata keys cannot contain square brackets.", param=param)
        if len(value) > VALUE_LENGTH_MAX:
            text = f"Metadata values can have up to {VALUE_LENGTH_MAX} characters; yours has {len(value)}."
            raise InvalidParameter(text, param=param)
        after[key] = value
    if len(after) > KEYS_MAX:
        text = f"Metadata can have up to {KEYS_MAX} keys; you would have {len(after)}."
        raise InvalidParameter(text, param="metadata")
    return after


def merged_hash(
    current: Mapping[str, Any] | None, given: Mapping[str, Any] | None, members: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A hash after a change, always with all of `members` (name: value if never given).

    `given` None clears the whole. A member named `address` is itself such a hash, of six.
    """
    if given is None:
        return None
    before = current or {}
    after = {**members, **before, **given}
    if isinstance(given.get("address"), Mapping):
        after["address"] = merged_address(before.get("address"), given["address"])
    return after


def merged_address(
    current: Mapping[str, Any] | None, given: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """An address after a change, always with its six members; `given` None clears it."""
    return merged_hash(current, given, _ADDRESS)


def merged_shipping(
    current: Mapping[str, Any] | None, given: Mapping[str, Any] | None, *, parcel: bool
) -> dict[str, Any] | None:
    """Where things are sent; a charge's has `carrier` and `tracking_number` too (`parcel`)."""
    members: dict[str, Any] = {"address": None, "name": None, "phone": None}
    if parcel:
        members |= {"carrier": None, "tracking_number": None}
    return merged_hash(current, given, members)
