"""One pass over recorded events for several projections: each event is folded once, each handler sees it.

Pure. A handler that raises parks the stream for its projection alone, from that event on; an aggregate
that cannot be folded parks it for all. What was derived before the failing event stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ledger.domain.event import DomainEvent
from ledger.store.codec import AGGREGATES, State, evolve
from ledger.store.log import Recorded
from projections.engine.partitions import day_of
from projections.projection import Parking, Projection, Step, described

Key = tuple[str, int]
"""Projection and generation."""


@dataclass(slots=True, eq=False)
class Member:
    """One generation of a projection taking part in a pass, and what came of it.

    since     unix seconds: events recorded before it make no rows, their day is dropped
    detached  the generation is being filled: its partition has no index and no reader yet
    parked    streams left out
    """

    projection: Projection
    generation: int
    since: float = 0.0
    detached: bool = False
    parked: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    parkings: list[Parking] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.projection.name, self.generation

    def park(self, stream: str, position: int, error: BaseException) -> None:
        self.parked.add(stream)
        self.parkings.append(Parking(stream, position, described(error)))


class Pass:
    """`states` come to hold the aggregates after the last event read."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.states: dict[str, State] = {}
        self._takers: dict[type[DomainEvent], list[Member]] = {}
        for member in members:
            for event in member.projection.follows:
                self._takers.setdefault(event, []).append(member)

    def begin(self, recorded: Iterable[Recorded]) -> dict[str, int]:
        """The streams that will be folded, and the version each must be at before `recorded`."""
        versions: dict[str, int] = {}
        for item in recorded:
            event = item.event
            stream = event.originator_id
            if stream not in versions and self._takers_of(event):
                versions[stream] = event.originator_version - 1
        return versions

    def days(self, recorded: Iterable[Recorded]) -> dict[Key, set[int]]:
        """By member that keeps its rows by day: the days (since 1970, UTC) that rows may fall on."""
        days: dict[Key, set[int]] = {}
        for item in recorded:
            for member in self._takers.get(type(item.event), ()):
                if member.projection.days_kept is not None and item.recorded_at >= member.since:
                    days.setdefault(member.key, set()).add(day_of(item.recorded_at))
        return days

    def read(self, recorded: Iterable[Recorded], broken: Mapping[str, Exception]) -> None:
        """Fold and hand out. `broken`: streams whose past could not be folded, and why."""
        states = self.states
        for item in recorded:
            event = item.event
            stream = event.originator_id
            takers = self._takers_of(event)
            if not takers:
                continue
            before = states.get(stream)
            try:
                if stream in broken:
                    raise broken[stream]
                after = evolve(before, event)
            except Exception as error:  # a stream nobody can fold: all leave it out
                for member in takers:
                    member.park(stream, item.position, error)
                states.pop(stream, None)
                continue
            states[stream] = after
            for member in takers:
                if item.recorded_at >= member.since:
                    _hand(member, before, item, after)

    def _takers_of(self, event: DomainEvent) -> list[Member]:
        takers = self._takers.get(type(event), [])
        stream = event.originator_id
        for member in takers:
            if stream in member.parked:
                return [member for member in takers if stream not in member.parked]
        return takers


def unfollowed(members: Iterable[Member]) -> list[str]:
    """The topics that none of them follows: customer sessions are most of the log, and in no view."""
    followed = {event for member in members for event in member.projection.follows}
    known = (event for module in AGGREGATES for event in module.EVENTS)
    return [event.TOPIC for event in known if event not in followed]


def _hand(member: Member, before: State | None, item: Recorded, after: State) -> None:
    try:
        rows = member.projection.apply(before, item, after)
    except Exception as error:  # whatever a handler raises parks its stream
        member.park(item.event.originator_id, item.position, error)
    else:
        if rows:
            member.steps.append(Step(item.position, item.event.originator_id, rows))
