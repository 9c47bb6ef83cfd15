"""Read aggregates as of a moment of the past: folded from the log up to a position, whatever is cached.

Concurrent reads share one statement, which finds the moments' positions as well. A version of an aggregate
never changes: so states that were folded before are kept, and a read folds only what follows the newest one
that the moment has. An object with many versions is folded once from its start, then from the state before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.errors import UnreadableRecord
from ledger.keys.erasure_watch import LeasedCache
from ledger.postgres.connections import Conn, ReconnectingConnection
from ledger.store.batching import BatchQueue, Pending
from ledger.store.codec import Codec, evolve_stored
from ledger.store.log import PLANNER_SETTINGS, READ_BATCH_MAX, READ_QUEUE_MAX, StreamReader
from ledger.store.positions import LAST_POSITION
from ledger.store.replication.replica import Reads, Replica
from ledger.store.seals.records import Record

CACHED_STREAMS_MAX = 512
STATES_PER_STREAM_MAX = 64
KEPT_EVERY_VERSIONS = 200
"""While a long stream is folded, the state is kept after so many versions."""

# OFFSET 0 makes the position of each moment be found once, not wherever it is used. The events after the
# newest cached version that the moment has, if any; else all up to the moment.
_EVENTS_AT_MOMENTS = f"""
SELECT asked.n, asked.high, moment.position, moment.recorded_at, base.version,
       e.originator_version, e.topic, e.state, e.account, e.livemode
FROM (
    SELECT wanted.n, wanted.s, wanted.v, wanted.p, wanted.u AS until, 0::bigint AS low, h.position AS high
    FROM json_to_recordset(%s::json) AS wanted(n integer, s text, v integer[], p bigint, u timestamptz)
    CROSS JOIN ledger.head h
) asked
CROSS JOIN LATERAL (
    SELECT CASE WHEN asked.p IS NOT NULL THEN asked.p WHEN asked.until IS NULL THEN asked.high
                ELSE ({LAST_POSITION}) END AS position,
           (SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.events
            WHERE notification_id = asked.p) AS recorded_at
    OFFSET 0
) moment
CROSS JOIN LATERAL (
    SELECT coalesce(max(k.originator_version), 0) AS version FROM ledger.events k
    WHERE k.originator_id = asked.s AND k.originator_version = ANY (asked.v)
    AND k.notification_id <= moment.position
) base
LEFT JOIN ledger.events e ON e.originator_id = asked.s AND e.originator_version > base.version
    AND e.notification_id <= moment.position
ORDER BY asked.n, e.originator_version
"""  # noqa: S608 (constants)


class PastRead(NamedTuple):
    """What to read: the aggregate `stream` after the event at `position`, or after the last one recorded
    before `until`, or now.

    opened  whether with personal data; else as if it had been erased
    """

    stream: str
    opened: bool
    position: int | None = None
    until: datetime | None = None


class PastState(NamedTuple):
    """The answer to a `PastRead`.

    head         the last position of the log
    position     that of the moment; for one behind the head, the state is that of the head
    recorded_at  unix seconds: when the event at the asked position was recorded; 0 if none was asked for
    state        None when the stream had no event by then
    """

    head: int
    position: int
    recorded_at: float
    state: State | None


Codecs = Mapping[bool, Codec]
"""What decodes some records, opened or not."""


class PastStreams:
    """Reads aggregates as of moments, and keeps up to STATES_PER_STREAM_MAX states of each of the
    CACHED_STREAMS_MAX streams used most recently."""

    def __init__(self, dsn: str, codec: Codec, streams: StreamReader, replica: Replica | None = None) -> None:
        self._codecs: Codecs = {True: codec, False: codec.without_personal_data()}
        self._streams = streams
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="past_streams", settings=PLANNER_SETTINGS
        )
        self._reads = Reads(self._connection, replica)
        # By stream and `opened`: states by version.
        self._cache: LeasedCache[tuple[str, bool], dict[int, State]] = LeasedCache(
            CACHED_STREAMS_MAX, codec.data_keys.watch
        )
        self.forget_all = self._cache.clear
        """Forget what the database may have lost: reads under way do not go on with it."""
        self.complete = self._cache.complete
        """What a read returns that takes kept states: it runs again if they were forgotten meanwhile."""
        self._queue: BatchQueue[PastRead, PastState] = BatchQueue(
            self._read_batch, batch_max=READ_BATCH_MAX, queue_max=READ_QUEUE_MAX
        )

    async def start(self) -> None:
        """Begin to process reads."""
        self._queue.start("past streams")

    async def close(self) -> None:
        """Finish the pending reads, then stop."""
        await self._queue.close()
        await self._connection.drop()

    async def read(self, asked: PastRead) -> PastState:
        """The aggregate as of a moment. Raises Unavailable, and UnreadableRecord when one of its events until
        then cannot be read."""
        return await self._queue.submit(asked)

    def get_cached(self, stream: str, *, opened: bool, version_max: int) -> State | None:
        """The newest state that is kept of a version up to `version_max`; None if there is none."""
        states = self._get_states(stream, opened)
        versions = [version for version in states if version <= version_max]
        return states[max(versions)] if versions else None

    def keep(self, state: State, *, opened: bool) -> None:
        """Keep a state for later reads."""
        states = self._cache.get((state.id, opened))
        if states is None:
            states = {}
            self._cache.put((state.id, opened), states)
        states.pop(state.version, None)
        states[state.version] = state
        if len(states) > STATES_PER_STREAM_MAX:
            del states[next(iter(states))]

    def _get_states(self, stream: str, opened: bool) -> Mapping[int, State]:
        states = self._cache.get((stream, opened)) or {}
        newest = self._streams.get_cached(stream) if opened else None
        return states if newest is None else {**states, newest.version: newest}

    async def _read_batch(self, batch: list[Pending[PastRead, PastState]]) -> None:
        kept: list[Mapping[int, State]] = []

        async def fetch(conn: Conn, asked: str) -> tuple[list[TupleRow], Codecs]:
            rows = await _fetch_events(conn, asked)
            records = [
                (item.stream, *row[5:8])
                for row in rows
                if row[5] is not None and (item := batch[row[0]].item).opened
            ]
            return rows, await self.prepare(conn, records)

        async def fetch_rest() -> tuple[list[TupleRow], Codecs]:
            kept[:] = [self._get_states(pending.item.stream, pending.item.opened) for pending in batch]
            asked = [
                {"n": n, "s": item.stream, "v": list(kept[n]), "p": item.position, "u": item.until}
                for n, (item, _) in enumerate(batch)
            ]
            encoded = msgspec.json.encode(asked).decode()
            return await self._reads.run_idempotent(lambda conn: fetch(conn, encoded))

        rows, codecs = await self._cache.complete(fetch_rest)
        for n, group in groupby(rows, key=itemgetter(0)):
            pending = batch[n]
            if pending.future.done():
                continue
            try:
                pending.future.set_result(self._fold(codecs, pending.item, kept[n], list(group)))
            except UnreadableRecord as error:
                pending.future.set_exception(error)

    def _fold(
        self, codecs: Codecs, item: PastRead, kept: Mapping[int, State], rows: Sequence[TupleRow]
    ) -> PastState:
        _, head, position, recorded_at, base, *first = rows[0]
        state = kept[base] if base else None
        if first[0] is not None:
            try:
                for row in rows:
                    state, _ = self.evolve(codecs, item.stream, row[5:8], state, opened=item.opened)
            except UnreadableRecord as error:
                error.owner = (first[3], first[4])
                raise
            assert state is not None, "there is at least one event"
            self.keep(state, opened=item.opened)
        return PastState(head, position, recorded_at or 0.0, state)

    async def prepare(self, conn: Conn, records: Iterable[Record]) -> Codecs:
        """What decodes these records, both with personal data and without. Raises psycopg.Error."""
        return {**self._codecs, True: await self._codecs[True].prepare(conn, records)}

    def evolve(
        self, codecs: Codecs, stream: str, row: Sequence[Any], state: State | None, *, opened: bool
    ) -> tuple[State, DomainEvent]:
        """The state after `row` (version, topic, stored bytes), which follows `state`, and its event. Keeps
        some of the states of a long stream. Raises UnreadableRecord."""
        version, topic, stored = row
        event = codecs[opened].decode_event(stream, version, topic, stored)
        state = evolve_stored(state, event)
        if version % KEPT_EVERY_VERSIONS == 0:
            self.keep(state, opened=opened)
        return state, event


async def _fetch_events(conn: Conn, asked: str) -> list[TupleRow]:
    cur = conn.cursor(binary=True)
    await cur.execute(_EVENTS_AT_MOMENTS.encode(), (asked,))
    return await cur.fetchall()
