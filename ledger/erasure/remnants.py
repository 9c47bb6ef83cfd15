"""Keeps of each erased event what the contract needs, while the key that opens it still exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.domain.redaction.remnants import make_remnant
from ledger.erasure.records import Erasure, Page, Place
from ledger.erasure.sealed import SEALED_MARK, OpenCodec
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn

PAGE_EVENTS = 5000

_EVENTS = """
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM ledger.erasure_streams s JOIN ledger.events e ON e.originator_id = s.stream
WHERE s.job = %(job)s AND s.stream >= %(stream)s
AND (s.stream, e.originator_version) > (%(stream)s, %(version)s)
ORDER BY s.stream, e.originator_version LIMIT %(limit)s
"""
_COPY = "COPY ledger.remnants (stream, version, kept) FROM STDIN (FORMAT BINARY)"

_encode = msgspec.json.Encoder().encode


class Remnants:
    """Makes the remnants of erasures. `codec` opens what is being erased."""

    def __init__(self, codec: OpenCodec) -> None:
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
        sealed = [row for row in rows if SEALED_MARK in row[3]]
        opened = await self._codec.open_erased(conn, sealed)
        remnants = [(row[0], row[1], _encode(make_remnant(event))) for row, event in opened]
        async with conn.cursor() as copying, copying.copy(_COPY) as copy:
            copy.set_types(["text", "int4", "bytea"])
            for remnant in remnants:
                await copy.write_row(remnant)
        counts = {"events": len(remnants)}
        return Page(Place(*rows[-1][:2]), counts)
