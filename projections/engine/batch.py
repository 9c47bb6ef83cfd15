"""One batch of recorded events for several projections: each event is folded once, each handler sees it.

Pure but for the keys of the rows. A handler that raises parks the stream for its projection alone, from that
event on; a record that cannot be read, or an aggregate that cannot be folded, parks it for all that follow
the aggregate. The rows of earlier events stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import ModuleType
from typing import NamedTuple, TypeGuard

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.subjects import find_subject
from ledger.errors import UnreadableRecord
from ledger.keys.data_keys import NO_KEYS, Keyring
from ledger.logs import describe_error
from ledger.postgres.connections import Conn
from ledger.store.codec import UnreadableEvent, evolve_stored
from ledger.store.log import Recorded
from ledger.wire.aggregates import AGGREGATES, EVENT_CLASSES
from projections.engine.partitions import get_retention_start, to_utc_day
from projections.projection import EventRows, ParkedStream, Projection
from projections.stored_rows import RowEncoder

# The part of a topic before the dot names its aggregate: no two aggregates share one.
_MODULES_BY_TOPIC_PREFIX: dict[str, ModuleType] = {
    event_class.TOPIC.partition(".")[0]: row.module for row in AGGREGATES for event_class in row.module.EVENTS
}


class GenerationKey(NamedTuple):
    """One generation of a projection. Its fields are also the columns and parameters that name it in SQL."""

    projection: str
    generation: int

    def __str__(self) -> str:
        """As logs and the generation's table name it: `customers_g1`."""
        return f"{self.projection}_g{self.generation}"


@dataclass(slots=True, eq=False)
class Target:
    """One generation that a batch is applied to, with the rows and parked streams that result.

    retention_start  unix seconds: events recorded before it make no rows, their day is dropped
    detached         a rebuild is filling the generation: its table has no index and no reader yet
    encoder          encodes its rows, with the keys in `keyring`; None: they are only compared
    parked_streams   streams whose events the generation does not apply
    event_rows       the rows to write
    newly_parked     the streams that this batch parked
    """

    projection: Projection
    generation: int
    retention_start: float = 0.0
    detached: bool = False
    encoder: RowEncoder | None = None
    keyring: Keyring = NO_KEYS
    parked_streams: set[str] = field(default_factory=set)
    event_rows: list[EventRows] = field(default_factory=list)
    newly_parked: list[ParkedStream] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        projection: Projection,
        generation: int,
        now: float,
        *,
        detached: bool = False,
        encoder: RowEncoder | None = None,
    ) -> Target:
        """A target without rows yet, whose retention period ends at `now` (unix seconds)."""
        retention_start = get_retention_start(now, projection.retention_days)
        return cls(projection, generation, retention_start, detached, encoder)

    @property
    def key(self) -> GenerationKey:
        """The generation that the batch is applied to."""
        return GenerationKey(self.projection.name, self.generation)

    def park(self, stream: str, position: int, error: BaseException, topic: str | None = None) -> None:
        """Apply no event of the stream from the one at `position` on."""
        self.parked_streams.add(stream)
        reason = str(error) if isinstance(error, UnreadableRecord) else describe_error(error)
        self.newly_parked.append(ParkedStream(stream, position, reason, topic))


class BatchFold:
    """Folds recorded events and hands each to the projections that follow it.

    states    the aggregates by stream: before the first event as the caller loaded them, and after the last
              event at the end
    failures  by stream, why its earlier events cannot be read: a later event parks the stream
    """

    def __init__(self, targets: Iterable[Target]) -> None:
        self.states: dict[str, State] = {}
        self.failures: dict[str, UnreadableRecord] = {}
        self._targets = list(targets)
        self._subscribers: dict[type[DomainEvent], list[Target]] = {}
        for target in self._targets:
            for event_class in target.projection.event_classes:
                self._subscribers.setdefault(event_class, []).append(target)

    def get_prior_versions(self, recorded: Iterable[Recorded]) -> dict[str, int]:
        """The streams that will be folded, each with its version before `recorded`; 0: none yet."""
        parked = self._list_parked()
        versions: dict[str, int] = {}
        for item in recorded:
            event = item.event
            stream = event.originator_id
            if stream not in versions and self._get_subscribers(event, parked):
                versions[stream] = event.originator_version - 1
        return versions

    def get_days(self, recorded: Sequence[Recorded]) -> dict[GenerationKey, set[int]]:
        """The days (since 1970, UTC) that rows may fall on, by target with a retention period."""
        days: dict[GenerationKey, set[int]] = {}
        for target in self._targets:
            if target.projection.retention_days is not None:
                event_classes, start = target.projection.event_classes, target.retention_start
                moments = {
                    int(item.recorded_at)
                    for item in recorded
                    if type(item.event) in event_classes and item.recorded_at >= start
                }
                if moments:
                    days[target.key] = set(map(to_utc_day, moments))
        return days

    def apply_events(self, recorded: Iterable[Recorded]) -> None:
        """Fold each event and collect the rows of each target."""
        states = self.states
        failures = self.failures
        parked = self._list_parked()
        for item in recorded:
            event = item.event
            stream = event.originator_id
            subscribers = self._get_subscribers(event, parked)
            if not subscribers:
                if _is_unreadable(event):  # passed over; a later event of the stream cannot be folded
                    self._fail(item, event.error, (), parked)
                continue
            before = states.get(stream)
            try:
                if stream in failures:
                    raise failures[stream]
                after = evolve_stored(before, event)
            except UnreadableRecord as error:  # no projection can fold the stream: all park it
                self._fail(item, error, subscribers, parked)
                continue
            states[stream] = after
            subject = find_subject(after)
            position, recorded_at = item.position, item.recorded_at
            for target in subscribers:
                if recorded_at < target.retention_start:
                    continue
                try:
                    rows = target.projection.apply(before, item, after)
                except Exception as error:  # whatever a handler raises parks its stream
                    _park(target, item, error)
                    parked.add(stream)
                else:
                    if rows:
                        target.event_rows.append(EventRows(position, stream, rows, subject))

    def _fail(
        self, item: Recorded, error: UnreadableRecord, subscribers: Iterable[Target], parked: set[str]
    ) -> None:
        stream = item.event.originator_id
        for target in subscribers:
            _park(target, item, error)
            parked.add(stream)
        self.states.pop(stream, None)
        self.failures[stream] = error

    def _list_parked(self) -> set[str]:
        """The streams that some target has parked: few, so for most events no target needs to be asked."""
        return set().union(*[target.parked_streams for target in self._targets])

    def _get_subscribers(self, event: DomainEvent, parked: set[str]) -> list[Target]:
        subscribers = self._subscribers.get(type(event), [])
        if not subscribers and _is_unreadable(event):
            subscribers = self._find_followers(event)
        stream = event.originator_id
        if stream in parked:
            return [target for target in subscribers if stream not in target.parked_streams]
        return subscribers

    def _find_followers(self, event: UnreadableEvent) -> list[Target]:
        """The targets that follow the aggregate of a record of an unknown topic. The topic of its stream's
        first record tells the aggregate, or its own; when neither does, the targets are those that park what
        they do not know."""
        module = _find_module(event.first_topic) or _find_module(event.error.topic)
        return [
            target
            for target in self._targets
            if (module in target.projection.aggregates if module else target.projection.parks_unknown)
        ]


async def load_keyrings(conn: Conn, targets: Iterable[Target], known: Keyring = NO_KEYS) -> None:
    """Load the keys for which the documents of the targets' rows are sealed, all at once. `known`: those
    with which the batch was read. Raises psycopg.Error."""
    sealed = [target for target in targets if any(column.sealed for column in target.projection.columns)]
    if not sealed or (encoder := sealed[0].encoder) is None:  # the targets of a batch have one
        return
    rows = chain.from_iterable(target.event_rows for target in sealed)
    keyring = await encoder.load_keyring(conn, rows, known)
    for target in sealed:
        target.keyring = keyring


def ignored_topics(targets: Iterable[Target]) -> list[str]:
    """The topics that none of the targets follows. Customer sessions, a large part of a log, have none."""
    subscribed = {event_class for target in targets for event_class in target.projection.event_classes}
    return [event_class.TOPIC for event_class in EVENT_CLASSES if event_class not in subscribed]


def _park(target: Target, item: Recorded, error: Exception) -> None:
    event = item.event
    topic = event.error.topic if _is_unreadable(event) else event.TOPIC  # as it is stored
    target.park(event.originator_id, item.position, error, topic)


def _find_module(topic: str) -> ModuleType | None:
    return _MODULES_BY_TOPIC_PREFIX.get(topic.partition(".")[0])


def _is_unreadable(event: DomainEvent) -> TypeGuard[UnreadableEvent]:
    return type(event) is UnreadableEvent
