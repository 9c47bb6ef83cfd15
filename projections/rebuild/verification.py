"""Verifying: the live rows of a view against a replay of the log, both as of one position.

The whole of it happens in one snapshot: the position is that of the live generation's checkpoint, the log is
read up to there stream by stream, and what each stream comes to is compared with the rows that are there. A
full check finds rows that no event accounts for, too; a sample looks at some streams only, at a cost that is
bounded. Nothing is written, nothing is held up. A parked stream is compared as it was when it was parked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier

from ledger.clock import Clock
from ledger.postgres.connections import Conn, connect, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_OPTIONS, Recorded, read_stream, read_streams
from projections.engine import partitions
from projections.engine.batch import BatchFold, Target, ignored_topics
from projections.projection import Projection, describe_error
from projections.rebuild.comparison import digest

KEYS_SHOWN_MAX = 20
# Keys are told apart so that one row that differs counts once, however often it is drawn.
KEYS_KEPT_MAX = 1000
PAGE_EVENTS = 4000
# What a sample reads: streams no longer than this, and of all together so many events a stream asked for.
SAMPLE_STREAM_EVENTS_MAX = 1000
SAMPLE_EVENTS_PER_STREAM = 200
# Where a position drawn holds no event of the view, the next one that does is taken, of so many.
SAMPLE_WINDOW_EVENTS = 200
SAMPLE_BLOCKS = 64
_OPTIONS = f"{PLANNER_OPTIONS} -c enable_bitmapscan=off -c enable_sort=off"

_SELECT_LIVE = """
SELECT l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s AND c.shape = %(shape)s
"""
_SELECT_PARKED = """
SELECT stream, position FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s
"""
_SELECT_ROWS = "SELECT {columns} FROM {generation} WHERE generation = {number} AND {key} = ANY (%(keys)s)"
_CREATE_EXPECTED = "CREATE TEMPORARY TABLE expected (key text PRIMARY KEY) ON COMMIT DROP"
_COPY_EXPECTED = "COPY expected FROM STDIN (FORMAT BINARY)"
_SELECT_STRAY = """
SELECT {key} FROM {generation} live
WHERE {within} AND NOT EXISTS (SELECT FROM expected WHERE expected.key = live.{key}) LIMIT {limit}
"""
# By events, so that a busy stream is likelier: also the view's rows that are not there are found.
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
# By rows: those of a view that is small beside the log are hardly met by its positions.
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
# Found again by a sample, a row is not one more; which of them are known is bounded, and so is the count.
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
    """What came of checking the live generation at `position`.

    rows       compared
    differing  of these, and of rows that should not be there; `keys` are the first few
    parked     streams that the projection leaves out, compared as they were when it began to
    digest     of all rows, of a full check
    error      why it could not be checked, without personal data: an event that cannot be read, a table that
               is not there
    """

    projection: str
    generation: int
    position: int
    rows: int = 0
    differing: int = 0
    parked: int = 0
    digest: str | None = None
    error: str | None = None
    keys: list[str] = field(default_factory=list)

    def add_difference(self, key: str) -> None:
        self.differing += 1
        if len(self.keys) < KEYS_KEPT_MAX:
            self.keys.append(key)


async def verify(
    dsn: str, codec: Codec, clock: Clock, projections: Iterable[Projection], *, sample: int | None = None
) -> list[Verification]:
    """Check each view that is live in the shape this release makes, and keep what came of it: of another
    release's rows it cannot tell. `sample`: about so many streams, chosen by chance; None: all. One that
    cannot be checked says why and costs the others nothing.

    Raises psycopg.OperationalError.
    """
    results = []
    for projection in projections:
        async with await connect(dsn, "ledger_projector", name="verify", options=_OPTIONS) as conn:
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
                except Exception as error:  # told in place of rows
                    result.error = describe_error(error)
                    continue
            # Not in that snapshot: it reads, and it lasts.
            await conn.set_isolation_level(None)
            keep_parameters = {"sampled": sample is not None, "kept": KEYS_KEPT_MAX}
            await conn.execute(_UPSERT_VERIFIED, asdict(result) | keep_parameters)
    return results


class _ProjectionCheck:
    def __init__(
        self,
        conn: Conn,
        codec: Codec,
        clock: Clock,
        projection: Projection,
        result: Verification,
    ) -> None:
        self._conn = conn
        self._codec = codec
        self._projection = projection
        self._result = result
        self._since = partitions.get_retention_start(clock.now(), projection.retention_days)
        self._ignored_topics = ignored_topics([self._make_target()])

    async def run(self, sample: int | None) -> None:
        parked = await self._load_parked()
        self._result.parked = len(parked)
        if sample is not None:
            await self._check_sample(sample, parked)
            return
        await self._conn.execute(_CREATE_EXPECTED)
        stream, done = "", False
        while not done:
            recorded, done = await read_streams(
                self._conn, self._codec, stream, upto=self._result.position, limit=PAGE_EVENTS,
                ignored_topics=self._ignored_topics,
            )  # fmt: skip
            keys = await self._check_page(recorded, parked)
            async with self._conn.cursor() as cur, cur.copy(_COPY_EXPECTED) as copy:
                copy.set_types(["text"])
                for key in keys:
                    await copy.write_row((key,))
            if recorded:
                stream = recorded[-1].event.originator_id
        for row in await (await self._conn.execute(self._stray_rows_query())).fetchall():
            self._result.add_difference(row[0])
        full_digest = await digest(self._conn, self._projection, self._result.generation, int(self._since))
        self._result.digest = full_digest.sum

    async def _check_sample(self, count: int, parked: Mapping[str, int]) -> None:
        events_left = count * SAMPLE_EVENTS_PER_STREAM
        for stream in await self._choose_streams(count):
            recorded = await read_stream(self._conn, self._codec, stream, upto=self._result.position)
            await self._check_page(recorded, parked)
            events_left -= len(recorded)
            if events_left <= 0:
                return

    def _make_target(self) -> Target:
        return Target(self._projection, self._result.generation, self._since)

    async def _load_parked(self) -> dict[str, int]:
        """From which position on streams are left out."""
        parameters = {"projection": self._projection.name, "generation": self._result.generation}
        return dict(await (await self._conn.execute(_SELECT_PARKED, parameters)).fetchall())

    async def _choose_streams(self, count: int) -> list[str]:
        """About so many streams by chance, in no order."""
        upto = self._result.position
        if not upto:
            return []
        parameters = {"upto": upto, "without": self._ignored_topics, "length": SAMPLE_STREAM_EVENTS_MAX}
        positions = [random.randint(1, upto) for _ in range(count)]  # noqa: S311
        by_events = {"positions": positions, "window": SAMPLE_WINDOW_EVENTS}
        candidates = [
            row[0]
            for row in await (await self._conn.execute(_SAMPLE_BY_EVENTS, parameters | by_events)).fetchall()
        ]
        if len(candidates) < count:
            table_parameters = {"generation": self._table().as_string()}
            row = await (await self._conn.execute(_COUNT_BLOCKS, table_parameters)).fetchone()
            assert row is not None
            by_rows = {"percent": min(100.0, 100.0 * SAMPLE_BLOCKS / row[0]), "count": count}
            cur = await self._conn.execute(self._sample_by_rows_query(), parameters | by_rows)
            candidates += [row[0] for row in await cur.fetchall()]
        chosen_streams = list(dict.fromkeys(candidates))[:count]
        random.shuffle(chosen_streams)
        return chosen_streams

    async def _check_page(self, recorded: Sequence[Recorded], parked: Mapping[str, int]) -> list[str]:
        """Compare what whole streams come to; the keys of the rows that should be there."""
        recorded = [
            item
            for item in recorded
            if (parked_at := parked.get(item.event.originator_id)) is None or item.position < parked_at
        ]
        target = self._make_target()
        fold = BatchFold([target])
        fold.apply_events(recorded, {})
        expected = {
            row[0]: (position, row) for position, row in self._projection.collect_upserts(target.event_rows)
        }
        for parking in target.newly_parked:
            self._result.add_difference(parking.stream)
        cur = self._conn.cursor(binary=True)
        await cur.execute(self._rows_query(), {"keys": list(expected)})
        actual = {row[0]: row for row in await cur.fetchall()}
        for key, (position, row) in expected.items():
            self._result.rows += 1
            if actual.get(key) != (*self._stored_values(row), position):
                self._result.add_difference(key)
        return list(expected)

    def _stored_values(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            msgspec.json.encode(value)
            if column.type == "json"
            else value.decode()
            if column.type == "document"
            else value
            for column, value in zip(self._projection.columns, row, strict=True)
        )

    def _rows_query(self) -> Composed:
        names = [*(column.name for column in self._projection.columns), "position"]
        return SQL(_SELECT_ROWS).format(
            columns=SQL(", ").join(map(Identifier, names)),
            generation=self._table(),
            number=self._result.generation,
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
        return partitions.get_table(self._projection.name, self._result.generation)
