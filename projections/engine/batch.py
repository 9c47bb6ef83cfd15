"""One pass over recorded events for several projections: each event is folded once, each handler sees it.

Pure. A handler that raises parks the stream for its projection alone, from that event on; an aggregate
that cannot be folded parks it for all. What was derived before the failing event stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ledger.domain.event import DomainEvent
from ledger.store.codec import State, evolve
from ledger.store.log import Recorded
from ledger.wire.aggregates import EVENT_CLASSES
from projections.engine.partitions import to_utc_day
from projections.projection import EventRows, ParkedStream, Projection, describe_error

GenerationKey = tuple[str, int]
"""Projection and generation."""


@dataclass(slots=True, eq=False)
class Target:
    """One generation of a projection taking part in a pass, and what came of it.

    since     unix seconds: events recorded before it make no rows, their day is dropped
    detached  the generation is being filled: its partition has no index and no reader yet
    parked    streams left out
    """

    projection: Projection
    generation: int
    retention_start: float = 0.0
    detached: bool = False
    parked_streams: set[str] = field(default_factory=set)
    event_rows: list[EventRows] = field(default_factory=list)
    newly_parked: list[ParkedStream] = field(default_factory=list)

    @property
    def key(self) -> GenerationKey:
        return self.projection.name, self.generation

    def park(self, stream: str, position: int, error: BaseException) -> None:
        self.parked_streams.add(stream)
        self.newly_parked.append(ParkedStream(stream, position, describe_error(error)))


class BatchFold:
    """`states` come to hold the aggregates after the last event read."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self.states: dict[str, State] = {}
        self._subscribers: dict[type[DomainEvent], list[Target]] = {}
        for target in targets:
            for event_class in target.projection.event_classes:
                self._subscribers.setdefault(event_class, []).append(target)

    def get_prior_versions(self, recorded: Iterable[Recorded]) -> dict[str, int]:
        """The streams that will be folded, and the version each must be at before `recorded`."""
        versions: dict[str, int] = {}
        for item in recorded:
            event = item.event
            stream = event.originator_id
            if stream not in versions and self._get_subscribers(event):
                versions[stream] = event.originator_version - 1
        return versions

    def get_days(self, recorded: Iterable[Recorded]) -> dict[GenerationKey, set[int]]:
        """By member that keeps its rows by day: the days (since 1970, UTC) that rows may fall on."""
        days: dict[GenerationKey, set[int]] = {}
        for item in recorded:
            for target in self._subscribers.get(type(item.event), ()):
                if (
                    target.projection.retention_days is not None
                    and item.recorded_at >= target.retention_start
                ):
                    days.setdefault(target.key, set()).add(to_utc_day(item.recorded_at))
        return days

    def apply_events(self, recorded: Iterable[Recorded], load_errors: Mapping[str, Exception]) -> None:
        """Fold and hand out. `load_errors`: streams whose past could not be folded, and why."""
        states = self.states
        for item in recorded:
            event = item.event
            stream = event.originator_id
            subscribers = self._get_subscribers(event)
            if not subscribers:
                continue
            before = states.get(stream)
            try:
                if stream in load_errors:
                    raise load_errors[stream]
                after = evolve(before, event)
            except Exception as error:  # a stream nobody can fold: all leave it out
                for target in subscribers:
                    target.park(stream, item.position, error)
                states.pop(stream, None)
                continue
            states[stream] = after
            for target in subscribers:
                if item.recorded_at >= target.retention_start:
                    _apply_event(target, before, item, after)

    def _get_subscribers(self, event: DomainEvent) -> list[Target]:
        subscribers = self._subscribers.get(type(event), [])
        stream = event.originator_id
        for target in subscribers:
            if stream in target.parked_streams:
                return [member for member in subscribers if stream not in member.parked_streams]
        return subscribers


def ignored_topics(targets: Iterable[Target]) -> list[str]:
    """The topics that none of them follows: customer sessions are most of the log, and in no view."""
    subscribed = {event_class for target in targets for event_class in target.projection.event_classes}
    return [event_class.TOPIC for event_class in EVENT_CLASSES if event_class not in subscribed]


def _apply_event(target: Target, before: State | None, item: Recorded, after: State) -> None:
    try:
        rows = target.projection.apply(before, item, after)
    except Exception as error:  # whatever a handler raises parks its stream
        target.park(item.event.originator_id, item.position, error)
    else:
        if rows:
            target.event_rows.append(EventRows(item.position, item.event.originator_id, rows))
