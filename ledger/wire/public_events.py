"""The public Events that a domain event makes, in order, with their content (contract §3.2, §4.2).

Every visible change makes at least one Event. `data.object` is the object right after the change, rendered
as of the second in which it was decided. Only `*.updated` Events have `previous_attributes`.
"""

from __future__ import annotations

from ledger import ids
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported
from ledger.domain.resource import ResourceDeleted, ResourcePublished
from ledger.wire.aggregates import AGGREGATES, AGGREGATES_BY_EVENT
from ledger.wire.previous_attributes import PublicEvent, diff_attributes

EVENT_RETENTION_DAYS = 30
"""How long an Event is readable and may be delivered (contract §4)."""
EVENTS_PER_CHANGE_MAX = 2
"""The largest number of public Events that one domain event makes."""
_LEDGER_PREFIXES = frozenset(
    event_type.rpartition(".")[0]
    for row in AGGREGATES
    if not row.published_too
    for event_types in row.public_event_types.values()
    if not callable(event_types)
    for event_type in event_types
)


FIXED_EVENT_TYPES: dict[str, tuple[str, ...]] = {
    event_class.TOPIC: event_types
    for event_class, row in AGGREGATES_BY_EVENT.items()
    if row.make_public_event is None
    and not callable(event_types := row.public_event_types.get(event_class, ()))
}
"""By topic, the types of the public Events of each domain event that makes the same ones every time."""


def derive_public_events(before: State | None, event: DomainEvent, after: State) -> list[PublicEvent]:
    """The public Events of `event`, which changed an object from `before` to `after`; [] if it makes none."""
    row = AGGREGATES_BY_EVENT[type(event)]
    if row.make_public_event is not None:
        return [row.make_public_event(before, event, after)]
    event_types = _get_event_types(event)
    if not event_types:
        return []
    rendered = row.render(after, event.at)
    events: list[PublicEvent] = []
    for event_type in event_types:
        old_values = None
        if event_type.endswith(".updated") and before is not None:
            old_values = diff_attributes(row.render(before, event.at), rendered)
        events.append((event_type, rendered, old_values))
    return events


def derive_public_event_types(event: DomainEvent) -> tuple[str, ...]:
    """The types of the public Events of `event`, in order. Unlike their content, they need no object."""
    if isinstance(event, EventImported):
        return (event.type,)
    if isinstance(event, ResourcePublished | ResourceDeleted):
        return (event.event_type,)
    return _get_event_types(event)


def derive_event_id(event: DomainEvent, ordinal: int, recorded_at: float) -> str:
    """The id of the public Event number `ordinal` (0, 1) of `event`, which was recorded at `recorded_at`
    (unix seconds). An imported Event keeps its own id; any other id is derived from the log (README,
    invariant 4)."""
    if isinstance(event, EventImported):
        return event.originator_id
    return derive_ledger_event_id(event.originator_id, event.originator_version, ordinal, recorded_at)


def derive_ledger_event_id(stream_id: str, version: int, ordinal: int, recorded_at: float) -> str:
    """The id of the public Event number `ordinal` of the domain event at `version` of the stream, which is no
    imported one."""
    return ids.derive_id("evt", recorded_at, stream_id, version, ordinal)


def is_event_of_stream(event_id: str, stream_id: str, version_max: int) -> bool:
    """Whether `event_id` is the id of a public Event of the stream's first `version_max` domain events.

    Needs no database: the id contains the time from which it was derived, together with stream and version.
    """
    created_at = ids.parse_id_time(event_id)
    return created_at is not None and any(
        event_id == ids.derive_id("evt", created_at, stream_id, candidate, ordinal)
        for candidate in range(1, version_max + 1)
        for ordinal in range(EVENTS_PER_CHANGE_MAX)
    )


def is_ledger_event_type(event_type: str) -> bool:
    """Whether Events of this type are about the ledger's own objects (contract §4.2): no other service can
    publish one. True for `customer.updated`, False for `customer.subscription.updated`."""
    return event_type.rpartition(".")[0] in _LEDGER_PREFIXES


def _get_event_types(event: DomainEvent) -> tuple[str, ...]:
    """As the registry has them: none for objects of other systems."""
    event_types = AGGREGATES_BY_EVENT[type(event)].public_event_types.get(type(event), ())
    return event_types(event) if callable(event_types) else event_types
