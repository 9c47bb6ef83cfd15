"""How the parameters of an update change the current values.

In the parameters of a decision, an absent name leaves a value unchanged, and None unsets it. Metadata and
nested hashes are merged member by member, so a client may send only the members that it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain.aggregate import State
from ledger.errors import InvalidParameter

METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500

_EMPTY_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def find_changes(state: State, after: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the field values `after` that differ from the state's: the `changes` of an update event."""
    return {name: value for name, value in after.items() if getattr(state, name) != value}


def merge_metadata(current: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    """Metadata after an update: a value of '' or None removes its key, a `patch` of None removes all keys.

    Raises InvalidParameter, param `metadata` or `metadata[key]`, beyond the limits of contract §1.10.
    """
    if patch is None:
        return {}
    after = dict(current)
    for key, value in patch.items():
        if not value:
            after.pop(key, None)
            continue
        param = f"metadata[{key}]"
        if not 1 <= len(key) <= METADATA_KEY_LENGTH_MAX:
            text = f"Metadata keys must have 1 to {METADATA_KEY_LENGTH_MAX} characters."
            raise InvalidParameter(text, param=param)
        if "[" in key or "]" in key:
            raise InvalidParameter("Metadata keys cannot contain square brackets.", param=param)
        if len(value) > METADATA_VALUE_LENGTH_MAX:
            text = (
                f"Metadata values can have up to {METADATA_VALUE_LENGTH_MAX} characters; "
                f"yours has {len(value)}."
            )
            raise InvalidParameter(text, param=param)
        after[key] = value
    if len(after) > METADATA_KEYS_MAX:
        text = f"Metadata can have up to {METADATA_KEYS_MAX} keys; you would have {len(after)}."
        raise InvalidParameter(text, param="metadata")
    return after


def merge_hash(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A hash after an update, always with all members of `defaults` (values of members never set, by name).

    A `patch` of None unsets the whole hash. A member named `address` is merged by `merge_address`.
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
    """An address after an update, always with its six members; a `patch` of None unsets it."""
    return merge_hash(current, patch, _EMPTY_ADDRESS)


def merge_shipping(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None, *, with_carrier: bool
) -> dict[str, Any] | None:
    """Shipping details after an update; those of a charge also have `carrier` and `tracking_number`
    (`with_carrier`)."""
    defaults: dict[str, Any] = {"address": None, "name": None, "phone": None}
    if with_carrier:
        defaults |= {"carrier": None, "tracking_number": None}
    return merge_hash(current, patch, defaults)
