"""Keeps of each erased event what the contract needs, while the key that opens it still exists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from psycopg.pq import Format

from ledger.domain.redaction.remnants import make_remnant
from ledger.erasure.records import Erasure, Page, Place
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.pipelines import BoundStatement, run_together
from ledger.store.arrays import BYTEA, INTEGER, TEXT, encode_array
from ledger.store.codec import Codec
from ledger.store.seals.records import Record, find_sealed_subject

PAGE_EVENTS = 5000
# Opened before the event loop gets its turn: a few milliseconds.
SLICE_EVENTS = 100
_SEALED = b'"sealed":"'

_EVENTS = """
SELECT e.originator_id, e.originator_version, e.topic, e.state,
       (SELECT k.subject FROM ledger.stream_keys k WHERE k.stream = e.originator_id)
FROM ledger.erasure_streams s JOIN ledger.events e ON e.originator_id = s.stream
WHERE s.job = %(job)s AND s.stream >= %(stream)s
AND (s.stream, e.originator_version) > (%(stream)s, %(version)s)
ORDER BY s.stream, e.originator_version LIMIT %(limit)s
"""
# Those whose key is still there, to make remnants with it.
_ERASING = """
SELECT named.subject FROM unnest(%(subjects)s::text[]) AS named (subject)
WHERE (SELECT k.erasing_since IS NOT NULL AND k.wrapped IS NOT NULL FROM ledger.data_keys k
       WHERE k.subject = named.subject AND ledger.key_group(k.subject) = ledger.key_group(named.subject))
"""
# Two erasures at a time may reach the same stream.
_INSERT = b"""
INSERT INTO ledger.remnants (stream, version, kept)
SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])
ON CONFLICT ON CONSTRAINT remnants_event DO NOTHING
"""

_encode = msgspec.json.Encoder().encode


class ReadRemnants(NamedTuple):
    """The remnants of a page's events. `unreadable_events`: how many have none, because they cannot be
    read."""

    next_place: Place | None
    remnants: Sequence[tuple[str, int, bytes]] = ()
    unreadable_events: int = 0


class Remnants:
    """Makes the remnants of erasures. `codec` opens what is being erased."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    async def read_page(self, conn: Conn, erasure: Erasure) -> ReadRemnants:
        """Make the remnants of the next events of the erasure's streams. Events that are sealed for somebody
        else have none. Nothing can be sealed for its subjects any more, so all there is can be read
        ahead. Raises psycopg.Error."""
        stream, version = erasure.place
        parameters = {"job": erasure.job, "stream": stream, "version": version, "limit": PAGE_EVENTS}
        cur = conn.cursor(binary=True)
        await cur.execute(_EVENTS, parameters)
        rows = await cur.fetchall()
        if not rows:
            return ReadRemnants(None)
        subjects = [find_sealed_subject(row[3]) or row[4] if _SEALED in row[3] else None for row in rows]
        named = {"subjects": list({subject for subject in subjects if subject is not None})}
        erasing = {subject for (subject,) in await fetch_all(conn, _ERASING, named)}
        sealed = [row[:4] for row, subject in zip(rows, subjects, strict=True) if subject in erasing]
        remnants = await self._make_remnants(conn, sealed)
        return ReadRemnants(Place(*rows[-1][:2]), remnants, len(sealed) - len(remnants))

    async def write_page(self, conn: Conn, erasure: Erasure, reading: ReadRemnants) -> Page:
        """Keep them, in the caller's transaction. Raises psycopg.Error."""
        if reading.remnants:
            await _insert(conn, reading.remnants)
        counts = {"events": len(reading.remnants), "unreadable_events": reading.unreadable_events}
        return Page(reading.next_place, counts)

    async def _make_remnants(self, conn: Conn, records: Sequence[Record]) -> list[tuple[str, int, bytes]]:
        """The remnants, each with the stream and version of its event, but of those that cannot be read."""
        codec = await self._codec.prepare(conn, records)
        remnants = []
        for start in range(0, len(records), SLICE_EVENTS):
            for record in records[start : start + SLICE_EVENTS]:
                with suppress(UnreadableRecord):
                    event = codec.decode_event(*record)
                    remnants.append((*record[:2], _encode(make_remnant(event))))
            await asyncio.sleep(0)
        return remnants


async def _insert(conn: Conn, remnants: Sequence[tuple[str, int, bytes]]) -> None:
    streams, versions, kept = zip(*remnants, strict=True)
    arrays = [encode_array(streams, TEXT), encode_array(versions, INTEGER), encode_array(kept, BYTEA)]
    await run_together(conn, [BoundStatement(_INSERT, arrays, [Format.BINARY] * 3)], prepare=False)
