"""Derives the rows of erased streams again, so that read models and feed show them redacted.

As the engine would by a rebuild, and in place: the events of a page of streams are folded once, and the last
value of each row is written to each generation that has it, as of its checkpoint, whose lock keeps the engine
away meanwhile. A row that is missing (of a parked stream, of a day that is no longer kept) stays so, unless
it was left out while nothing said what was to be redacted; one that is the same already is not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.erasure.records import Erasure, Page, Place
from ledger.errors import UnreadableRecord
from ledger.keys.erasure_watch import wait_for_batches
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.migrations import may_compress
from ledger.store.codec import Codec, fold
from ledger.store.log import Recorded, decode_log
from projections.engine.batch import BatchFold, GenerationKey, Target
from projections.engine.writes import list_rewritable, rewrite_rows
from projections.projection import Projection
from projections.stored_rows import RowEncoder

PAGE_EVENTS = 5000
# Events folded before the event loop gets its turn, as in the engine.
SLICE_EVENTS = 64

_BUILDING = """
SELECT b.projection, b.generation FROM projections.builds b
WHERE NOT b.ended AND b.projection = ANY (%(projections)s::text[])
AND NOT EXISTS (SELECT FROM projections.checkpoints c
                WHERE c.projection = b.projection AND c.generation = b.generation)
ORDER BY 1, 2 LIMIT 1
"""
_LOCK_CHECKPOINTS = """
SELECT projection, generation, shape, position FROM projections.checkpoints
WHERE projection = ANY (%(projections)s::text[]) ORDER BY projection, generation FOR UPDATE
"""
_PARKED = """
SELECT projection, generation, stream, position FROM projections.parked
WHERE stream = ANY (%(streams)s::text[])
"""
_EVENTS = """
SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state, e.account, e.livemode,
       e.actor, e.request_id, e.idempotency_key, e.causation, extract(epoch FROM e.recorded_at)::float8
FROM ledger.erasure_streams s JOIN ledger.events e ON e.originator_id = s.stream
WHERE s.job = %(job)s AND s.stream >= %(stream)s
AND (s.stream, e.originator_version) > (%(stream)s, %(version)s)
ORDER BY s.stream, e.originator_version LIMIT %(limit)s
"""
# Of a stream whose page does not begin with its first event, what came before is folded in pieces.
_EARLIER_EVENTS = """
SELECT e.originator_id, e.originator_version, e.topic, e.state FROM ledger.events e
WHERE e.originator_id = %(stream)s AND e.originator_version > %(after)s AND e.originator_version < %(before)s
ORDER BY e.originator_version LIMIT %(limit)s
"""


class ErasedRows:
    """Rewrites the rows of `projections` for one process."""

    def __init__(self, codec: Codec, clock: Clock, projections: Iterable[Projection]) -> None:
        self._codec = codec
        self._clock = clock
        self._projections = {each.name: each for each in projections if list_rewritable(each)}
        self._last: State | None = None

    async def run_page(self, conn: Conn, erasure: Erasure) -> Page:
        """Rewrite the rows of the next events of the erasure's streams, in the caller's transaction, whose
        role is that of the projections. Raises psycopg.Error."""
        if erasure.place == Place():
            await wait_for_batches(conn)  # what they decode later, they decode redacted
        await self._clock.refresh(conn)
        names = {"projections": list(self._projections)}
        for building in await fetch_all(conn, _BUILDING, names):
            return Page(obstacle=f"a rebuild is filling {GenerationKey(*building)}: it must end first")
        positions: dict[GenerationKey, int] = {}
        for name, generation, shape, position in await fetch_all(conn, _LOCK_CHECKPOINTS, names):
            key = GenerationKey(name, generation)
            if shape > self._projections[name].shape:
                return Page(obstacle=f"{key} was built by a later release: one of its processes must run")
            positions[key] = position
        recorded = await self._read_page(conn, erasure)
        if not recorded:
            self._last = None
            return Page()
        last = recorded[-1].event
        counts = await self._rewrite(conn, recorded, positions)
        return Page(Place(last.originator_id, last.originator_version), counts)

    async def _read_page(self, conn: Conn, erasure: Erasure) -> list[Recorded]:
        stream, version = erasure.place
        parameters = {"job": erasure.job, "stream": stream, "version": version, "limit": PAGE_EVENTS}
        cur = conn.cursor(binary=True)
        await cur.execute(_EVENTS, parameters)
        return await decode_log(conn, self._codec, await cur.fetchall())

    async def _rewrite(
        self, conn: Conn, recorded: Sequence[Recorded], positions: Mapping[GenerationKey, int]
    ) -> dict[str, int]:
        """Write the rows of the events. Returns how many changed, by the name of the projection."""
        now = self._clock.now()
        encoder = RowEncoder(self._codec, compressed=await may_compress(conn))
        targets = [
            Target.create(self._projections[key.projection], key.generation, now, encoder=encoder)
            for key in positions
        ]
        batch = BatchFold(targets)
        first = recorded[0].event
        if first.originator_version > 1:
            state = await self._load_state(conn, first.originator_id, first.originator_version - 1)
            if state is not None:
                batch.states[first.originator_id] = state
        for start in range(0, len(recorded), SLICE_EVENTS):
            batch.apply_events(recorded[start : start + SLICE_EVENTS])
            await asyncio.sleep(0)
        self._last = batch.states.get(recorded[-1].event.originator_id)
        streams = list({item.event.originator_id for item in recorded})
        parked: dict[tuple[GenerationKey, str], int] = {
            (GenerationKey(name, generation), stream): position
            for name, generation, stream, position in await fetch_all(conn, _PARKED, {"streams": streams})
        }
        for target in targets:
            upto = positions[target.key]
            target.event_rows = [
                each
                for each in target.event_rows
                if each.position <= upto and each.position < parked.get((target.key, each.stream), upto + 1)
            ]
            await target.load_keyring(conn)  # of subjects that are not erased, if their stream is in it
        counts: dict[str, int] = {}
        for key, changed in (await rewrite_rows(conn, targets)).items():
            kind = f"rows_{key.projection}"
            counts[kind] = counts.get(kind, 0) + changed
        return counts

    async def _load_state(self, conn: Conn, stream: str, version: int) -> State | None:
        """The aggregate at a version; None if it cannot be read: the stream is parked from there on."""
        if self._last is not None and (self._last.id, self._last.version) == (stream, version):
            return self._last
        state: State | None = None
        while state is None or state.version < version:
            parameters = {
                "stream": stream, "after": state.version if state else 0, "before": version + 1,
                "limit": PAGE_EVENTS,
            }  # fmt: skip
            cur = conn.cursor(binary=True)
            await cur.execute(_EARLIER_EVENTS, parameters)
            rows = await cur.fetchall()
            try:
                codec = await self._codec.prepare(conn, rows)
                state = fold([codec.decode_event(*row) for row in rows], state)
            except UnreadableRecord:
                return None
        return state
