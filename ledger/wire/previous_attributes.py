"""A public Event's content, and its `previous_attributes` (contract §4.2): the old values of changed members.

Among them a nested hash has only its changed members, a member that did not exist is null, and a changed
array is complete.
"""

from __future__ import annotations

from ledger.wire.json_values import Json

PublicEvent = tuple[str, Json, Json | None]
"""Type, `data.object`, `data.previous_attributes`."""


def diff_attributes(old: Json, new: Json) -> Json:
    """The old values of the members that differ between two versions of an object."""
    old_values: Json = {}
    for name, new_value in new.items():
        old_value = old.get(name)
        if old_value == new_value:
            continue
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            old_value = diff_attributes(old_value, new_value)
        old_values[name] = old_value
    for name, old_value in old.items():
        if name not in new:
            old_values[name] = old_value
    return old_values
