"""Verification: compare the live rows of a projection with a replay of the log, as of one position.

All of it reads one snapshot: the position is that of the live generation's checkpoint, the log is read up to
it stream by stream, and the rows that each stream makes are compared with the live rows. A full check also
finds rows that no event accounts for; a sample checks some streams, at a bounded cost. Nothing is locked. A
parked stream is compared as of the position at which it was parked. A stream that cannot be read otherwise is
left out, and reported; one that is being erased is left out until its rows are those of its redacted events.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from ledger.clock import Clock
from ledger.logs import describe_error
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, connect, fetch_all, fetch_one
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS, Recorded, read_stream, read_streams
from projections.engine import partitions
from projections.engine.batch import BatchFold, Target, ignored_topics
from projections.projection import ParkedStream, Projection
from projections.rebuild.comparison import compared_columns, digest
from projections.stored_rows import RowReader, are_equal

KEYS_SHOWN_MAX = 20
# The keys of differing rows are stored, so that a row counts once however often a sample draws it.
KEYS_KEPT_MAX = 1000
PAGE_EVENTS = 1000
SLICE_EVENTS = 64
# A sample reads streams of at most so many events, and of all streams together so many events for each
# stream that the caller wants.
SAMPLE_STREAM_EVENTS_MAX = 1000
SAMPLE_EVENTS_PER_STREAM = 200
# Where the event at a drawn position is not the projection's, the next one within so many positions is taken.
SAMPLE_WINDOW_EVENTS = 200
SAMPLE_BLOCKS = 64
# What is stored of a result is of use only to the metrics.
_SETTINGS = PLANNER_SETTINGS | LOCAL_COMMITS | {"enable_bitmapscan": "off", "enable_sort": "off"}

_SELECT_LIVE = """
SELECT l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s AND c.shape = %(shape)s
"""
_SELECT_PARKED = """
SELECT stream, position FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s ORDER BY position, stream
"""
# From the request on: the rows of its subjects are closed then, and written again by one of its steps.
_ERASES = """
SELECT EXISTS (SELECT FROM ledger.erasures WHERE ended_at IS NULL) OR EXISTS (
    SELECT FROM projections.redaction_jobs j WHERE j.status = 'redacting')
"""
_ERASED_STREAMS = """
SELECT DISTINCT s.stream FROM ledger.erasures e JOIN ledger.erasure_streams s ON s.job = e.job
WHERE e.ended_at IS NULL AND s.stream = ANY (%(streams)s::text[])
"""
_SELECT_ROWS = "SELECT {columns} FROM {generation} WHERE generation = {number} AND {key} = ANY (%(keys)s)"
_CREATE_EXPECTED = "CREATE TEMPORARY TABLE expected (key text PRIMARY KEY) ON COMMIT DROP"
_COPY_EXPECTED = "COPY expected FROM STDIN (FORMAT BINARY)"
_SELECT_STRAY = """
SELECT {key}::text FROM {generation} live
WHERE {within} AND NOT EXISTS (SELECT FROM expected WHERE expected.key = live.{key}::text)
AND NOT EXISTS (SELECT FROM ledger.events e
                WHERE e.notification_id = live.position AND e.originator_id = ANY (%(left_out)s::text[]))
LIMIT {limit}
"""
# The rows of a stream that is left out are not expected, but not stray: `position` is that of an event of it.
# Draws events: busy streams are likelier, and streams whose rows are missing are found too.
_SAMPLE_BY_EVENTS = """
SELECT DISTINCT next.originator_id
FROM unnest(%(positions)s::bigint[]) AS drawn(position)
CROSS JOIN LATERAL (
    SELECT originator_id FROM ledger.events e
    WHERE e.notification_id BETWEEN drawn.position AND drawn.position + %(window)s
    AND e.notification_id <= %(upto)s AND e.topic <> ALL (%(without)s::text[])
    ORDER BY e.notification_id LIMIT 1) AS next
WHERE NOT EXISTS (
    SELECT FROM ledger.events longer
    WHERE longer.originator_id = next.originator_id AND longer.originator_version = %(length)s + 1)
"""
# Draws rows: drawn positions rarely hit a projection that is small beside the log.
_SAMPLE_BY_ROWS = """
SELECT DISTINCT e.originator_id
FROM (SELECT position FROM {generation} TABLESAMPLE SYSTEM (%(percent)s::real) WHERE {within}
      ORDER BY random() LIMIT %(count)s) AS drawn
JOIN ledger.events e ON e.notification_id = drawn.position
WHERE e.topic <> ALL (%(without)s::text[]) AND NOT EXISTS (
    SELECT FROM ledger.events longer
    WHERE longer.originator_id = e.originator_id AND longer.originator_version = %(length)s + 1)
"""
_COUNT_BLOCKS = """
SELECT greatest(1, sum(pg_relation_size(relid)) / current_setting('block_size')::integer)::float8
FROM pg_partition_tree(%(generation)s::regclass)
"""
# A row that another sample finds again counts once. At most KEYS_KEPT_MAX keys are kept, which bounds the
# count.
_UPSERT_VERIFIED = """
INSERT INTO projections.verified AS v (projection, generation, position, rows, differing, keys)
VALUES (%(projection)s, %(generation)s, %(position)s, %(rows)s, %(differing)s, %(keys)s)
ON CONFLICT ON CONSTRAINT verified_key DO UPDATE
SET (position, checked_at, rows, differing, keys) = (
    SELECT excluded.position, now(), excluded.rows,
           CASE WHEN %(sampled)s THEN greatest(v.differing, cardinality(known)) ELSE excluded.differing END,
           known
    FROM (SELECT CASE WHEN %(sampled)s
                 THEN ARRAY(SELECT DISTINCT key FROM unnest(v.keys || excluded.keys) AS key
                            ORDER BY key LIMIT %(kept)s)
                 ELSE excluded.keys END AS known) AS found)
"""


@dataclass(slots=True)
class Verification:
    """The result of verifying a projection's live generation at `position`; both are None when this release
    cannot read it.

    rows       rows compared
    differing  rows that differ, are missing, or should not be there; `keys` are the first KEYS_KEPT_MAX
    parked     parked streams, compared as of where they were parked; `parked_streams` has the position of the
               first KEYS_KEPT_MAX
    left_out   streams that are not parked, but have a record that cannot be read: their rows are not compared
    digest     digest of all rows, of a full check
    error      why it could not be verified, without personal data
    """

    projection: str
    generation: int | None = None
    position: int | None = None
    rows: int = 0
    differing: int = 0
    parked: int = 0
    digest: str | None = None
    error: str | None = None
    keys: list[str] = field(default_factory=list)
    parked_streams: dict[str, int] = field(default_factory=dict)
    left_out: list[ParkedStream] = field(default_factory=list)

    @property
    def is_success(self) -> bool:
        """Whether everything that is not parked was compared, and is equal."""
        return not self.differing and not self.left_out and self.error is None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        left_out = [
            {"stream": each.stream, "position": each.position, "topic": each.topic, "reason": each.reason}
            for each in self.left_out
        ]
        return {**asdict(self), "left_out": left_out}

    def add_difference(self, key: str) -> None:
        """Count a differing row and keep its key."""
        self.differing += 1
        if len(self.keys) < KEYS_KEPT_MAX:
            self.keys.append(key)


async def verify(
    dsn: str, codec: Codec, clock: Clock, projections: Iterable[Projection], *, sample: int | None = None
) -> list[Verification]:
    """Verify each projection whose live generation has this release's shape, and store the result for the
    metrics; the others are missing from the results. One that fails says why and does not stop the others.

    sample  number of streams to check, chosen at random; None checks all

    Raises psycopg.OperationalError.
    """
    results = []
    for projection in projections:
        conn = await connect(
            dsn, "ledger_projector", name="verify", settings=_SETTINGS, answer_seconds=LONG_ANSWER_SECONDS
        )
        async with conn:
            await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await clock.refresh(conn)
            async with conn.transaction():
                parameters = {"projection": projection.name, "shape": projection.shape}
                row = await fetch_one(conn, _SELECT_LIVE, parameters)
                if row is None:
                    continue
                result = Verification(projection.name, *row)
                results.append(result)
                try:
                    async with conn.transaction():
                        await _ProjectionCheck(conn, codec, clock, projection, result).run(sample)
                except psycopg.OperationalError:
                    raise
                except Exception as error:  # reported with the projection
                    result.error = describe_error(error)
                    continue
            # Outside the snapshot: its transaction is over, and an UPDATE in it could fail to serialize.
            await conn.set_isolation_level(None)
            keep_parameters = {"sampled": sample is not None, "kept": KEYS_KEPT_MAX}
            await conn.execute(_UPSERT_VERIFIED, result.to_json() | keep_parameters)
    return results


class _ProjectionCheck:
    """Checks one live generation within one snapshot, and adds what it finds to `result`."""

    def __init__(
        self,
        conn: Conn,
        codec: Codec,
        clock: Clock,
        projection: Projection,
        result: Verification,
    ) -> None:
        assert result.generation is not None
        assert result.position is not None
        self._conn = conn
        self._codec = codec
        self._reader = RowReader(codec)
        self._projection = projection
        self._result = result
        self._generation = result.generation
        self._position = result.position
        self._since = partitions.get_retention_start(clock.now(), projection.retention_days)
        self._ignored_topics = ignored_topics([self._make_target()])
        self._erases = False
        self._being_erased: set[str] = set()

    async def run(self, sample: int | None) -> None:
        """Check `sample` streams, or all of them and the rows that no stream makes."""
        row = await fetch_one(self._conn, _ERASES)
        self._erases = row is not None and row[0]
        parked = await self._load_parked()
        self._result.parked = len(parked)
        self._result.parked_streams = dict(islice(parked.items(), KEYS_KEPT_MAX))
        if sample is not None:
            await self._check_sample(sample, parked)
            return
        await self._conn.execute(_CREATE_EXPECTED)
        stream, done = "", False
        while not done:
            recorded, done = await read_streams(
                self._conn, self._codec, stream, upto=self._position, limit=PAGE_EVENTS,
                ignored_topics=self._ignored_topics,
            )  # fmt: skip
            keys = await self._check_page(recorded, parked)
            async with self._conn.cursor() as cur, cur.copy(_COPY_EXPECTED) as copy:
                copy.set_types(["text"])
                for key in keys:
                    await copy.write_row((str(key),))
            if recorded:
                stream = recorded[-1].event.originator_id
        left_out_streams = [*self._being_erased, *(each.stream for each in self._result.left_out)]
        for row in await fetch_all(self._conn, self._stray_rows_query(), {"left_out": left_out_streams}):
            self._result.add_difference(row[0])
        full_digest = await digest(self._conn, self._projection, self._generation, int(self._since))
        self._result.digest = full_digest.sum

    async def _check_sample(self, count: int, parked: Mapping[str, int]) -> None:
        events_left = count * SAMPLE_EVENTS_PER_STREAM
        for stream in await self._choose_streams(count):
            recorded = await read_stream(self._conn, self._codec, stream, upto=self._position)
            await self._check_page(recorded, parked)
            events_left -= len(recorded)
            if events_left <= 0:
                return

    def _make_target(self) -> Target:
        return Target(self._projection, self._generation, self._since)

    async def _load_parked(self) -> dict[str, int]:
        """The position from which on each parked stream is not applied."""
        parameters = {"projection": self._projection.name, "generation": self._generation}
        return dict(await fetch_all(self._conn, _SELECT_PARKED, parameters))

    async def _choose_streams(self, count: int) -> list[str]:
        """At most `count` streams chosen at random, in random order."""
        upto = self._position
        if not upto:
            return []
        parameters = {"upto": upto, "without": self._ignored_topics, "length": SAMPLE_STREAM_EVENTS_MAX}
        positions = [random.randint(1, upto) for _ in range(count)]  # noqa: S311
        by_events = {"positions": positions, "window": SAMPLE_WINDOW_EVENTS}
        candidates = [
            row[0] for row in await fetch_all(self._conn, _SAMPLE_BY_EVENTS, parameters | by_events)
        ]
        if len(candidates) < count:
            table_parameters = {"generation": self._table().as_string()}
            row = await fetch_one(self._conn, _COUNT_BLOCKS, table_parameters)
            assert row is not None
            by_rows = {"percent": min(100.0, 100.0 * SAMPLE_BLOCKS / row[0]), "count": count}
            cur = await self._conn.execute(self._sample_by_rows_query(), parameters | by_rows)
            candidates += [row[0] for row in await cur.fetchall()]
        chosen_streams = list(dict.fromkeys(candidates))[:count]
        random.shuffle(chosen_streams)
        return chosen_streams

    async def _check_page(self, recorded: Sequence[Recorded], parked: Mapping[str, int]) -> list[str | int]:
        """Compare the rows that whole streams make with the live rows; the keys of the rows expected."""
        recorded = [
            item
            for item in recorded
            if (parked_at := parked.get(item.event.originator_id)) is None or item.position < parked_at
        ]
        if self._erases:
            recorded = await self._leave_out_being_erased(recorded)
        target = self._make_target()
        fold = BatchFold([target])
        # In slices: over HTTP, the process answers other requests meanwhile.
        for start in range(0, len(recorded), SLICE_EVENTS):
            fold.apply_events(recorded[start : start + SLICE_EVENTS])
            await asyncio.sleep(0)
        left_out_streams = set()
        for parking in target.newly_parked:
            if parking.is_unreadable:
                self._result.left_out.append(parking)
                left_out_streams.add(parking.stream)
            else:
                self._result.add_difference(parking.stream)
        event_rows = (each for each in target.event_rows if each.stream not in left_out_streams)
        expected = {upsert.row[0]: upsert for upsert in self._projection.collect_upserts(event_rows)}
        cur = self._conn.cursor(binary=True)
        await cur.execute(self._rows_query(), {"keys": list(expected)})
        names = compared_columns(self._projection)
        rows = await self._reader.read(self._conn, self._projection, names, await cur.fetchall())
        actual = {row[names[0]]: row for row in rows}
        for key, upsert in expected.items():
            self._result.rows += 1
            stored = actual.get(key)
            expected_row = self._reader.convert(self._projection, upsert)
            if stored is None or not are_equal(self._projection, stored, expected_row):
                if stored is not None and self._is_being_erased(stored):
                    continue
                self._result.add_difference(str(key))
        return list(expected)

    async def _leave_out_being_erased(self, recorded: Sequence[Recorded]) -> list[Recorded]:
        """Without the streams whose rows an erasure is about to write again: until it knows what of their
        events stays, rows that follow from personal data are expected nowhere, and then they are missing."""
        streams = {item.event.originator_id for item in recorded}
        rows = await fetch_all(self._conn, _ERASED_STREAMS, {"streams": list(streams)})
        found = {stream for (stream,) in rows}
        found |= {item.event.originator_id for item in recorded if item.event.redaction == "processing"}
        self._being_erased |= found
        return [item for item in recorded if item.event.originator_id not in found]

    def _is_being_erased(self, stored: Mapping[str, Any]) -> bool:
        """Whether nobody can open the row any more, and an erasure is about to write it again."""
        return self._erases and any(
            stored[column.name] is None
            for column in self._projection.columns
            if column.sealed and column.type in ("json", "document")
        )

    def _rows_query(self) -> Composed:
        names = compared_columns(self._projection)
        return SQL(_SELECT_ROWS).format(
            columns=SQL(", ").join(map(Identifier, names)),
            generation=self._table(),
            number=self._generation,
            key=Identifier(names[0]),
        )

    def _sample_by_rows_query(self) -> Composed:
        within = partitions.retention_condition(self._projection.retention_days, int(self._since))
        return SQL(_SAMPLE_BY_ROWS).format(generation=self._table(), within=within)

    def _stray_rows_query(self) -> Composed:
        return SQL(_SELECT_STRAY).format(
            key=Identifier(self._projection.columns[0].name),
            generation=self._table(),
            within=partitions.retention_condition(self._projection.retention_days, int(self._since)),
            limit=KEYS_KEPT_MAX,
        )

    def _table(self) -> Identifier:
        return partitions.get_table(self._projection.name, self._generation)
