"""The engine: follows the log and keeps every generation of every projection up to date.

`advance` is one batch in one transaction: lock checkpoints, read the log after them, fold, apply, write,
move the checkpoints with the rows; a crash leaves all of it or nothing. Catching up, filling a new
generation and following live are this same code. Projections at one position share the batch. Any number
of processes may run it: a checkpoint's lock lets one write (README, invariant 5). Of a backlog, the next
batch is prepared while Postgres writes the current one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg.rows import TupleRow

from ledger.background import BackgroundLoop
from ledger.clock import Clock
from ledger.keys.erasure_watch import HOLD_EPOCH, SELECT_EPOCH
from ledger.lru import LruCache
from ledger.postgres.connections import ANSWER_GRACE_SECONDS, Conn, ReconnectingConnection
from ledger.postgres.migrations import may_compress
from ledger.postgres.pipelines import BoundStatement, PipelinedTransaction, fetch_together
from ledger.store.codec import Codec
from ledger.store.durability import Durability
from ledger.store.log import PLANNER_SETTINGS, Recorded, build_log_query, decode_with_keys
from ledger.store.notifications import HeadNotifier
from projections.engine import checkpoints
from projections.engine.aggregates import AggregateCache, load_states
from projections.engine.assignment import WorkAssignment
from projections.engine.batch import BatchFold, GenerationKey, Target, ignored_topics, load_keyrings
from projections.engine.daily_partitions import DailyPartitions
from projections.engine.failures import BatchFailures, log_parked
from projections.engine.operations import Operator
from projections.engine.read_ahead import BatchRange, PreparedBatch, ReadAhead
from projections.engine.registration import register_missing
from projections.engine.retry import FIRST_PARKED, RETRY_PAGE_STREAMS, ParkedIn, retry_readable, retry_stream
from projections.engine.writes import Writer, add_writes, write_all, write_each, write_or_isolate
from projections.projection import Projection
from projections.stored_rows import RowEncoder, RowReader

BATCH_TIMEOUT_SECONDS = 60
# Under a steady load the events of this pause make one batch, not many. There is none while lists wait.
PAUSE_SECONDS = 0.02
# How often the log is read while lists wait: other processes announce their appends less often.
WANTED_POLL_SECONDS = 0.003
BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0
IGNORED_TOPICS_MAX = 100
# Events folded before the event loop gets its turn: a few milliseconds.
SLICE_EVENTS = 64
# The server ends the connection of a process that hangs within a batch, which frees its checkpoints. Between
# two statements a batch computes for a twentieth of this time.
IN_BATCH_IDLE_SECONDS_MAX = 4.0
IN_BATCH_IDLE_MS_PER_EVENT = 2
# The server also ends the connection of a process that hangs between batches, which frees its slot
# (engine/assignment.py). A process that does not hang polls within this time.
IDLE_SECONDS_MAX = 3.0
IDLE_POLLS_MAX = 10

# A crash of the server may lose the last batches, rows and checkpoints together: they are applied again. What
# others commit because of these rows, a delivery for example, is flushed after them: there is one WAL.
_ASYNCHRONOUS_COMMITS = {"synchronous_commit": "off"}


class BatchResult(NamedTuple):
    """The result of one batch.

    events     how many it applied, for every projection at its position
    head       the log's last position when it began, as far as it is known to be replicated
    caught_up  every checkpoint was at `head`
    contended  there was something to apply, but other processes are at work on it
    errors     the generations that could not be written, and why
    """

    events: int
    head: int
    caught_up: bool = False
    contended: bool = False
    errors: Mapping[GenerationKey, str] = {}


class Engine:
    """One runner: it applies the log to `projections`, between `start` and `close`.

    dsn                 the database of the log and the projections
    notifier            the caller's, who starts and closes it
    batch_max           events in one transaction
    poll_ms             how often the log is read when the notifier is silent
    cached_streams_max  aggregates kept in memory
    """

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        clock: Clock,
        notifier: HeadNotifier,
        *,
        projections: Iterable[Projection],
        batch_max: int = 2000,
        poll_ms: int = 100,
        cached_streams_max: int = 10_000,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._notifier = notifier
        self._projections = {projection.name: projection for projection in projections}
        self._shapes = {projection.name: projection.shape for projection in self._projections.values()}
        self._batch_max = batch_max
        self._poll_seconds = poll_ms / 1000
        self._connection = ReconnectingConnection(
            dsn,
            "ledger_projector",
            name="projections",
            settings=_session_settings(batch_max, poll_ms),
            prepare_threshold=None,
            answer_seconds=BATCH_TIMEOUT_SECONDS + ANSWER_GRACE_SECONDS,
        )
        self._durability = Durability(dsn, "ledger_projector", notifier)
        self._read_ahead = ReadAhead(dsn, self._prepare)
        self._aggregate_cache = AggregateCache(cached_streams_max)
        self._durability.on_failover += [self._aggregate_cache.forget_all, self._read_ahead.forget]
        self._watch = codec.data_keys.watch
        self._ignored_topics: LruCache[frozenset[GenerationKey], list[str]] = LruCache(IGNORED_TOPICS_MAX)
        self._daily_partitions = DailyPartitions()
        self._assignment = WorkAssignment(self._shapes)
        self._failures = BatchFailures()
        self._encoder = RowEncoder(codec)
        self.row_reader = RowReader(codec)
        self._last_position_was_lowest = False
        self._loop: BackgroundLoop | None = None
        self._first_batch_ended = asyncio.Event()

    async def start(self) -> None:
        """Follow the log until `close`. Whatever happens to a batch, it is tried again.

        Returns after the first batch: then the projections are registered and lists can answer, or the
        database cannot be used for now.
        """
        self._first_batch_ended.clear()
        self._loop = BackgroundLoop(
            "projections",
            self._follow,
            backoff_seconds_min=BACKOFF_SECONDS_MIN,
            backoff_seconds_max=BACKOFF_SECONDS_MAX,
        )
        await self._loop.start()
        await self._first_batch_ended.wait()

    async def close(self) -> None:
        """Finish the batch under way, then stop. The engine can be started again."""
        if self._loop is not None:
            await self._loop.close()
        await self._read_ahead.close()
        await self._durability.close()
        await self._connection.drop()

    async def _follow(self) -> float:
        """One batch, and when there was nothing to apply the wait for the next event. Returns the seconds to
        wait before the next batch."""
        head_seen = self._notifier.position
        try:
            async with asyncio.timeout(BATCH_TIMEOUT_SECONDS):
                result = await self.advance()
        finally:
            self._first_batch_ended.set()
        if result.contended:
            return self._poll_seconds
        if not result.events:
            poll_seconds = self._poll_seconds
            if result.caught_up:
                poll_seconds = self._notifier.get_poll_seconds(poll_seconds)
                if self._notifier.is_wanted:
                    poll_seconds = WANTED_POLL_SECONDS
            await self._notifier.wait_past(max(head_seen, result.head), timeout_seconds=poll_seconds)
        elif result.events < self._batch_max:
            await self._notifier.wait_wanted(timeout_seconds=PAUSE_SECONDS)
        return 0.0

    async def advance(self) -> BatchResult:
        """Apply the next events to the checkpoints that are before them: one batch, one transaction.

        Raises psycopg.Error; then nothing has changed.
        """
        started = asyncio.get_running_loop().time()
        async with self._connection as conn:
            await self._durability.note_failover(conn)
            await self._clock.refresh(conn)
            if self._daily_partitions.is_due(self._clock.now()):
                await self._prepare_tables(conn)
            positions, head, waits_for_standbys = await checkpoints.load_positions(conn, self._shapes)
            # What is on no standby may never have happened: nobody who reads or follows rows hears of it.
            head = await self._durability.limit(head, waits_for_standbys=waits_for_standbys)
            lagging = {key: position for key, position in positions.items() if position < head}
            assigned = await self._assignment.select_assigned(conn, self._projections, lagging)
            ready = {k: at for k, at in assigned.items() if not self._failures.is_held_back(k, started)}
            if not ready:
                await self._read_ahead.close()
                contended = len(assigned) < len(lagging)
                return BatchResult(0, head, caught_up=not lagging, contended=contended)
            positions_ready = set(ready.values())
            position, upto = self._choose_range(positions_ready, head)
            keys = frozenset(key for key, at in ready.items() if at == position)
            batch_range = BatchRange(keys, position, upto)
            # Only if a whole batch follows, which its events cannot grow, and for all generations alike.
            next_upto = upto + self._batch_max
            has_next = len(positions_ready) == 1 and next_upto <= head
            next_range = BatchRange(keys, upto, next_upto) if has_next else None
            written, errors = await write_or_isolate(
                conn,
                lambda write: self._run_batch(conn, batch_range, next_range, write, at_head=upto == head),
            )
            await self._failures.record(conn, written, errors)
        log_parked(written)
        events = upto - position if written else 0
        if events and upto == head:
            self._notifier.advance_applied(upto)
        return BatchResult(events, head, contended=not written, errors=errors)

    async def retry(self, name: str, stream: str, operator: Operator) -> bool:
        """Apply the events of a parked stream, for an operator: see `retry_stream`. Raises KeyError for an
        unknown projection."""
        async with self._connection as conn:
            await self._clock.refresh(conn)
            projection, now = self._projections[name], self._clock.now()
            return await retry_stream(conn, self._codec, projection, stream, operator, now)

    async def retry_readable(self) -> None:
        """Apply the streams that were parked because a record could not be read, and that can be read now.
        Raises psycopg.Error."""
        after: ParkedIn | None = FIRST_PARKED
        while after is not None:
            async with self._connection as conn:
                await self._clock.refresh(conn)
                now = self._clock.now()
                _, after = await retry_readable(
                    conn, self._codec, self._projections, now, after=after, limit=RETRY_PAGE_STREAMS
                )

    async def _prepare_tables(self, conn: Conn) -> None:
        """Register new projections, and maintain the daily partitions. Once a day this also finds out that
        no older release is left that could not read compressed documents."""
        self._encoder = RowEncoder(self._codec, compressed=await may_compress(conn))
        await register_missing(conn, self._projections.values())
        positions = await checkpoints.load_positions(conn, self._shapes)
        retention_days = {
            key: days
            for key in positions.checkpoints
            if (days := self._projections[key.projection].retention_days) is not None
        }
        await self._daily_partitions.maintain(conn, retention_days, self._clock.now())

    def _choose_range(self, positions: set[int], head: int) -> tuple[int, int]:
        """The checkpoint position to apply events to, and the last event to apply.

        Usually the lowest checkpoint, up to the next one, so that they meet and share batches from then on.
        Every other time the highest, because readers wait for that.
        """
        lowest, highest = min(positions), max(positions)
        if lowest < highest:
            self._last_position_was_lowest = not self._last_position_was_lowest
            if self._last_position_was_lowest:
                next_position = min(position for position in positions if position > lowest)
                return lowest, min(lowest + self._batch_max, next_position)
        return highest, min(highest + self._batch_max, head)

    async def _run_batch(
        self,
        conn: Conn,
        batch_range: BatchRange,
        next_range: BatchRange | None,
        write: Writer,
        *,
        at_head: bool,
    ) -> tuple[list[Target], dict[GenerationKey, str]]:
        """The targets that were advanced over the range, and why others could not be written."""
        keys, position, upto = batch_range
        if write is write_each:
            # The first run failed, perhaps because another process has dropped a partition.
            self._daily_partitions.invalidate()
            next_range = None
            await self._read_ahead.drop()
        while True:
            async with PipelinedTransaction(conn) as transaction:
                lock = checkpoints.build_lock(keys, position)
                asked_at = time.monotonic()
                if self._read_ahead.has(batch_range):
                    (_, epoch, locked), rows = await transaction.fetch(*HOLD_EPOCH, lock), None
                else:
                    log_query = self._build_log_query(batch_range)
                    _, epoch, locked, rows = await transaction.fetch(*HOLD_EPOCH, lock, log_query)
                self._watch.observe(epoch[0][0], asked_at=asked_at)
                has_parked = checkpoints.read_locked(locked)
                if not has_parked:
                    return [], {}
                locked_range = BatchRange(frozenset(has_parked), position, upto)
                batch = await self._read_ahead.take(locked_range, has_parked.values(), epoch[0][0])
                if batch is None:
                    with_parked = {key for key, parked in has_parked.items() if parked}
                    batch = await self._prepare(conn, locked_range, with_parked, rows)
                recorded, fold, targets, _ = batch
                missing_days = self._daily_partitions.find_missing(fold.get_days(recorded))
                if not missing_days:
                    if next_range is not None and next_range.keys == locked_range.keys:
                        self._read_ahead.start(next_range)
                    errors: dict[GenerationKey, str] = {}
                    if write is write_all:
                        add_writes(transaction, targets)
                    else:
                        errors = await write(conn, targets)
                    written = [target for target in targets if target.key not in errors]
                    for target in written:
                        await checkpoints.save_parked(conn, target)
                    # Lists wait for the head: only a batch that reaches it is announced.
                    moved = [target.key for target in written]
                    transaction.add(checkpoints.build_move(moved, upto, notify=at_head))
                    return written, errors
            # DDL stays out of the batch's transaction: the batch starts again when the partitions exist.
            self._read_ahead.put_back(locked_range, batch)
            await self._daily_partitions.create(conn, missing_days)

    def _build_log_query(self, batch_range: BatchRange) -> BoundStatement:
        keys, position, upto = batch_range
        ignored = self._ignored_topics.get(keys)
        if ignored is None:
            ignored = ignored_topics([self._create_target(key) for key in keys])
            self._ignored_topics.put(keys, ignored)
        return build_log_query(position, upto, ignored_topics=ignored)

    async def _prepare(
        self,
        conn: Conn,
        batch_range: BatchRange,
        with_parked: Collection[GenerationKey] = (),
        rows: Sequence[TupleRow] | None = None,
    ) -> PreparedBatch:
        """Fold the events of a batch, after reading them unless `rows` has them. `with_parked`: generations
        that have parked streams."""
        targets = [self._create_target(key) for key in sorted(batch_range.keys)]
        if rows is None:
            asked_at = time.monotonic()
            epoch, rows = await fetch_together(conn, [SELECT_EPOCH, self._build_log_query(batch_range)])
            self._watch.observe(epoch[0][0], asked_at=asked_at)
        erasures = self._watch.epoch
        recorded, keyring = await decode_with_keys(conn, self._codec, rows)
        fold = BatchFold(targets)
        parking = [target for target in targets if target.key in with_parked]
        await checkpoints.load_parked(conn, parking, {item.event.originator_id for item in recorded})
        await self._fold(conn, fold, recorded, batch_range.position, erasures)
        await load_keyrings(conn, targets, keyring)
        return PreparedBatch(recorded, fold, targets, erasures)

    async def _fold(
        self, conn: Conn, fold: BatchFold, recorded: Sequence[Recorded], position: int, erasures: int
    ) -> None:
        self._aggregate_cache.enter(erasures)
        versions = fold.get_prior_versions(recorded)
        fold.states, fold.failures = await load_states(
            conn, self._codec, self._aggregate_cache, versions, position
        )
        for start in range(0, len(recorded), SLICE_EVENTS):
            fold.apply_events(recorded[start : start + SLICE_EVENTS])
            await asyncio.sleep(0)
        self._aggregate_cache.put(fold.states, erasures)

    def _create_target(self, key: GenerationKey) -> Target:
        return Target.create(
            self._projections[key.projection],
            key.generation,
            self._clock.now(),
            encoder=self._encoder,
        )


def _session_settings(batch_max: int, poll_ms: int) -> dict[str, str]:
    in_batch_idle_ms = max(IN_BATCH_IDLE_SECONDS_MAX * 1000, IN_BATCH_IDLE_MS_PER_EVENT * batch_max)
    idle_ms = max(IDLE_SECONDS_MAX * 1000, IDLE_POLLS_MAX * poll_ms)
    return {
        **PLANNER_SETTINGS,
        **_ASYNCHRONOUS_COMMITS,
        "statement_timeout": f"{BATCH_TIMEOUT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{in_batch_idle_ms:.0f}",
        "idle_session_timeout": f"{idle_ms:.0f}",
    }
