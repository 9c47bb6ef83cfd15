"""Golden files: one stored event for each event class and version there ever was, as `<topic>.v<n>.json`.

    python -m tests.golden.golden_files  writes the file of each class that has none at its present version

They are kept for ever: the log holds events of every version. `state` is what was stored and is never
changed. Who changes the shape of a class raises its `class_version`, adds an `upcast`, runs the above for
the new version, and in the older files sets `fields` to what the old state is lifted to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventsourcing.persistence import StoredEvent

from ledger.domain.event import DomainEvent
from ledger.store.codec import AGGREGATES, Codec

GOLDEN_DIRECTORY = Path(__file__).parent
CODEC = Codec(b"the service key of the golden files, for ever")


def event_classes() -> Iterator[type[DomainEvent]]:
    for module in AGGREGATES:
        yield from module.EVENTS


def golden_file_of(cls: type[DomainEvent]) -> Path:
    return GOLDEN_DIRECTORY / f"{cls.TOPIC}.v{getattr(cls, 'class_version', 1)}.json"


def make_stored_event(golden: dict[str, Any]) -> StoredEvent:
    return StoredEvent(
        golden["originator_id"], golden["originator_version"], golden["topic"], golden["state"].encode()
    )


def write_golden_file(event: DomainEvent) -> None:
    """The golden file of the event's class."""
    cls = type(event)
    stored = CODEC.to_stored_event(event)
    golden = {
        "topic": stored.topic,
        "class_version": getattr(cls, "class_version", 1),
        "originator_id": stored.originator_id,
        "originator_version": stored.originator_version,
        "state": stored.state.decode(),
        "personal": sorted(cls.PERSONAL),
        "fields": vars(event),
    }
    golden_file_of(cls).write_text(json.dumps(golden, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def main() -> None:
    from tests.domain.test_events import HISTORIES  # only whoever makes a file needs the examples

    all_events = [event for _, events in HISTORIES for event in events]
    for cls in event_classes():
        if not golden_file_of(cls).exists():
            # The example that says most: with all its fields, those are the ones to be read for ever.
            examples = [event for event in all_events if type(event) is cls]
            write_golden_file(max(examples, key=lambda event: len(json.dumps(vars(event)))))
            print(golden_file_of(cls).name)


if __name__ == "__main__":
    main()
