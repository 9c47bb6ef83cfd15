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
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from ledger.clock import Clock
from ledger.postgres.connections import connect
from ledger.store.codec import Codec
from ledger.store.log import PLANS, Recorded, history, streams
from projections.engine import partitions
from projections.engine.batch import Member, Pass, unfollowed
from projections.projection import Projection, described
from projections.rebuild.comparison import digest

KEYS_SHOWN_MAX = 20
# Keys are told apart so that one row that differs counts once, however often it is drawn.
KEYS_KEPT_MAX = 1000
PAGE_EVENTS = 4000
# What a sample reads: streams no longer than this, and of all together so many events a stream asked for.
SAMPLE_STREAM_EVENTS_MAX = 1000
SAMPLE_EVENTS_EACH = 200
# Where a position drawn holds no event of the view, the next one that does is taken, of so many.
SAMPLE_WINDOW_EVENTS = 200
SAMPLE_BLOCKS = 64
_OPTIONS = f"{PLANS} -c enable_bitmapscan=off -c enable_sort=off"

_LIVE = """
SELECT l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s AND c.shape = %(shape)s
"""
_PARKED = """
SELECT stream, position FROM projections.parked
WHERE projection = %(projection)s AND generation = %(generation)s
"""
_ROWS = "SELECT {columns} FROM {generation} WHERE generation = {number} AND {key} = ANY (%(keys)s)"
_EXPECT = "CREATE TEMPORARY TABLE expected (key text PRIMARY KEY) ON COMMIT DROP"
_EXPECTED = "COPY expected FROM STDIN (FORMAT BINARY)"
_STRAY = """
SELECT {key} FROM {generation} live
WHERE {within} AND NOT EXISTS (SELECT FROM expected WHERE expected.key = live.{key}) LIMIT {limit}
"""
# By events, so that a busy stream is likelier: also the view's rows that are not there are found.
_BY_EVENTS = """
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
_BY_ROWS = """
SELECT DISTINCT e.originator_id
FROM (SELECT position FROM {generation} TABLESAMPLE SYSTEM (%(percent)s::real) WHERE {within}
      ORDER BY random() LIMIT %(count)s) AS drawn
JOIN ledger.events e ON e.notification_id = drawn.position
WHERE e.topic <> ALL (%(without)s::text[]) AND NOT EXISTS (
    SELECT FROM ledger.events longer
    WHERE longer.originator_id = e.originator_id AND longer.originator_version = %(length)s + 1)
"""
_BLOCKS = """
SELECT greatest(1, sum(pg_relation_size(relid)) / current_setting('block_size')::integer)::float8
FROM pg_partition_tree(%(generation)s::regclass)
"""
# Found again by a sample, a row is not one more; which of them are known is bounded, and so is the count.
_KEEP = """
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
class Verified:
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

    def differs(self, key: str) -> None:
        self.differing += 1
        if len(self.keys) < KEYS_KEPT_MAX:
            self.keys.append(key)


async def verify(
    dsn: str, codec: Codec, clock: Clock, projections: Iterable[Projection], *, sample: int | None = None
) -> list[Verified]:
    """Check each view that is live in the shape this release makes, and keep what came of it: of another
    release's rows it cannot tell. `sample`: about so many streams, chosen by chance; None: all. One that
    cannot be checked says why and costs the others nothing.

    Raises psycopg.OperationalError.
    """
    verified = []
    for projection in projections:
        async with await connect(dsn, "ledger_projector", name="verify", options=_OPTIONS) as conn:
            await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await clock.refresh(conn)
            async with conn.transaction():
                wanted = {"projection": projection.name, "shape": projection.shape}
                row = await (await conn.execute(_LIVE, wanted)).fetchone()
                if row is None:
                    continue
                found = Verified(projection.name, *row)
                verified.append(found)
                try:
                    async with conn.transaction():
                        await _Check(conn, codec, clock, projection, found).run(sample)
                except psycopg.OperationalError:
                    raise
                except Exception as error:  # told in place of rows
                    found.error = described(error)
                    continue
            # Not in that snapshot: it reads, and it lasts.
            await conn.set_isolation_level(None)
            kept = {"sampled": sample is not None, "kept": KEYS_KEPT_MAX}
            await conn.execute(_KEEP, asdict(found) | kept)
    return verified


class _Check:
    def __init__(
        self,
        conn: AsyncConnection[TupleRow],
        codec: Codec,
        clock: Clock,
        projection: Projection,
        found: Verified,
    ) -> None:
        self._conn = conn
        self._codec = codec
        self._projection = projection
        self._found = found
        self._since = partitions.rows_since(clock.now(), projection.days_kept)
        self._without = unfollowed([self._member()])

    async def run(self, sample: int | None) -> None:
        parked = await self._parked()
        self._found.parked = len(parked)
        if sample is not None:
            await self._sample(sample, parked)
            return
        await self._conn.execute(_EXPECT)
        stream, done = "", False
        while not done:
            recorded, done = await streams(
                self._conn, self._codec, stream, upto=self._found.position, limit=PAGE_EVENTS,
                without=self._without,
            )  # fmt: skip
            keys = await self._page(recorded, parked)
            async with self._conn.cursor() as cur, cur.copy(_EXPECTED) as copy:
                copy.set_types(["text"])
                for key in keys:
                    await copy.write_row((key,))
            if recorded:
                stream = recorded[-1].event.originator_id
        for row in await (await self._conn.execute(self._stray())).fetchall():
            self._found.differs(row[0])
        held = await digest(self._conn, self._projection, self._found.generation, int(self._since))
        self._found.digest = held.sum

    async def _sample(self, count: int, parked: Mapping[str, int]) -> None:
        events_left = count * SAMPLE_EVENTS_EACH
        for stream in await self._some(count):
            recorded = await history(self._conn, self._codec, stream, upto=self._found.position)
            await self._page(recorded, parked)
            events_left -= len(recorded)
            if events_left <= 0:
                return

    def _member(self) -> Member:
        return Member(self._projection, self._found.generation, self._since)

    async def _parked(self) -> dict[str, int]:
        """From which position on streams are left out."""
        place = {"projection": self._projection.name, "generation": self._found.generation}
        return dict(await (await self._conn.execute(_PARKED, place)).fetchall())

    async def _some(self, count: int) -> list[str]:
        """About so many streams by chance, in no order."""
        upto = self._found.position
        if not upto:
            return []
        drawing = {"upto": upto, "without": self._without, "length": SAMPLE_STREAM_EVENTS_MAX}
        positions = [random.randint(1, upto) for _ in range(count)]  # noqa: S311
        by_events = {"positions": positions, "window": SAMPLE_WINDOW_EVENTS}
        found = [
            row[0] for row in await (await self._conn.execute(_BY_EVENTS, drawing | by_events)).fetchall()
        ]
        if len(found) < count:
            place = {"generation": self._table().as_string()}
            row = await (await self._conn.execute(_BLOCKS, place)).fetchone()
            assert row is not None
            by_rows = {"percent": min(100.0, 100.0 * SAMPLE_BLOCKS / row[0]), "count": count}
            drawn = await self._conn.execute(self._by_rows(), drawing | by_rows)
            found += [row[0] for row in await drawn.fetchall()]
        some = list(dict.fromkeys(found))[:count]
        random.shuffle(some)
        return some

    async def _page(self, recorded: Sequence[Recorded], parked: Mapping[str, int]) -> list[str]:
        """Compare what whole streams come to; the keys of the rows that should be there."""
        recorded = [
            item
            for item in recorded
            if (left_out := parked.get(item.event.originator_id)) is None or item.position < left_out
        ]
        member = self._member()
        reading = Pass([member])
        reading.read(recorded, {})
        expected = {row[0]: (position, row) for position, row in self._projection.changes(member.steps)}
        for parking in member.parkings:
            self._found.differs(parking.stream)
        cur = self._conn.cursor(binary=True)
        await cur.execute(self._rows(), {"keys": list(expected)})
        there = {row[0]: row for row in await cur.fetchall()}
        for key, (position, row) in expected.items():
            self._found.rows += 1
            if there.get(key) != (*self._stored(row), position):
                self._found.differs(key)
        return list(expected)

    def _stored(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            msgspec.json.encode(value)
            if column.type == "json"
            else value.decode()
            if column.type == "document"
            else value
            for column, value in zip(self._projection.columns, row, strict=True)
        )

    def _rows(self) -> Composed:
        names = [*(column.name for column in self._projection.columns), "position"]
        return SQL(_ROWS).format(
            columns=SQL(", ").join(map(Identifier, names)),
            generation=self._table(),
            number=self._found.generation,
            key=Identifier(names[0]),
        )

    def _by_rows(self) -> Composed:
        within = partitions.within(self._projection.days_kept, int(self._since))
        return SQL(_BY_ROWS).format(generation=self._table(), within=within)

    def _stray(self) -> Composed:
        return SQL(_STRAY).format(
            key=Identifier(self._projection.columns[0].name),
            generation=self._table(),
            within=partitions.within(self._projection.days_kept, int(self._since)),
            limit=KEYS_KEPT_MAX,
        )

    def _table(self) -> Identifier:
        return partitions.table(self._projection.name, self._found.generation)
