"""The types of Events that names and patterns on the command line mean."""

from __future__ import annotations

from ledger.wire.event_types import ORDERED_EVENT_TYPES, check_event_type, matches


def expand_types(patterns: list[str]) -> list[str]:
    """The types that the patterns match, in order. Raises InvalidParameter for a type that there
    is not, and a pattern that matches none."""
    for pattern in patterns:
        if not any(matches(pattern, name) for name in ORDERED_EVENT_TYPES):
            check_event_type(pattern, "type")
    return [name for name in ORDERED_EVENT_TYPES if any(matches(pattern, name) for pattern in patterns)]
