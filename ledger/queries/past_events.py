"""Public Events from the log, for those that the feed no longer has: the same ids, the same bytes.

The feed keeps an Event for 30 days, the log for good.
"""

from __future__ import annotations

from ledger.domain.subjects import find_subject
from ledger.errors import UnreadableReason, UnreadableRecord
from ledger.logs import describe_error
from ledger.postgres.connections import ReconnectingConnection
from ledger.queries.feed_events import FeedEvent
from ledger.store.codec import evolve_stored
from ledger.store.log import read_log
from ledger.store.past_streams import PastRead
from ledger.store.store import Store
from ledger.wire.public_event_rows import derive_public_event_rows


async def load_past_event(
    connection: ReconnectingConnection, store: Store, position: int, ordinal: int, *, pending_webhooks: int
) -> FeedEvent:
    """The public Event number `ordinal` (0, 1) of the recorded event at `position`, as the feed has or had
    it. Raises UnreadableRecord when it cannot be made, psycopg.Error, and Unavailable.

    A stream of many versions is folded once, not for each of its Events (`PastStreams`).
    """
    async with connection as conn:
        (recorded,) = await read_log(conn, store.codec, position - 1, 1)
    event = recorded.event
    past = await store.past_streams.read(PastRead(event.originator_id, opened=True, position=position - 1))
    after = evolve_stored(past.state, event)
    try:
        row = derive_public_event_rows(past.state, recorded, after)[ordinal]
    except Exception as error:  # what parks a stream in the feed
        raise UnreadableRecord(
            event.originator_id,
            event.originator_version,
            event.TOPIC,
            UnreadableReason.CANNOT_BE_FOLDED,
            detail=describe_error(error),
        ) from error
    return FeedEvent(
        row.id,
        row.livemode,
        row.created,
        row.type,
        row.api_version,
        row.request_id,
        row.idempotency_key,
        row.data,
        pending_webhooks,
        find_subject(after),
    )
