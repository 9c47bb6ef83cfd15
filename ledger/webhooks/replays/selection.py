"""The Events that a replay sends, in the order of the log: found in the log itself, or among the deliveries
that were given up.

The types of most Events follow from the topic, so nothing is decoded to count them, and nothing is folded
before an Event is sent. Imported past Events are left out, as the fan-out leaves them out. A statement reads
a bounded range of positions, however long the window is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger import ids
from ledger.domain import imported_event
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all
from ledger.store.codec import Codec
from ledger.webhooks.replays.filters import ReplayFilter, list_accounts_of
from ledger.webhooks.subscriptions import FeedEvent
from ledger.wire.event_destinations import PING_TYPE
from ledger.wire.public_events import EVENTS_PER_CHANGE_MAX, FIXED_EVENT_TYPES, derive_public_event_types

SELECT_POSITIONS_MAX = 50_000
COUNT_POSITIONS_MAX = 100_000
"""So many positions of the log a statement reads: a fraction of a second."""
_IMPORTED_EVENT_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

# A deny list of topics, so that a record of a topic that this release does not know is noticed.
_MATCHING = """
FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s
AND e.account = ANY (%(accounts)s::text[]) AND e.livemode = %(livemode)s
AND e.topic <> ALL (%(ignored)s::text[])
AND (%(object)s::text IS NULL OR e.originator_id = %(object)s)
"""
_COLUMNS = """
SELECT e.notification_id, e.originator_id, e.originator_version, e.topic,
       CASE WHEN e.topic = ANY (%(fixed)s::text[]) THEN NULL ELSE e.state END, e.account,
       extract(epoch FROM e.recorded_at)::float8
"""
_SELECT_RECORDS = f"{_COLUMNS}{_MATCHING} ORDER BY e.notification_id LIMIT %(limit)s"
_SELECT_VARYING = f"{_COLUMNS}{_MATCHING} AND e.topic <> ALL (%(fixed)s::text[]) ORDER BY e.notification_id"
_COUNT_FIXED = f"""
SELECT e.topic, count(*), min(e.notification_id), max(e.notification_id),
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM unnest(%(parked)s::text[], %(parked_from)s::bigint[]) AS p (stream, position)
           WHERE p.stream = e.originator_id AND e.notification_id >= p.position))
{_MATCHING} AND e.topic = ANY (%(fixed)s::text[]) GROUP BY e.topic
"""  # noqa: S608 (constants)
_GIVEN_UP = """
FROM webhooks.deliveries d
WHERE d.endpoint = %(endpoint)s AND d.state IN ('failed', 'dropped') AND d.type <> %(ping)s
AND d.position > %(after)s AND d.position <= %(upto)s
AND (%(types)s::text[] IS NULL OR d.type = ANY (%(types)s::text[]))
AND (%(object)s::text IS NULL OR EXISTS (
    SELECT FROM ledger.events e WHERE e.notification_id = d.position AND e.originator_id = %(object)s))
"""
_SELECT_GIVEN_UP = f"""
SELECT d.event, d.account, d.livemode, d.type, d.created, d.position, d.ordinal,
       (SELECT e.originator_id FROM ledger.events e WHERE e.notification_id = d.position)
{_GIVEN_UP} ORDER BY d.position, d.ordinal LIMIT %(limit)s
"""  # noqa: S608 (a constant)
_COUNT_GIVEN_UP = f"""
SELECT d.type, count(*), min(d.position), max(d.position) {_GIVEN_UP} GROUP BY d.type
"""
# The feed has no Events of these streams from a position on; those of `late` are fanned out once they have
# recovered.
_PARKED = """
SELECT stream, position FROM projections.parked
WHERE projection = 'feed'
AND generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
UNION ALL SELECT stream, position FROM webhooks.late
"""


@dataclass(slots=True)
class Tally:
    """How many Events were found. `first` and `last` are positions of the log, None if there are none."""

    by_type: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def total(self) -> int:
        """All that a replay has to deal with, what cannot be read included."""
        return self.by_type.total() + self.unreadable

    def span(self, first: int, last: int) -> None:
        """Take in the positions of some Events."""
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def add(self, other: Tally) -> None:
        """Take in the Events of another range."""
        self.by_type += other.by_type
        self.unreadable += other.unreadable
        if other.first is not None and other.last is not None:
            self.span(other.first, other.last)


class Selection(NamedTuple):
    """The next Events, how many cannot be made, and the position up to which there are no others."""

    events: list[FeedEvent]
    unreadable: int
    upto: int


class Selector:
    """Finds the Events of one replay, as of when it was opened (`open_selector`)."""

    def __init__(
        self, codec: Codec, chosen: ReplayFilter, accounts: Sequence[str], parked: Mapping[str, int]
    ) -> None:
        self._codec = codec.without_personal_data()  # types do not depend on it
        self._filter = chosen
        self._parked = parked
        fixed = {topic: list(filter(chosen.wants, types)) for topic, types in FIXED_EVENT_TYPES.items()}
        ignored = [topic for topic, types in fixed.items() if not types] + _IMPORTED_EVENT_TOPICS
        self._parameters: dict[str, Any] = {
            "accounts": list(accounts), "livemode": chosen.livemode, "object": chosen.object,
            "endpoint": chosen.endpoint, "types": None if chosen.types is None else sorted(chosen.types),
            "ignored": ignored, "fixed": [topic for topic, types in fixed.items() if types],
            "ping": PING_TYPE, "parked": list(parked), "parked_from": list(parked.values()),
        }  # fmt: skip

    async def select(self, conn: Conn, after: int, limit: int) -> Selection:
        """The first Events after the position `after`, at most `limit`, in order. Raises psycopg.Error."""
        if self._filter.only_failed:
            return await self._select_given_up(conn, after, limit)
        upto = min(self._filter.upto, after + SELECT_POSITIONS_MAX)
        records_max = max(1, limit // EVENTS_PER_CHANGE_MAX)
        parameters = {**self._parameters, "after": after, "upto": upto, "limit": records_max}
        rows = await fetch_all(conn, _SELECT_RECORDS.encode(), parameters)
        events: list[FeedEvent] = []
        unreadable = 0
        for row in rows:
            found, lost = self._list_events(row)
            events += found
            unreadable += lost
        return Selection(events, unreadable, rows[-1][0] if len(rows) == records_max else upto)

    async def count(self, conn: Conn, after: int, upto: int) -> Tally:
        """Count the Events after one position and up to another, at most COUNT_POSITIONS_MAX of them.
        Raises psycopg.Error."""
        tally = Tally()
        parameters = {**self._parameters, "after": after, "upto": upto}
        if self._filter.only_failed:
            for event_type, number, first, last in await fetch_all(
                conn, _COUNT_GIVEN_UP.encode(), parameters
            ):
                tally.by_type[event_type] += number
                tally.span(first, last)
            return tally
        for topic, number, first, last, parked in await fetch_all(conn, _COUNT_FIXED.encode(), parameters):
            types = list(filter(self._filter.wants, FIXED_EVENT_TYPES[topic]))
            for event_type in types:
                tally.by_type[event_type] += number - parked
            tally.unreadable += parked * len(types)
            tally.span(first, last)
        for row in await fetch_all(conn, _SELECT_VARYING.encode(), parameters):
            found, lost = self._list_events(row)
            tally.by_type.update(event.type for event in found)
            tally.unreadable += lost
            if found or lost:
                tally.span(row[0], row[0])
        return tally

    async def _select_given_up(self, conn: Conn, after: int, limit: int) -> Selection:
        limit = max(limit, EVENTS_PER_CHANGE_MAX + 1)
        parameters = {**self._parameters, "after": after, "upto": self._filter.upto, "limit": limit}
        events = [FeedEvent(*row) for row in await fetch_all(conn, _SELECT_GIVEN_UP.encode(), parameters)]
        if len(events) < limit:
            return Selection(events, 0, self._filter.upto)
        # The last position may have another Event: it is left for the next time.
        whole = [event for event in events if event.position < events[-1].position]
        return Selection(whole, 0, whole[-1].position)

    def _list_events(self, row: TupleRow) -> tuple[list[FeedEvent], int]:
        """The Events of a record that are wanted, or how many of them cannot be made."""
        position, stream, version, topic, state, account, recorded_at = row
        types = FIXED_EVENT_TYPES.get(topic)
        if types is None:
            try:
                types = derive_public_event_types(self._codec.decode_event(stream, version, topic, state))
            except UnreadableRecord:
                return [], 1
        wanted = [(number, name) for number, name in enumerate(types) if self._filter.wants(name)]
        if stream in self._parked and position >= self._parked[stream]:
            return [], len(wanted)
        events = [
            FeedEvent(
                ids.derive_id("evt", recorded_at, stream, version, ordinal), account, self._filter.livemode,
                event_type, int(recorded_at), position, ordinal, stream,
            )
            for ordinal, event_type in wanted
        ]  # fmt: skip
        return events, 0


async def open_selector(conn: Conn, codec: Codec, chosen: ReplayFilter) -> Selector:
    """A selector of the Events that `chosen` wants, with what is parked now. Raises psycopg.Error."""
    accounts = await list_accounts_of(conn, chosen.account, chosen.events_from)
    parked: dict[str, int] = {}
    for stream, position in await fetch_all(conn, _PARKED):
        parked[stream] = min(position, parked.get(stream, position))
    return Selector(codec, chosen, accounts, parked)
