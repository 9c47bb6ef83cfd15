"""Events that came about elsewhere, before this ledger: told with their ids, shown in the feed as told.

Each is a stream of its own, under the Event's id, so telling it again changes nothing. It is in the feed
from when it was told: the feed's order is the log's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.domain.resource import check_mode

_sorted_json_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, kw_only=True)
class EventImported(DomainEvent):
    """`type`, `object` and `previous_attributes` (None for none) are the public Event's."""

    TOPIC: ClassVar[str] = "past_event.imported"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"object", "previous_attributes"})

    account: str
    livemode: bool
    type: str
    object: dict[str, Any] | None
    previous_attributes: dict[str, Any] | None


EVENTS: tuple[type[DomainEvent], ...] = (EventImported,)


class ImportedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of an Event. `digest` is that of its type and data, hex: its data may be large."""

    id: str
    version: int
    account: str
    livemode: bool
    type: str
    digest: str


def evolve(state: ImportedEvent | None, event: DomainEvent) -> ImportedEvent:
    if isinstance(event, EventImported):
        return ImportedEvent(
            id=event.originator_id,
            version=event.originator_version,
            account=event.account,
            livemode=event.livemode,
            type=event.type,
            digest=_compute_digest(event),
        )
    raise TypeError(f"{type(event).__name__} is no event of an Event")


def create(
    *,
    event_id: str,
    account: str,
    livemode: bool,
    type: str,
    object: dict[str, Any],
    previous_attributes: dict[str, Any] | None,
    now: int,
) -> list[DomainEvent]:
    """An Event that came about elsewhere. Raises InvalidParameter for an object of the other mode."""
    check_mode(object, livemode)
    return [
        EventImported(
            originator_id=event_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            type=type,
            object=object,
            previous_attributes=previous_attributes,
        )
    ]


def _compute_digest(event: EventImported) -> str:
    payload = _sorted_json_encoder.encode((event.type, event.object, event.previous_attributes))
    return hashlib.sha256(payload).hexdigest()
