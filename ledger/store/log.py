"""Read the log: streams folded to aggregates, and recorded events in position order.

`StreamReader.read` is exact: it asks the database for the events after the state it has cached, so it sees
every commit of every process made before the call. `StreamReader.get_cached` reads the cache alone, for
commands that pass the versions they relied on to the journal. Concurrent reads share one statement. A record
that cannot be read fails only reads of its own stream: readers of many go on past it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.errors import UnreadableRecord
from ledger.keys.data_keys import Keyring
from ledger.keys.erasure_watch import LeasedCache
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.pipelines import BoundStatement, bind
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.batching import BatchQueue, Pending
from ledger.store.codec import Codec, UnreadableEvent, fold
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.notifications import HeadNotifier

READ_BATCH_MAX = 256
READ_QUEUE_MAX = 10_000
# Rows decoded before the event loop gets its turn: one or two milliseconds.
SLICE_ROWS = 256

# Nested loops over the unique index whatever the statistics say: a plan made for an empty table is kept.
# Postgres before 18 counts a disabled plan node as a huge cost: without jit=off it would compile each append,
# for 0.8 s.
PLANNER_SETTINGS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

# The columns in the order in which `_to_recorded` takes them.
_SELECT_RECORDED = """
SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state, e.account, e.livemode,
       e.actor, e.request_id, e.idempotency_key, e.causation, extract(epoch FROM e.recorded_at)::float8
"""

_EVENTS_AFTER_VERSIONS = parse_statement(f"""
SELECT e.originator_id, e.originator_version, e.topic, e.state, e.notification_id,
       (SELECT {WAITS_FOR_STANDBYS})
FROM json_to_recordset(%(known)s::json) AS known(s text, v integer)
JOIN ledger.events e ON e.originator_id = known.s AND e.originator_version > known.v
ORDER BY e.originator_id, e.originator_version
""")  # noqa: S608 (a constant)

_TAIL = f"""
{_SELECT_RECORDED}
FROM ledger.events e
WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND topic <> ALL (%(without)s::text[])
ORDER BY notification_id
"""

# By stream, along the index of stream versions: so a reader gets each stream as a whole.
_STREAMS = f"""
{_SELECT_RECORDED}
FROM ledger.events e
WHERE originator_id > %(after)s AND notification_id <= %(upto)s AND topic <> ALL (%(without)s::text[])
AND (hashtext(originator_id) & 2147483647) %% %(shares)s = %(share)s
AND (%(since)s = 0 OR EXISTS (
    SELECT FROM ledger.events late
    WHERE late.originator_id = e.originator_id AND late.notification_id > %(since)s))
ORDER BY originator_id, originator_version
LIMIT %(limit)s
"""

_HISTORY = f"""
{_SELECT_RECORDED}
FROM ledger.events e
WHERE originator_id = %(stream)s AND notification_id <= %(upto)s
ORDER BY originator_version
"""

_HISTORIES = f"""
{_SELECT_RECORDED}
FROM ledger.events e
WHERE originator_id = ANY (%(streams)s::text[]) AND notification_id <= %(upto)s
ORDER BY originator_id, originator_version
"""

_EVENT_AND_PREVIOUS = f"""
{_SELECT_RECORDED}
FROM ledger.events e
WHERE originator_id = %(stream)s AND originator_version BETWEEN %(before)s AND %(version)s
ORDER BY originator_version
"""

# OFFSET 0 and `+ 0`: stream by stream along their index, never a join with the log up to a position.
_EVENTS_UPTO = """
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM json_array_elements_text(%(streams)s::json) AS wanted(s)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.events WHERE originator_id = wanted.s AND notification_id + 0 <= %(upto)s OFFSET 0) e
ORDER BY e.originator_id, e.originator_version
"""

# The condition on `state` is that of the index events_movement.
_HISTORY_OF_TRANSACTION = f"""
{_SELECT_RECORDED}
FROM ledger.events made
JOIN ledger.events e
    ON e.originator_id = made.originator_id AND e.originator_version <= made.originator_version
WHERE ledger.movement_id(made.state) = %(id)s AND position('"movement":{{'::bytea IN made.state) > 0
ORDER BY e.originator_version
"""

_FIRST_TOPICS = """
SELECT originator_id, topic FROM ledger.events
WHERE originator_id = ANY (%(streams)s::text[]) AND originator_version = 1
"""

_OWNERS = parse_statement("""
SELECT originator_id, account, livemode FROM ledger.events
WHERE originator_id = ANY (%(streams)s::text[]) AND originator_version = 1
""")


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A domain event with its position in the log and what caused it.

    `recorded_at` is in unix seconds and never decreases with `position`. An event that was not caused by an
    API request (but by the time, a network fact or a test outcome) has no `request_id`; its `causation` is an
    event (`stream/version`), `network:reference` or `clock`. That of a request is the Event to which its
    caller reacted (`event:id`), or None.
    """

    position: int
    event: DomainEvent
    account: str
    livemode: bool
    actor: str | None
    request_id: str | None
    idempotency_key: str | None
    causation: str | None
    recorded_at: float


async def read_log(
    conn: Conn,
    codec: Codec,
    after: int,
    limit: int,
    *,
    ignored_topics: Sequence[str] = (),
) -> list[Recorded]:
    """The events at the `limit` positions after `after`, in order: positions have no holes. An
    `UnreadableEvent` stands for each record that cannot be read.

    Events of `ignored_topics` are not read. It is a deny list, so that an event of a topic that this release
    does not know is noticed, not skipped.
    """
    bindings = {"after": after, "upto": after + limit, "without": list(ignored_topics)}
    return await decode_log(conn, codec, await _fetch(conn, _TAIL, bindings))


def build_log_query(after: int, upto: int, *, ignored_topics: Sequence[str] = ()) -> BoundStatement:
    """The statement of `read_log` up to the position `upto`; `decode_log` decodes its rows."""
    bindings = {"after": after, "upto": upto, "without": list(ignored_topics)}
    return bind(parse_statement(_TAIL), bindings)


async def read_streams(
    conn: Conn,
    codec: Codec,
    after: str,
    *,
    upto: int,
    changed_after: int = 0,
    shard: int = 0,
    shard_count: int = 1,
    limit: int,
    ignored_topics: Sequence[str] = (),
) -> tuple[list[Recorded], bool]:
    """The next whole streams, ordered by id, after the stream `after`, as of position `upto`. About `limit`
    events; more only when a single stream has more. Returns the events and whether the end was reached. An
    `UnreadableEvent` stands for each record that cannot be read.

    shard, shard_count  only the streams of this shard, 0 to `shard_count - 1`; ids are spread over them
    changed_after       only streams with an event after this position
    ignored_topics      as for `read_log`
    """
    parameters = {
        "after": after, "upto": upto, "since": changed_after, "share": shard,
        "shares": shard_count, "limit": limit,
        "without": list(ignored_topics),
    }  # fmt: skip
    rows = await _fetch(conn, _STREAMS, parameters)
    if len(rows) < limit:
        return await decode_log(conn, codec, rows), True
    first, last = rows[0][1], rows[-1][1]
    if first == last:
        return await read_stream(conn, codec, first, upto=upto), False
    return await decode_log(conn, codec, [row for row in rows if row[1] != last]), False


async def read_stream(conn: Conn, codec: Codec, stream: str, *, upto: int = 2**63 - 1) -> list[Recorded]:
    """All events of one stream up to position `upto`, oldest first. An `UnreadableEvent` stands for each
    record that cannot be read."""
    return await decode_log(conn, codec, await _fetch(conn, _HISTORY, {"stream": stream, "upto": upto}))


async def read_whole_streams(
    conn: Conn, codec: Codec, streams: Sequence[str], *, upto: int
) -> list[Recorded]:
    """All events of some streams up to position `upto`, stream by stream, as from `read_stream`."""
    rows = await _fetch(conn, _HISTORIES, {"streams": list(streams), "upto": upto})
    return await decode_log(conn, codec, rows)


async def read_event_and_previous(conn: Conn, codec: Codec, stream: str, version: int) -> list[Recorded]:
    """The event of one stream at `version`, and before it the previous one, if there is one. Raises
    UnreadableRecord."""
    bindings = {"stream": stream, "before": version - 1, "version": version}
    return await _decode_all(conn, codec, await _fetch(conn, _EVENT_AND_PREVIOUS, bindings))


async def read_history_of_transaction(conn: Conn, codec: Codec, transaction_id: str) -> list[Recorded]:
    """The stream of the balance transaction, oldest event first, up to and including the event that created
    the transaction; [] when there is no such transaction. Raises UnreadableRecord."""
    return await _decode_all(conn, codec, await _fetch(conn, _HISTORY_OF_TRANSACTION, {"id": transaction_id}))


async def read_states_at(
    conn: Conn, codec: Codec, streams: Iterable[str], upto: int
) -> tuple[dict[str, State], dict[str, UnreadableRecord]]:
    """The aggregates as of position `upto`, and why others cannot be read; both by stream id. A stream
    without events by then is absent."""
    bindings = {"streams": msgspec.json.encode(list(streams)).decode(), "upto": upto}
    rows = await _fetch(conn, _EVENTS_UPTO, bindings)
    return decode_states(await codec.prepare(conn, rows), rows)


class StreamReader:
    """Reads aggregates by stream id, and caches the `cached_streams_max` most recently used ones: not what no
    standby may have (`notifier` knows), and nothing beyond its connection: another server may follow."""

    def __init__(self, dsn: str, codec: Codec, notifier: HeadNotifier, *, cached_streams_max: int) -> None:
        self._codec = codec
        self._notifier = notifier
        settings = PLANNER_SETTINGS
        self.source = StatementPool(dsn, "ledger_api", name="streams", settings=settings, connections_max=1)
        """Where it reads; others may read little there."""
        self._cache: LeasedCache[str, State] = LeasedCache(cached_streams_max, codec.data_keys.watch)
        self._connections_seen = 0
        self.forget_all = self._cache.clear
        self._queue: BatchQueue[str, State | None] = BatchQueue(
            self._read_batch, batch_max=READ_BATCH_MAX, queue_max=READ_QUEUE_MAX
        )

    async def start(self) -> None:
        """Begin to process reads."""
        self._queue.start("streams")

    async def close(self) -> None:
        """Finish the pending reads, then stop."""
        await self._queue.close()
        await self.source.close()

    def read(self, stream: str) -> asyncio.Future[State | None]:
        """The aggregate as of now, exactly; None when the stream has no events. Raises Unavailable, and
        UnreadableRecord when one of its events cannot be read."""
        return self._queue.submit(stream)

    async def read_events(self, streams: Sequence[str]) -> list[DomainEvent]:
        """All events of the streams, in the order of each stream. Raises Unavailable and UnreadableRecord."""
        records = [row[:4] for row in await self._fetch_after(dict.fromkeys(streams, 0))]
        codec = await self._codec.prepare(self.source, records)
        return [codec.decode_event(*record) for record in records]

    def get_cached(self, stream: str) -> State | None:
        """The aggregate as this process last saw it, perhaps outdated; None when it is not cached."""
        return self._cache.get(stream)

    def update_cache(self, state: State) -> None:
        """Cache a newer state of its stream; ignores one that is older than the cached state."""
        cached = self._cache.get(state.id)
        if cached is None or cached.version < state.version:
            self._cache.put(state.id, state)

    async def _read_batch(self, batch: list[Pending[str, State | None]]) -> None:
        states: dict[str, State | None] = {}

        async def fetch_rest() -> tuple[list[TupleRow], Codec]:
            states.update((pending.item, self._cache.get(pending.item)) for pending in batch)
            rows = await self._fetch_after({stream: s.version if s else 0 for stream, s in states.items()})
            before, self._connections_seen = self._connections_seen, self.source.opened_count
            if before not in (0, self._connections_seen):
                self._cache.clear()  # it is read again, without what was cached
            return rows, await self._codec.prepare(self.source, [row[:4] for row in rows])

        rows, codec = await self._cache.complete(fetch_rest)
        folded, failures = decode_states(codec, [row[:4] for row in rows], states)
        unconfirmed = {row[0]: row[4] for row in rows if row[5]}
        for stream, state in folded.items():
            if unconfirmed.get(stream, 0) <= self._notifier.acknowledged_position:
                self.update_cache(state)
        states |= folded
        if failures:
            for stream, *owner in await self.source.fetch(_OWNERS, {"streams": list(failures)}):
                failures[stream].owner = (owner[0], owner[1])
        for pending in batch:
            if pending.future.done():
                continue
            if (failure := failures.get(pending.item)) is not None:
                pending.future.set_exception(failure)
            else:
                pending.future.set_result(states[pending.item])

    async def _fetch_after(self, versions: Mapping[str, int]) -> list[TupleRow]:
        """The events after these versions of streams. Raises Unavailable."""
        known = msgspec.json.encode([{"s": stream, "v": version} for stream, version in versions.items()])
        return await self.source.fetch(_EVENTS_AFTER_VERSIONS, {"known": known.decode()})


async def _fetch(conn: Conn, query: str, bindings: Mapping[str, Any]) -> list[TupleRow]:
    cur = await conn.cursor(binary=True).execute(query.encode(), bindings)
    return await cur.fetchall()


def decode_states(
    codec: Codec, rows: Iterable[Sequence[Any]], states: Mapping[str, State | None] = {}
) -> tuple[dict[str, State], dict[str, UnreadableRecord]]:
    """The aggregates after `rows`, which follow `states`, and why others cannot be read; by stream."""
    folded: dict[str, State] = {}
    failures: dict[str, UnreadableRecord] = {}
    for stream, group in groupby(rows, key=itemgetter(0)):
        try:
            state = fold((codec.decode_event(*row) for row in group), states.get(stream))
        except UnreadableRecord as error:
            failures[stream] = error
        else:
            assert state is not None, "a group has at least one event"
            folded[stream] = state
    return folded, failures


async def _decode_all(conn: Conn, codec: Codec, rows: Sequence[TupleRow]) -> list[Recorded]:
    codec = await codec.prepare(conn, [row[1:5] for row in rows])
    return [_to_recorded(codec, row) for row in rows]


def _to_recorded(codec: Codec, row: tuple[Any, ...]) -> Recorded:
    return Recorded(row[0], codec.decode_event(*row[1:5]), *row[5:])


async def decode_log(conn: Conn, codec: Codec, rows: Sequence[TupleRow]) -> list[Recorded]:
    """The recorded events of rows of the log; an `UnreadableEvent` for each record that cannot be read."""
    return (await decode_with_keys(conn, codec, rows))[0]


async def decode_with_keys(
    conn: Conn, codec: Codec, rows: Sequence[TupleRow]
) -> tuple[list[Recorded], Keyring]:
    """As `decode_log`, and the keys that opened the rows."""
    recorded: list[Recorded] = []
    codec = await codec.prepare(conn, [row[1:5] for row in rows])
    try:
        for start in range(0, len(rows), SLICE_ROWS):
            recorded += [_to_recorded(codec, row) for row in rows[start : start + SLICE_ROWS]]
            await asyncio.sleep(0)
    except UnreadableRecord:
        streams = list({row[1] for row in rows})
        first_topics: dict[str, str] = dict(await fetch_all(conn, _FIRST_TOPICS, {"streams": streams}))
        recorded = [_to_recorded_or_unreadable(codec, row, first_topics) for row in rows]
    return recorded, codec.keyring


def _to_recorded_or_unreadable(
    codec: Codec, row: tuple[Any, ...], first_topics: Mapping[str, str]
) -> Recorded:
    try:
        return _to_recorded(codec, row)
    except UnreadableRecord as error:
        position, stream, version, _, _, *rest = row
        first_topic = first_topics.get(stream, error.topic)
        event = UnreadableEvent(
            originator_id=stream, originator_version=version, at=0, error=error, first_topic=first_topic
        )
        return Recorded(position, event, *rest)
