"""Events of the feed, opened: the feed has the object of each sealed for its subject."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from psycopg.rows import TupleRow

from ledger.keys.documents import RunQuery, find_subject, load_document_keys, open_document
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec, fold
from ledger.store.log import read_log, read_stream
from ledger.wire.public_event_rows import derive_public_event_rows

_DATA = 7


class FeedEvent(NamedTuple):
    """What the feed has of an Event. `data` is JSON; `pending_webhooks`: how many endpoints the Event was
    owed to when it was read; `subject`: whose data key seals it, None if it is not sealed."""

    id: str
    livemode: bool
    created: int
    type: str
    api_version: str
    request_id: str | None
    idempotency_key: str | None
    data: bytes
    pending_webhooks: int
    subject: str | None = None


async def open_events(run: RunQuery, codec: Codec, rows: Sequence[TupleRow]) -> list[FeedEvent]:
    """The Events of these rows, each with the columns that FeedEvent has up to `pending_webhooks`, and its
    position in the log and its place there.

    One whose subject has been erased is made from the log while the feed still has it as it was. Raises what
    `run` raises, and UnreadableRecord.
    """
    stored = [row[_DATA] for row in rows]
    keyring = await load_document_keys(run, codec.data_keys, stored)
    events = []
    for row, data in zip(rows, stored, strict=True):
        *columns, position, ordinal = row
        opened = open_document(keyring, data)
        if opened is None:
            opened = await run(_make_derivation(codec, position, ordinal))
        event = FeedEvent._make((*columns, find_subject(data)))
        events.append(event._replace(data=opened))
    return events


def _make_derivation(codec: Codec, position: int, ordinal: int) -> Callable[[Conn], Awaitable[bytes]]:
    """What derives the content of an Event from the log as it is now."""

    async def derive(conn: Conn) -> bytes:
        (recorded,) = await read_log(conn, codec, position - 1, 1)
        earlier = await read_stream(conn, codec, recorded.event.originator_id, upto=position)
        before = fold(item.event for item in earlier[:-1])
        after = fold([recorded.event], before)
        assert after is not None
        return derive_public_event_rows(before, recorded, after)[ordinal].data

    return derive
