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

_EMPTY_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def merge_metadata(current: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    """Metadata after a change: '' or None as a value removes the key, `patch` None removes all.

    Raises InvalidParameter, param `metadata` or `metadata[key]`, past the limits of contract §1.10.
    """
    if patch is None:
        return {}
    after = dict(current)
    for key, value in patch.items():
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


def merge_hash(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A hash after a change, always with all of `defaults` (name: value if never given).

    `patch` None clears the whole. A member named `address` is itself such a hash, of six.
    """
    if patch is None:
        return None
    before = current or {}
    after = {**defaults, **before, **patch}
    if isinstance(patch.get("address"), Mapping):
        after["address"] = merge_address(before.get("address"), patch["address"])
    return after


def merge_address(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """An address after a change, always with its six members; `patch` None clears it."""
    return merge_hash(current, patch, _EMPTY_ADDRESS)


def merge_shipping(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None, *, with_carrier: bool
) -> dict[str, Any] | None:
    """Where things are sent; a charge's has `carrier` and `tracking_number` too (`with_carrier`)."""
    defaults: dict[str, Any] = {"address": None, "name": None, "phone": None}
    if with_carrier:
        defaults |= {"carrier": None, "tracking_number": None}
    return merge_hash(current, patch, defaults)
