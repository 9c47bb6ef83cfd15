"""The backfill: write one shard of the log's streams, each folded whole, into new generations.

Rows go by COPY into tables that have no index and no reader yet. A page of streams, its rows and the progress
of the shard commit together, so a process that is killed continues after its last page, and memory is that of
one page however long the log is. An event that a handler cannot apply parks its stream, as in the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ledger.clock import Clock
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, Conn, connect, fetch_one
from ledger.postgres.migrations import may_compress
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS, Recorded, read_streams
from ledger.store.positions import find_last_position
from projections.engine import checkpoints, partitions
from projections.engine.batch import BatchFold, GenerationKey, Target, ignored_topics, load_keyrings
from projections.engine.writes import Writer, write_or_isolate
from projections.projection import Projection
from projections.rebuild.states import RebuildState
from projections.stored_rows import RowEncoder

PAGE_EVENTS = 4000
# Streams are read in the order of their ids, which only one index has.
_STATEMENT_SECONDS_MAX = 600
_SETTINGS = PLANNER_SETTINGS | {
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "statement_timeout": f"{_STATEMENT_SECONDS_MAX}s",
}

_SELECT_BUILDS = (
    "SELECT projection, generation FROM projections.builds WHERE rebuild = %(rebuild)s AND NOT ended"
)
_SELECT_SHARD = """
SELECT s.stream, s.done, r.upto, r.workers
FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND s.share = %(share)s
"""
# A process may write the next page only if the shard's row is still at the stream that this process has
# reached. Otherwise another process has moved the shard on.
_LOCK_SHARD = """
SELECT FROM projections.shares s JOIN projections.rebuilds r ON r.id = s.rebuild
WHERE s.rebuild = %(rebuild)s AND s.share = %(share)s AND s.stream = %(stream)s AND NOT s.done
AND r.state = %(backfilling)s AND NOT r.paused
FOR UPDATE OF s
"""
_MARK_SHARD_STARTED = """
UPDATE projections.shares
SET began_at = clock_timestamp(), changed_at = clock_timestamp(), began_events = events
WHERE rebuild = %(rebuild)s AND share = %(share)s
"""
_ADVANCE_SHARD = """
UPDATE projections.shares
SET stream = %(upto)s, events = events + %(events)s, rows = rows + %(rows)s, done = %(done)s,
    changed_at = clock_timestamp()
WHERE rebuild = %(rebuild)s AND share = %(share)s
"""


async def backfill_shard(
    dsn: str,
    codec: Codec,
    clock: Clock,
    projections: Iterable[Projection],
    rebuild_id: int,
    shard: int,
    *,
    page_events: int = PAGE_EVENTS,
) -> bool:
    """Backfill until the shard is done (True), or the rebuild is paused or cancelled or another process works
    on the shard (False).

    Raises psycopg.Error, and KeyError for a projection that this release does not have; committed pages stay.
    """
    projections_by_name = {projection.name: projection for projection in projections}
    answer_seconds = _STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS
    conn = await connect(
        dsn, "ledger_projector", name="rebuild", settings=_SETTINGS, answer_seconds=answer_seconds
    )
    async with conn:
        await clock.refresh(conn)
        cur = await conn.execute(_SELECT_BUILDS, {"rebuild": rebuild_id})
        builds = [(projections_by_name[name], generation) for name, generation in await cur.fetchall()]
        row = await fetch_one(conn, _SELECT_SHARD, {"rebuild": rebuild_id, "share": shard})
        if row is None or not builds:
            return False
        stream, done, upto, shard_count = row
        if not done:
            await conn.execute(_MARK_SHARD_STARTED, {"rebuild": rebuild_id, "share": shard})
        encoder = RowEncoder(codec, compressed=await may_compress(conn))
        backfill = _ShardBackfill(conn, codec, encoder, clock, builds, rebuild_id, shard)
        since = await backfill.load_start_position()
        while not done:
            erasures = await codec.data_keys.watch.look(conn)
            recorded, done = await read_streams(
                conn,
                codec,
                stream,
                upto=upto,
                changed_after=since,
                shard=shard,
                shard_count=shard_count,
                limit=page_events,
                ignored_topics=ignored_topics(backfill.targets()),
            )
            try:
                if not await backfill.write_page(recorded, stream, erasures, done=done):
                    return False
            except _ErasedMeanwhile:
                done = False
                continue
            if recorded:
                stream = recorded[-1].event.originator_id
        return True


class _ErasedMeanwhile(Exception):
    """Something was erased after a page was read, perhaps in that page: it is read again."""


class _ShardBackfill:
    """Writes the pages of one shard, one transaction each."""

    def __init__(
        self,
        conn: Conn,
        codec: Codec,
        encoder: RowEncoder,
        clock: Clock,
        builds: Sequence[tuple[Projection, int]],
        rebuild_id: int,
        shard: int,
    ) -> None:
        self._conn = conn
        self._watch = codec.data_keys.watch
        self._encoder = encoder
        self._clock = clock
        self._builds = builds
        self._shard_parameters: dict[str, Any] = {
            "rebuild": rebuild_id,
            "share": shard,
            "backfilling": RebuildState.BACKFILLING,
        }
        self._days_made: dict[GenerationKey, set[int]] = {}

    def targets(self) -> list[Target]:
        """The new generations, each from the start of its retention on."""
        now = self._clock.now()
        return [
            Target.create(projection, generation, now, detached=True, encoder=self._encoder)
            for projection, generation in self._builds
        ]

    async def load_start_position(self) -> int:
        """The position before which no event makes a row in any of the projections: streams that ended
        before it are not read."""
        earliest = min(target.retention_start for target in self.targets())
        return await find_last_position(self._conn, datetime.fromtimestamp(earliest, UTC)) if earliest else 0

    async def write_page(
        self, recorded: Sequence[Recorded], stream: str, erasures: int, *, done: bool
    ) -> bool:
        """Write the rows of whole streams, read in the erasure epoch `erasures`; False when the rebuild was
        paused or cancelled, or another process has taken the shard further. Raises _ErasedMeanwhile."""
        targets = self.targets()
        fold = BatchFold(targets)
        fold.apply_events(recorded)
        await load_keyrings(self._conn, targets)
        await self._make_days(fold, recorded)

        async def run(write: Writer) -> bool:
            async with self._conn.transaction():
                if await self._watch.hold(self._conn) != erasures:
                    raise _ErasedMeanwhile
                cur = await self._conn.execute(_LOCK_SHARD, {**self._shard_parameters, "stream": stream})
                if cur.rowcount == 0:
                    return False
                errors = await write(self._conn, targets)
                if errors:
                    raise RuntimeError(f"cannot be written: {errors}")
                for target in targets:
                    await checkpoints.save_parked(self._conn, target)
                progress = {
                    "upto": recorded[-1].event.originator_id if recorded else stream,
                    "events": len(recorded),
                    "rows": sum([len(item.rows) for target in targets for item in target.event_rows]),
                    "done": done,
                }
                await self._conn.execute(_ADVANCE_SHARD, {**self._shard_parameters, **progress})
            return True

        return await write_or_isolate(self._conn, run)

    async def _make_days(self, fold: BatchFold, recorded: Sequence[Recorded]) -> None:
        for key, days in fold.get_days(recorded).items():
            days_made = self._days_made.setdefault(key, set())
            if days - days_made:
                await partitions.create_days(self._conn, *key, days - days_made)
                days_made |= days
