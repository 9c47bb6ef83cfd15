"""Filling new generations: one share of the log's streams, each folded once and whole, for several views.

Rows go by COPY into tables that have no index and no reader yet. A page of streams, its rows and how far
the share has come are one transaction, so a killed worker goes on behind its last page, and memory is that
of one page however long the log is. What a handler cannot apply is parked as the engine parks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.postgres.connections import connect
from ledger.store.codec import Codec
from ledger.store.log import PLANS, Recorded, position_at, streams
from projections.engine import checkpoints, partitions
from projections.engine.batch import Key, Member, Pass, unfollowed
from projections.engine.writes import write_apart, write_together
from projections.projection import Projection

PAGE_EVENTS = 4000
# Streams are read in the order of their ids, which only one index gives.
_OPTIONS = f"{PLANS} -c enable_bitmapscan=off -c enable_sort=off -c statement_timeout=10min"

_BUILDS = "SELECT projection, generation FROM projections.builds WHERE rebuild = %(rebuild)s AND NOT ended"
_SHARE = """
SELECT s.stream, s.done, r.upto, r.workers
FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND s.share = %(share)s
"""
# Whoever holds the share's row fills it; another who believes to be at it finds that it has moved.
_HOLD = """
SELECT FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND s.share = %(share)s AND s.stream = %(stream)s AND NOT s.done
AND r.state = 'filling' AND NOT r.paused
FOR UPDATE OF s
"""
_BEGIN = """
UPDATE projections.shares
SET began_at = clock_timestamp(), changed_at = clock_timestamp(), began_events = events
WHERE rebuild = %(rebuild)s AND share = %(share)s
"""
_MOVE = """
UPDATE projections.shares
SET stream = %(upto)s, events = events + %(events)s, rows = rows + %(rows)s, done = %(done)s,
    changed_at = clock_timestamp()
WHERE rebuild = %(rebuild)s AND share = %(share)s
"""


async def fill(
    dsn: str,
    codec: Codec,
    clock: Clock,
    projections: Iterable[Projection],
    rebuild: int,
    share: int,
    *,
    page_events: int = PAGE_EVENTS,
) -> bool:
    """Fill until the share is done (True), or the rebuild is paused, cancelled or done by another (False).

    Raises psycopg.Error, KeyError for a view that this release does not have, and what an event raises that
    it cannot read; what was filled stays.
    """
    known = {projection.name: projection for projection in projections}
    async with await connect(dsn, "ledger_projector", name="rebuild", options=_OPTIONS) as conn:
        await clock.refresh(conn)
        found = await conn.execute(_BUILDS, {"rebuild": rebuild})
        builds = [(known[name], generation) for name, generation in await found.fetchall()]
        row = await (await conn.execute(_SHARE, {"rebuild": rebuild, "share": share})).fetchone()
        if row is None or not builds:
            return False
        stream, done, upto, shares = row
        if not done:
            await conn.execute(_BEGIN, {"rebuild": rebuild, "share": share})
        filling = _Filling(conn, codec, clock, builds, rebuild, share)
        since = await filling.since()
        while not done:
            recorded, done = await streams(
                conn,
                codec,
                stream,
                upto=upto,
                since=since,
                share=share,
                shares=shares,
                limit=page_events,
                without=unfollowed(filling.members()),
            )
            if not await filling.page(recorded, stream, done=done):
                return False
            if recorded:
                stream = recorded[-1].event.originator_id
        return True


class _Filling:
    def __init__(
        self,
        conn: AsyncConnection[TupleRow],
        codec: Codec,
        clock: Clock,
        builds: Sequence[tuple[Projection, int]],
        rebuild: int,
        share: int,
    ) -> None:
        self._conn = conn
        self._codec = codec
        self._clock = clock
        self._builds = builds
        self._place = {"rebuild": rebuild, "share": share}
        self._days: dict[Key, set[int]] = {}

    def members(self) -> list[Member]:
        now = self._clock.now()
        return [
            Member(projection, generation, partitions.rows_since(now, projection.days_kept), detached=True)
            for projection, generation in self._builds
        ]

    async def since(self) -> int:
        """The position before which nothing makes a row in any of the views: streams that ended before
        it need not be read."""
        first = min(member.since for member in self.members())
        return await position_at(self._conn, first - 1e-6) if first else 0

    async def page(self, recorded: Sequence[Recorded], stream: str, *, done: bool) -> bool:
        """Write what the streams come to; False when it is not, or no longer, ours to write."""
        members = self.members()
        reading = Pass(members)
        reading.read(recorded, {})
        await self._make_days(reading, recorded)
        write = write_together
        while True:
            try:
                async with self._conn.transaction():
                    held = await self._conn.execute(_HOLD, {**self._place, "stream": stream})
                    if held.rowcount == 0:
                        return False
                    failed = await write(self._conn, members)
                    if failed:
                        raise RuntimeError(f"cannot be written: {failed}")
                    for member in members:
                        await checkpoints.park(self._conn, member)
                    moved = {
                        "upto": recorded[-1].event.originator_id if recorded else stream,
                        "events": len(recorded),
                        "rows": sum(len(step.rows) for member in members for step in member.steps),
                        "done": done,
                    }
                    await self._conn.execute(_MOVE, {**self._place, **moved})
                return True
            except Exception:  # whatever it is: once more, to find the streams that are at fault
                if self._conn.broken or write is write_apart:
                    raise
                write = write_apart

    async def _make_days(self, reading: Pass, recorded: Iterable[Recorded]) -> None:
        for key, days in reading.days(recorded).items():
            made = self._days.setdefault(key, set())
            if days - made:
                await partitions.make_days(self._conn, *key, days - made)
                made |= days
