"""Verifying: the live rows of a view against a replay of the log, both as of one position.

The whole of it happens in one snapshot: the position is that of the live generation's checkpoint, the log is
read up to there stream by stream, and what each stream comes to is compared with the rows that are there. A
full check finds rows that no event accounts for, too; a sample looks at some streams only. Nothing is
written, nothing is held up. Streams that are parked are known to differ, and are left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from ledger.clock import Clock
from ledger.database import connect
from ledger.store.codec import Codec
from ledger.store.log import PLANS, Recorded, history, streams
from projections import partitions
from projections.passing import Member, Pass, unfollowed
from projections.projection import Projection, described, merged

KEYS_SHOWN_MAX = 20
PAGE_EVENTS = 4000
_OPTIONS = f"{PLANS} -c enable_bitmapscan=off -c enable_sort=off"

_LIVE = """
SELECT l.generation, c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s AND c.shape = %(shape)s
"""
_PARKED = """
SELECT stream FROM projections.parked WHERE projection = %(projection)s AND generation = %(generation)s
"""
_ROWS = "SELECT {columns} FROM {generation} WHERE generation = {number} AND {key} = ANY (%(keys)s)"
_EXPECT = "CREATE TEMPORARY TABLE expected (key text PRIMARY KEY) ON COMMIT DROP"
_EXPECTED = "COPY expected FROM STDIN (FORMAT BINARY)"
_STRAY = """
SELECT {key} FROM {generation} live
WHERE {within} AND NOT EXISTS (SELECT FROM expected WHERE expected.key = live.{key}) LIMIT {limit}
"""
_STREAMS_AT = """
SELECT DISTINCT originator_id FROM ledger.events
WHERE notification_id = ANY (%(positions)s) AND topic <> ALL (%(without)s::text[])
"""


_KEEP = """
INSERT INTO projections.verified AS v (projection, generation, position, rows, differing, keys)
VALUES (%(projection)s, %(generation)s, %(position)s, %(rows)s, %(differing)s, %(keys)s)
ON CONFLICT ON CONSTRAINT verified_key DO UPDATE
SET position = excluded.position, checked_at = now(),
    rows = excluded.rows + CASE WHEN %(sampled)s THEN v.rows ELSE 0 END,
    differing = excluded.differing + CASE WHEN %(sampled)s THEN v.differing ELSE 0 END,
    keys = CASE WHEN %(sampled)s THEN (v.keys || excluded.keys)[:20] ELSE excluded.keys END
"""


@dataclass(slots=True)
class Verified:
    """What came of checking the live generation at `position`.

    rows       compared
    differing  of these, and of rows that should not be there; `keys` are the first few
    parked     streams that the projection leaves out, not compared
    error      why it could not be checked, without personal data: an event that this release cannot read
    """

    projection: str
    generation: int
    position: int
    rows: int = 0
    differing: int = 0
    parked: int = 0
    error: str | None = None
    keys: list[str] = field(default_factory=list)

    def differs(self, key: str) -> None:
        self.differing += 1
        if len(self.keys) < KEYS_SHOWN_MAX:
            self.keys.append(key)


async def verify(
    dsn: str, codec: Codec, clock: Clock, projections: Iterable[Projection], *, sample: int | None = None
) -> list[Verified]:
    """Check each view that is live in the shape this release makes, and keep what came of it: of another
    release's rows it cannot tell. `sample`: about so many streams, chosen by chance; None: all. One that
    cannot be checked says why and costs the others nothing.

    Raises psycopg.Error.
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
                    await _Check(conn, codec, clock, projection, found).run(sample)
                except psycopg.Error:
                    raise
                except Exception as error:  # what an event raises that cannot be read: told, in place of rows
                    found.error = described(error)
                    continue
            # Not in that snapshot: it reads, and it lasts.
            await conn.set_isolation_level(None)
            await conn.execute(_KEEP, {**asdict(found), "sampled": sample is not None})
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
            for stream in await self._some(sample):
                if stream not in parked:
                    await self._page(
                        await history(self._conn, self._codec, stream, upto=self._found.position), parked
                    )
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
        if not parked:
            for row in await (await self._conn.execute(self._stray())).fetchall():
                self._found.differs(row[0])

    def _member(self) -> Member:
        return Member(self._projection, self._found.generation, self._since)

    async def _parked(self) -> set[str]:
        place = {"projection": self._projection.name, "generation": self._found.generation}
        return {row[0] for row in await (await self._conn.execute(_PARKED, place)).fetchall()}

    async def _some(self, count: int) -> list[str]:
        """Streams with an event at one of so many positions: a busy stream is likelier to be looked at."""
        if not self._found.position:
            return []
        positions = [random.randint(1, self._found.position) for _ in range(count)]  # noqa: S311
        parameters = {"positions": positions, "without": self._without}
        return [row[0] for row in await (await self._conn.execute(_STREAMS_AT, parameters)).fetchall()]

    async def _page(self, recorded: Sequence[Recorded], parked: set[str]) -> list[str]:
        """Compare what whole streams come to; the keys of the rows that should be there."""
        member = self._member()
        member.parked |= parked
        reading = Pass([member])
        reading.read(recorded, {})
        expected = {row[0]: (position, row) for position, row in merged(member.steps)}
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
            msgspec.json.encode(value) if column.type == "json" else value
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

    def _stray(self) -> Composed:
        return SQL(_STRAY).format(
            key=Identifier(self._projection.columns[0].name),
            generation=self._table(),
            within=partitions.within(self._projection.days_kept, int(self._since)),
            limit=KEYS_SHOWN_MAX,
        )

    def _table(self) -> Identifier:
        return partitions.table(self._projection.name, self._found.generation)
