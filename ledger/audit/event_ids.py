"""From the id of a public Event to the position of the domain event that made it, from the log alone.

An id that the ledger made contains the millisecond in which its domain event was recorded, and is derived
from stream, version and place: so the events of that millisecond are tried. An imported Event is a stream of
its own under its id. Both are found however old they are: the feed keeps Events for 30 days, the log for
good. The id of a thin event leads to its snapshot.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.audit.moments import TIME_MAX
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported
from ledger.errors import UnreadableRecord
from ledger.ids import derive_id, parse_id_time
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.positions import find_last_position
from ledger.wire.public_events import EVENTS_PER_CHANGE_MAX, derive_public_event_types
from ledger.wire.thin_events import to_snapshot_id

# Deriving two ids for each takes a few milliseconds, during which the process does nothing else.
PAGE_EVENTS = 500
# An id has the time rounded to milliseconds, the log in microseconds.
_MARGIN = timedelta(microseconds=501)

_SELECT_IMPORTED = """
SELECT notification_id FROM ledger.events
WHERE originator_id = ANY (%(ids)s::text[]) AND originator_version = 1 AND topic = %(topic)s
"""
_SELECT_PAGE = """
SELECT notification_id, originator_id, originator_version FROM ledger.events
WHERE notification_id > %(after)s AND notification_id <= %(upto)s
ORDER BY notification_id LIMIT %(limit)s
"""
_SELECT_EVENT = """
SELECT originator_id, originator_version, topic, state FROM ledger.events WHERE notification_id = %(position)s
"""


async def find_event_position(conn: Conn, codec: Codec, event_id: str) -> int | None:
    """The position of the domain event that made the public Event, or its thin twin, whatever account it
    belongs to; None when there is none. Raises psycopg.Error."""
    if "\0" in event_id:
        return None  # no text of the log has this character
    snapshot_id = to_snapshot_id(event_id) or event_id
    imported = {"ids": [event_id, snapshot_id], "topic": EventImported.TOPIC}
    row = await fetch_one(conn, _SELECT_IMPORTED, imported)
    if row is not None:
        return int(row[0])
    event_id = snapshot_id
    recorded_at = parse_id_time(event_id)
    if recorded_at is None or not event_id.startswith("evt_") or recorded_at >= TIME_MAX:
        return None
    instant = datetime.fromtimestamp(recorded_at, UTC)
    after = await find_last_position(conn, instant - _MARGIN)
    upto = await find_last_position(conn, instant + _MARGIN)
    while after < upto:
        page = await fetch_all(conn, _SELECT_PAGE, {"after": after, "upto": upto, "limit": PAGE_EVENTS})
        for position, stream, version in page:
            for ordinal in range(EVENTS_PER_CHANGE_MAX):
                if derive_id("evt", recorded_at, stream, version, ordinal) == event_id:
                    return position if await _makes(conn, codec, position, ordinal) else None
        after = page[-1][0]
    return None


async def _makes(conn: Conn, codec: Codec, position: int, ordinal: int) -> bool:
    """Whether the domain event makes so many public Events; assumed of one that cannot be read."""
    row = await fetch_one(conn, _SELECT_EVENT, {"position": position})
    assert row is not None, "the log loses no event"
    codec = await codec.prepare(conn, [row])
    try:
        event: DomainEvent = codec.decode_event(*row)
    except UnreadableRecord:
        return True
    return ordinal < len(derive_public_event_types(event))
