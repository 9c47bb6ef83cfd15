"""The types of recorded events, as callers name them: for the feed, and for searches of the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.errors import InvalidParameter
from ledger.wire.aggregates import EVENT_CLASSES
from ledger.wire.public_events import FIXED_EVENT_TYPES, is_ledger_event_type
from ledger.wire.suggestions import list_alternatives
from ledger.wire.thin_events import to_snapshot_type

TOPICS = tuple(sorted(event_class.TOPIC for event_class in EVENT_CLASSES))
_DESCRIBED_IN = "docs/feed.md, Types"


def expand_types(patterns: Iterable[str], *, param: str) -> frozenset[str] | None:
    """The types that are meant, `dispute.*` being all that begin so; None for all, and without patterns.
    Raises InvalidParameter, for `param`."""
    topics: set[str] = set()
    for pattern in patterns:
        found = [topic for topic in TOPICS if _matches(pattern, topic)]
        if not found:
            raise InvalidParameter(_describe_unknown(pattern), param=param)
        topics.update(found)
    return frozenset(topics) if topics and len(topics) < len(TOPICS) else None


def describe_types() -> list[dict[str, Any]]:
    """Each type of recorded events, with the types of the public Events that it makes; None if these depend
    on the event."""
    return [
        {"type": topic, "events": list(FIXED_EVENT_TYPES[topic]) if topic in FIXED_EVENT_TYPES else None}
        for topic in TOPICS
    ]


def _matches(pattern: str, topic: str) -> bool:
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern


def _describe_unknown(pattern: str) -> str:
    """What is wrong with a pattern that no type matches, and what may be meant: the type of a public Event
    names its object last, as `charge.dispute.created` and `v1.charge.dispute.created` do."""
    event_type = to_snapshot_type(pattern) or pattern
    what, candidates = "no type of a recorded event", TOPICS
    if is_ledger_event_type(event_type) and pattern.count(".") > 1:
        what = "a type of public Events, not of recorded ones"
        family = event_type.split(".")[-2] + "."
        candidates = tuple(topic for topic in TOPICS if topic.startswith(family)) or TOPICS
    alternatives = list_alternatives(event_type, candidates, _DESCRIBED_IN)
    return f"Invalid type: '{pattern[:80]}' is {what}. Did you mean {alternatives}?"
