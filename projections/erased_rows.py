"""Derives the rows of erased streams again, so that read models and feed show them redacted.

As the engine would by a rebuild, and in place: the events of a page of streams are folded once, and the last
value of each row is written to each generation that has it, as of its checkpoint, whose lock keeps the engine
away meanwhile. A page may be folded before that lock is held: it is folded again if anything of it has
changed until then. A row that is missing (of a parked stream, of a day that is no longer kept) stays so,
unless it was left out while nothing said what was to be redacted. One that is the same is not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ledger.clock import Clock
from ledger.domain.aggregate import State
from ledger.erasure.records import Erasure, Page, Place
from ledger.errors import UnreadableRecord
from ledger.keys.erasure_watch import wait_for_batches
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.migrations import may_compress
from ledger.postgres.pipelines import BoundStatement
from ledger.store.codec import Codec, fold
from ledger.store.log import Recorded, decode_log
from projections.engine.batch import BatchFold, GenerationKey, Target, load_keyrings
from projections.engine.writes import bind_rewrite, list_rewritable, rewrite_rows
from projections.projection import Projection
from projections.stored_rows import RowEncoder

PAGE_EVENTS = 5000
# Events folded before the event loop gets its turn, as in the engine.
SLICE_EVENTS = 64
_BEFORE_ALL = Place("", 1)

_BUILDING = """
SELECT b.projection, b.generation FROM projections.builds b
WHERE NOT b.ended AND b.projection = ANY (%(projections)s::text[])
AND NOT EXISTS (SELECT FROM projections.checkpoints c
                WHERE c.projection = b.projection AND c.generation = b.generation)
ORDER BY 1, 2 LIMIT 1
"""
_MOMENT = """
SELECT h.position, e.epoch FROM ledger.head h, ledger.erasure_epoch e
"""
_GENERATIONS = """
SELECT projection, generation FROM projections.checkpoints
WHERE projection = ANY (%(projections)s::text[]) ORDER BY 1, 2
"""
# The few events since are looked up among the streams, which may be many: never the other way round.
_HOLDS = """
SELECT e.epoch = %(erasures)s AND NOT EXISTS (
    SELECT FROM ledger.events n WHERE n.notification_id > %(head)s
    AND (SELECT true FROM ledger.erasure_streams s WHERE s.job = %(job)s AND s.stream = n.originator_id))
FROM ledger.erasure_epoch e
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


class FoldedPage(NamedTuple):
    """The events of a page, folded, and the rows that follow from them.

    targets   the generations that there were, with the rows of all events of the page
    rewrites  writes these rows, with their documents sealed: made while the page before it is written
    head      the log's last position before the events were read
    erasures  the erasure epoch before they were decoded
    """

    next_place: Place | None
    targets: list[Target]
    rewrites: dict[GenerationKey, BoundStatement]
    head: int
    erasures: int


class ErasedRows:
    """Rewrites the rows of `projections` for one process."""

    def __init__(self, codec: Codec, clock: Clock, projections: Iterable[Projection]) -> None:
        self._codec = codec
        self._clock = clock
        self._projections = {each.name: each for each in projections if list_rewritable(each)}
        self._names = {"projections": list(self._projections)}
        self._last: State | None = None

    async def read_page(self, conn: Conn, erasure: Erasure) -> FoldedPage:
        """Fold the next events of the erasure's streams. Raises psycopg.Error."""
        if erasure.place == Place():
            await wait_for_batches(conn)  # what they decode later, they decode redacted
            return FoldedPage(_BEFORE_ALL, [], {}, 0, 0)  # a page of its own: until its end others wait
        await self._clock.refresh(conn)
        [(head, erasures)] = await fetch_all(conn, _MOMENT)
        targets = await self._create_targets(conn)
        recorded = await self._read_events(conn, erasure)
        if not recorded:
            self._last = None
            return FoldedPage(None, targets, {}, head, erasures)
        await self._fold(conn, recorded, targets)
        last = recorded[-1].event
        place = Place(last.originator_id, last.originator_version)
        return FoldedPage(place, targets, await _bind_rewrites(targets), head, erasures)

    async def write_page(self, conn: Conn, erasure: Erasure, reading: FoldedPage) -> Page:
        """Write the rows of a page, in the caller's transaction, whose role is that of the projections.
        Raises psycopg.Error."""
        if erasure.place == Place():
            return Page(reading.next_place)
        for building in await fetch_all(conn, _BUILDING, self._names):
            return Page(obstacle=f"a rebuild is filling {GenerationKey(*building)}: it must end first")
        positions: dict[GenerationKey, int] = {}
        for name, generation, shape, position in await fetch_all(conn, _LOCK_CHECKPOINTS, self._names):
            key = GenerationKey(name, generation)
            if shape > self._projections[name].shape:
                return Page(obstacle=f"{key} was built by a later release: one of its processes must run")
            positions[key] = position
        if not await self._holds(conn, erasure, reading, positions):
            reading = await self.read_page(conn, erasure)
        rewrites = reading.rewrites
        if await _keep_applied(conn, reading.targets, positions):
            rewrites = await _bind_rewrites(reading.targets)
        counts: dict[str, int] = {}
        for key, changed in (await rewrite_rows(conn, rewrites)).items():
            kind = f"rows_{key.projection}"
            counts[kind] = counts.get(kind, 0) + changed
        return Page(reading.next_place, counts)

    async def _create_targets(self, conn: Conn) -> list[Target]:
        encoder = RowEncoder(self._codec, compressed=await may_compress(conn))
        now = self._clock.now()
        return [
            Target.create(self._projections[name], generation, now, encoder=encoder)
            for name, generation in await fetch_all(conn, _GENERATIONS, self._names)
        ]

    async def _read_events(self, conn: Conn, erasure: Erasure) -> list[Recorded]:
        stream, version = erasure.place
        parameters = {"job": erasure.job, "stream": stream, "version": version, "limit": PAGE_EVENTS}
        cur = conn.cursor(binary=True)
        await cur.execute(_EVENTS, parameters)
        return await decode_log(conn, self._codec, await cur.fetchall())

    async def _fold(self, conn: Conn, recorded: Sequence[Recorded], targets: Sequence[Target]) -> None:
        """Give the targets the rows of the events, and the keys that seal them."""
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
        await load_keyrings(conn, targets)  # of subjects that are not erased, if their stream is in it

    async def _holds(
        self,
        conn: Conn,
        erasure: Erasure,
        reading: FoldedPage,
        positions: Mapping[GenerationKey, int],
    ) -> bool:
        """Whether a page says what the rows say now that their checkpoints are locked: they have no
        generation besides, and the streams no later event, and nobody's erasure has begun since."""
        if {target.key for target in reading.targets} != positions.keys():
            return False
        parameters = {"job": erasure.job, "head": reading.head, "erasures": reading.erasures}
        return (await fetch_all(conn, _HOLDS, parameters)) == [(True,)]

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


async def _bind_rewrites(targets: Iterable[Target]) -> dict[GenerationKey, BoundStatement]:
    rewrites = {}
    for target in targets:
        if target.event_rows:
            rewrites[target.key] = bind_rewrite(target)
            await asyncio.sleep(0)
    return rewrites


async def _keep_applied(
    conn: Conn, targets: Iterable[Target], positions: Mapping[GenerationKey, int]
) -> bool:
    """Leave out the rows of events that the generations have not applied, or that follow the one from which a
    stream is parked. Returns whether there were any."""
    streams = list({each.stream for target in targets for each in target.event_rows})
    parked: dict[tuple[GenerationKey, str], int] = {
        (GenerationKey(name, generation), stream): position
        for name, generation, stream, position in await fetch_all(conn, _PARKED, {"streams": streams})
    }
    left_out = False
    for target in targets:
        upto, count = positions[target.key], len(target.event_rows)
        target.event_rows = [each for each in target.event_rows if each.position <= upto]
        if parked:
            target.event_rows = [
                each
                for each in target.event_rows
                if each.position < parked.get((target.key, each.stream), upto + 1)
            ]
        left_out = left_out or len(target.event_rows) < count
    return left_out
