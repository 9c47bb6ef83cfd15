"""Removes what receivers of webhooks answered to Events of an erased person: it may quote these.

An Event of an object that somebody else has by now is sealed for that one, and may show what the person had.

Also finds the deliveries that may be under way with a body that was read before the feed was rewritten.
"""

from __future__ import annotations

from typing import Any

from ledger.erasure.records import Erasure, Page, Place
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec
from ledger.wire.public_events import derive_event_id, derive_public_event_types

PAGE_EVENTS = 5000

_HAS_DELIVERIES = """
SELECT EXISTS (SELECT FROM webhooks.deliveries)
"""
_EVENTS = """
SELECT e.originator_id, e.originator_version, e.topic, e.state, extract(epoch FROM e.recorded_at)::float8
FROM ledger.erasure_streams s JOIN ledger.events e ON e.originator_id = s.stream
WHERE s.job = %(job)s AND s.stream >= %(stream)s
AND (s.stream, e.originator_version) > (%(stream)s, %(version)s)
ORDER BY s.stream, e.originator_version LIMIT %(limit)s
"""
_REMOVE = """
WITH sent AS (
    SELECT d.id, d.leased_until FROM webhooks.deliveries d WHERE d.event = ANY (%(events)s::text[])
), removed AS (
    UPDATE webhooks.attempts a SET answer = NULL, sealed_answer = NULL FROM sent
    WHERE a.delivery = sent.id AND (a.answer IS NOT NULL OR a.sealed_answer IS NOT NULL)
    RETURNING a.delivery
)
SELECT (SELECT count(*) FROM removed),
       (SELECT jsonb_object_agg(id, leased_until) FROM sent WHERE leased_until > now())
"""


class AnswersRemoval:
    """Removes the answers of erasures. `codec` need not open anything."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec.without_personal_data()

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """Remove the answers to the Events of the next events of the erasure's streams, in the caller's
        transaction. Raises psycopg.Error."""
        has_deliveries = await fetch_one(conn, _HAS_DELIVERIES)
        assert has_deliveries is not None
        if not has_deliveries[0]:
            return Page()
        stream, version = erasure.place
        parameters = {"job": erasure.job, "stream": stream, "version": version, "limit": PAGE_EVENTS}
        cur = conn.cursor(binary=True)
        await cur.execute(_EVENTS, parameters)
        rows = await cur.fetchall()
        if not rows:
            return Page()
        events = [event for row in rows for event in self._list_event_ids(*row)]
        removed = await fetch_one(conn, _REMOVE, {"events": events})
        assert removed is not None
        count, sending = removed
        return Page(Place(*rows[-1][:2]), {"answers": count}, sending=sending or {})

    def _list_event_ids(
        self, stream: str, version: int, topic: str, state: Any, recorded_at: float
    ) -> list[str]:
        """The ids of the public Events of a record; [] of one that no release can read."""
        try:
            event = self._codec.decode_event(stream, version, topic, state)
        except UnreadableRecord:
            return []
        count = len(derive_public_event_types(event))
        return [derive_event_id(event, ordinal, recorded_at) for ordinal in range(count)]
