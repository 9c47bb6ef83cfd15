"""Golden files `<topic>.v<n>.json`: one stored event of every event class and version that was ever released.

    python -m tests.golden.golden_files    writes the missing files, of classes at their present version

The log contains events of every version, so these files are kept forever and their `state`, the stored
bytes, never changes. To change the shape of a class, raise its `class_version`, add an `upcast`, run the
command for the new version, and in the files of older versions set `fields` to the result of the upcast.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eventsourcing.persistence import StoredEvent

from ledger.domain.event import DomainEvent
from ledger.store.codec import Codec
from ledger.wire.aggregates import EVENT_CLASSES

GOLDEN_DIRECTORY = Path(__file__).parent
CODEC = Codec(b"the service key of the golden files, for ever")


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
    from tests.domain.histories import HISTORIES  # only to write a file; reading one needs no decisions

    all_events = [event for events in HISTORIES for event in events]
    for cls in EVENT_CLASSES:
        if not golden_file_of(cls).exists():
            # The largest example: its file should contain every field that must stay readable.
            examples = [event for event in all_events if type(event) is cls]
            write_golden_file(max(examples, key=lambda event: len(json.dumps(vars(event)))))
            print(golden_file_of(cls).name)


if __name__ == "__main__":
    main()
