"""Keeps of each erased event what the contract needs, while the key that opens it still exists."""

from __future__ import annotations

import asyncio

import msgspec

from ledger.domain.redaction.remnants import make_remnant
from ledger.erasure.records import Erasure, Page, Place
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec

PAGE_EVENTS = 5000
# Opened before the event loop gets its turn: a few milliseconds.
SLICE_EVENTS = 100
_SEALED = b'"sealed":"'

_EVENTS = """
SELECT e.originator_id, e.originator_version, e.topic, e.state, EXISTS (
    SELECT FROM ledger.data_keys d WHERE d.erasing_since IS NOT NULL AND d.subject = coalesce(
        ledger.sealed_subject(e.state),
        (SELECT k.subject FROM ledger.stream_keys k WHERE k.stream = e.originator_id)))
FROM ledger.erasure_streams s JOIN ledger.events e ON e.originator_id = s.stream
WHERE s.job = %(job)s AND s.stream >= %(stream)s
AND (s.stream, e.originator_version) > (%(stream)s, %(version)s)
ORDER BY s.stream, e.originator_version LIMIT %(limit)s
"""
_COPY = "COPY ledger.remnants (stream, version, kept) FROM STDIN (FORMAT BINARY)"

_encode = msgspec.json.Encoder().encode


class Remnants:
    """Makes the remnants of erasures. `codec` opens what is being erased."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """The remnants of the next events of the erasure's streams, in the caller's transaction. Events that
        are sealed for somebody else have none. Raises psycopg.Error."""
        stream, version = erasure.place
        parameters = {"job": erasure.job, "stream": stream, "version": version, "limit": PAGE_EVENTS}
        cur = conn.cursor(binary=True)
        await cur.execute(_EVENTS, parameters)
        rows = await cur.fetchall()
        if not rows:
            return Page()
        erased = [row[:4] for row in rows if row[4] and _SEALED in row[3]]
        codec = await self._codec.prepare(conn, erased)
        unreadable = 0
        async with conn.cursor() as copying, copying.copy(_COPY) as copy:
            copy.set_types(["text", "int4", "bytea"])
            for start in range(0, len(erased), SLICE_EVENTS):
                for row in erased[start : start + SLICE_EVENTS]:
                    try:
                        event = codec.decode_event(*row)
                    except UnreadableRecord:
                        unreadable += 1
                    else:
                        await copy.write_row((*row[:2], _encode(make_remnant(event))))
                await asyncio.sleep(0)
        counts = {"events": len(erased) - unreadable, "unreadable_events": unreadable}
        return Page(Place(*rows[-1][:2]), counts)
