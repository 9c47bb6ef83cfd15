"""The engine: follows the log and keeps every generation of every projection up to date.

`advance` is one batch in one transaction: lock checkpoints, read the log after them, fold, apply, write,
move the checkpoints with the rows; a crash leaves all of it or nothing. Catching up, filling a new
generation and following live are this same code. Projections standing at one position share the batch.
Any number of processes may run it: a checkpoint's lock lets one write (README, invariant 5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from ledger.clock import Clock
from ledger.errors import InvalidProjectionState, LedgerError
from ledger.postgres.connections import Conn, ReconnectingConnection
from ledger.store.codec import Codec, State
from ledger.store.log import PLANNER_OPTIONS, Recorded, read_log, read_states_at, read_stream
from ledger.store.notifications import HeadNotifier
from projections.engine import checkpoints, operations, partitions, registry
from projections.engine.assignment import WorkAssignment
from projections.engine.batch import BatchFold, GenerationKey, Target, ignored_topics
from projections.engine.daily_partitions import DailyPartitions
from projections.engine.operations import Operator
from projections.engine.writes import write_all, write_each
from projections.projection import Projection, describe_error

BATCH_TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 0.01
BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0
# Events folded before the loop gets its turn: a few milliseconds.
SLICE_EVENTS = 64
# A process that hangs in a batch loses its checkpoints to another one …
_OPTIONS = f"{PLANNER_OPTIONS} -c idle_in_transaction_session_timeout=10s -c statement_timeout=60s"
# … and one that hangs between batches its seat: views of a seat that is taken, by a process that is
# stopped, would get one batch from others whenever they have stood still. One that runs looks more often.
IDLE_SECONDS_MAX = 3.0
IDLE_POLLS_MAX = 10

Writer = Callable[[Conn, Sequence[Target]], Awaitable[dict[GenerationKey, str]]]

_log = logging.getLogger("ledger.projections")


class BatchResult(NamedTuple):
    """What came of one batch.

    caught_up  every checkpoint stands at the head as last seen
    contended  there was something to do, which is another process's
    """

    events: int
    caught_up: bool
    contended: bool = False


@dataclass(slots=True)
class EngineStats:
    """Counts since the process started, for the metrics.

    position  the last one applied here; `head` the last one seen
    failing   what keeps a projection (by `name_g1`), or the engine (by ``""``), from going on
    """

    events: int = 0
    batches: int = 0
    batch_seconds: float = 0.0
    position: int = 0
    head: int = 0
    failures: int = 0
    current_errors: dict[str, str] = field(default_factory=dict)


class Engine:
    """One runner. `dsn`: the projections' database; `notifier` is the caller's, started and closed by it."""

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        clock: Clock,
        notifier: HeadNotifier,
        *,
        projections: Iterable[Projection] = registry.PROJECTIONS,
        batch_max: int = 1000,
        poll_ms: int = 100,
        cached_streams_max: int = 50_000,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._notifier = notifier
        self._projections = {projection.name: projection for projection in projections}
        self._shapes = {projection.name: projection.shape for projection in self._projections.values()}
        self._batch_max = batch_max
        self._poll_seconds = poll_ms / 1000
        idle_ms = max(IDLE_SECONDS_MAX * 1000, IDLE_POLLS_MAX * poll_ms)
        options = f"{_OPTIONS} -c idle_session_timeout={idle_ms:.0f}"
        self._connection = ReconnectingConnection(
            dsn, "ledger_projector", name="projections", options=options
        )
        self._aggregate_cache = _AggregateCache(cached_streams_max)
        self._daily_partitions = DailyPartitions()
        self._assignment = WorkAssignment(self._shapes)
        self._retry_at: dict[GenerationKey, float] = {}
        self._last_position_was_lowest = False
        self._stop_event = asyncio.Event()
        self._idle_event = asyncio.Event()
        self._idle_event.set()
        self.stats = EngineStats()

    async def run(self) -> None:
        """Follow the log until closed or cancelled. Whatever happens to a batch, it is tried again."""
        self._idle_event.clear()
        backoff_seconds = BACKOFF_SECONDS_MIN
        try:
            while not self._stop_event.is_set():
                head_seen = self._notifier.position
                try:
                    async with asyncio.timeout(BATCH_TIMEOUT_SECONDS):
                        result = await self.advance()
                except Exception as error:  # the edge: told, waited out, tried again
                    self._record_failure("", error)
                    await self._sleep_unless_stopped(backoff_seconds)
                    backoff_seconds = min(backoff_seconds * 2, BACKOFF_SECONDS_MAX)
                    continue
                self.stats.current_errors.pop("", None)
                backoff_seconds = BACKOFF_SECONDS_MIN
                if result.contended:
                    await self._sleep_unless_stopped(self._poll_seconds)
                elif not result.events:
                    await self._notifier.wait_past(
                        max(head_seen, self.stats.head), timeout_seconds=self._poll_seconds
                    )
                elif result.events < self._batch_max:
                    # Under a steady load what comes meanwhile makes one batch, not many; what comes now
                    # and then finds the pause over.
                    await self._sleep_unless_stopped(PAUSE_SECONDS)
        finally:
            self._idle_event.set()

    async def close(self) -> None:
        """Finish the batch under way, then stop."""
        self._stop_event.set()
        await self._idle_event.wait()
        await self._connection.drop()

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_event.wait()

    async def advance(self) -> BatchResult:
        """Apply the next events to the checkpoints that stand before them: one batch, one transaction.

        Raises psycopg.Error, and what reading an unreadable event raises; then nothing has changed.
        """
        started = asyncio.get_running_loop().time()
        async with self._connection as conn:
            await self._clock.refresh(conn)
            await self._daily_partitions.maintain(conn, self._projections.values(), self._clock.now())
            positions, head = await checkpoints.load_positions(conn, self._shapes)
            self.stats.head = head
            lagging = {key: position for key, position in positions.items() if position < head}
            assigned = await self._assignment.select_assigned(conn, self._projections, lagging)
            ready = {key: at for key, at in assigned.items() if self._retry_at.get(key, 0.0) <= started}
            if not ready:
                return BatchResult(0, caught_up=not lagging, contended=len(assigned) < len(lagging))
            position, upto = self._choose_range(set(ready.values()), head)
            keys = [key for key, at in ready.items() if at == position]
            try:
                events = await self._run_batch(conn, keys, position, upto, write_all)
            except Exception:  # whatever it is: each projection apart, so that one does not stop all
                if conn.broken:
                    raise
                self._daily_partitions.invalidate()
                events = await self._run_batch(conn, keys, position, upto, write_each)
        if events:
            self.stats.events += events
            self.stats.batches += 1
            self.stats.batch_seconds += asyncio.get_running_loop().time() - started
        return BatchResult(events, caught_up=False, contended=not events)

    async def retry(self, name: str, stream: str, operator: Operator) -> bool:
        """Apply what was left out of a parked stream, in every generation that leaves it out and is not
        still being filled, up to its checkpoint. False if it had to be parked again in one.

        Raises InvalidProjectionState when there is nothing to retry, or that is for a later release to do;
        AlreadyDone, psycopg.Error, KeyError.
        """
        projection = self._projections[name]
        all_applied = True
        async with self._connection as conn:
            await self._clock.refresh(conn)
            parked_generations = await checkpoints.find_generations_with_parked_stream(conn, name, stream)
            if not parked_generations:
                raise InvalidProjectionState(
                    f"{stream} is not left out of {name}: there is nothing to retry."
                )
            shapes = {
                generation: shape for generation, shape in parked_generations.items() if shape is not None
            }
            for generation, shape in shapes.items():
                # We would leave out what a later shape has more, and nobody would know of it.
                if shape > projection.shape:
                    raise InvalidProjectionState(
                        f"generation {generation} of {name} was built by a later release: use that one's "
                        "command."
                    )
            if not shapes:
                raise InvalidProjectionState(
                    f"{stream} is left out of generation {max(parked_generations)} of {name}, which is still "
                    "being filled: retry it when that catches up."
                )
            for generation in shapes:
                target = self._make_target(projection, generation)
                try:
                    all_applied &= await self._retry_generation(conn, target, stream, operator)
                except (psycopg.Error, LedgerError):
                    raise
                except Exception as error:  # what an event raises that cannot be read
                    raise InvalidProjectionState(
                        f"{name} cannot go on with it: {describe_error(error)}"
                    ) from None
                operator = operator._replace(idempotency_key=None)  # the call is known by its first
        return all_applied

    def _choose_range(self, positions: set[int], head: int) -> tuple[int, int]:
        """Where to go on from, and up to which position at most. Mostly where the furthest behind stands,
        until it meets the next; every other time where the furthest ahead does: readers wait for that."""
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
        keys: Sequence[GenerationKey],
        position: int,
        upto: int,
        write: Writer,
    ) -> int:
        missing_days: dict[GenerationKey, set[int]] = {}
        async with conn.transaction():
            has_parked = await checkpoints.lock(conn, keys, position)
            if not has_parked:
                return 0
            targets = [self._make_target(self._projections[key[0]], key[1]) for key in has_parked]
            fold = BatchFold(targets)
            recorded = await read_log(
                conn, self._codec, position, upto - position, ignored_topics=ignored_topics(targets)
            )
            missing_days = self._daily_partitions.find_missing(fold.get_days(recorded))
            if missing_days:
                raise psycopg.Rollback
            streams = {item.event.originator_id for item in recorded}
            keys_with_parked = [key for key, parked in has_parked.items() if parked]
            if keys_with_parked:
                targets_by_key = {target.key: target for target in targets}
                for key, stream in await checkpoints.find_parked(conn, keys_with_parked, streams):
                    targets_by_key[key].parked_streams.add(stream)
            load_errors = await self._load_states(conn, fold, recorded, position)
            for start in range(0, len(recorded), SLICE_EVENTS):
                fold.apply_events(recorded[start : start + SLICE_EVENTS], load_errors)
                await asyncio.sleep(0)
            self._aggregate_cache.put(fold.states)
            write_errors = await write(conn, targets)
            written = [member for member in targets if member.key not in write_errors]
            for member in written:
                await checkpoints.save_parked(conn, member)
            await checkpoints.move(conn, [member.key for member in written], upto)
        if missing_days:
            # DDL keeps out of the batch's transaction; the batch begins again with the partitions there.
            await self._daily_partitions.create(conn, missing_days)
            return await self._run_batch(conn, keys, position, upto, write)
        self._record_results(written, write_errors)
        if not written:
            return 0
        self.stats.position = max(self.stats.position, upto)
        return upto - position

    def _record_results(self, written: Iterable[Target], write_errors: Mapping[GenerationKey, str]) -> None:
        for target in written:
            self._retry_at.pop(target.key, None)
            self.stats.current_errors.pop(_format_key(target.key), None)
            for parked in target.newly_parked:
                _log.error("%s parks %s from %d: %s", _format_key(target.key), *parked)
        for key, error in write_errors.items():
            self._retry_at[key] = asyncio.get_running_loop().time() + BACKOFF_SECONDS_MAX
            self._record_failure(_format_key(key), error)

    async def _load_states(
        self, conn: Conn, fold: BatchFold, recorded: Sequence[Recorded], position: int
    ) -> dict[str, Exception]:
        """Give `fold` the aggregates as of `position`; the streams that cannot be folded, and why."""
        versions = fold.get_prior_versions(recorded)
        uncached: list[str] = []
        for stream, version in versions.items():
            if version:
                state = self._aggregate_cache.get(stream, version)
                if state is None:
                    uncached.append(stream)
                else:
                    fold.states[stream] = state
        try:
            if uncached:
                fold.states |= await read_states_at(conn, self._codec, uncached, position)
        except psycopg.Error:
            raise
        except Exception:
            return await self._load_states_one_by_one(conn, fold, uncached, position)
        return {}

    async def _load_states_one_by_one(
        self, conn: Conn, fold: BatchFold, streams: Iterable[str], position: int
    ) -> dict[str, Exception]:
        load_errors: dict[str, Exception] = {}
        for stream in streams:
            try:
                fold.states |= await read_states_at(conn, self._codec, [stream], position)
            except psycopg.Error:
                raise
            except Exception as error:  # the pass parks it
                load_errors[stream] = error
        return load_errors

    async def _retry_generation(self, conn: Conn, target: Target, stream: str, operator: Operator) -> bool:
        missing_days: dict[GenerationKey, set[int]] = {}
        async with conn.transaction():
            position_range = await checkpoints.unpark(conn, target.key, stream)
            if position_range is None:
                return True
            first_position, upto = position_range
            events = await read_stream(conn, self._codec, stream, upto=upto)
            parked_events = [item for item in events if item.position >= first_position]
            fold = BatchFold([target])
            missing_days = self._daily_partitions.find_missing(fold.get_days(parked_events))
            if missing_days:
                raise psycopg.Rollback
            fold.apply_events(
                parked_events, await self._load_states(conn, fold, parked_events, first_position - 1)
            )
            write_errors = await write_each(conn, [target])
            if write_errors:
                raise psycopg.Rollback
            await checkpoints.save_parked(conn, target)
            details = {"stream": stream, "healed": not target.newly_parked}
            await operations.record(conn, operator, "retry", *target.key, upto, details)
        if missing_days:
            await self._daily_partitions.create(conn, missing_days)
            return await self._retry_generation(conn, target, stream, operator)
        return not write_errors and not target.newly_parked

    def _make_target(self, projection: Projection, generation: int) -> Target:
        retention_start = partitions.get_retention_start(self._clock.now(), projection.retention_days)
        return Target(projection, generation, retention_start)

    def _record_failure(self, label: str, error: Exception | str) -> None:
        text = error if isinstance(error, str) else describe_error(error)
        self.stats.failures += 1
        if self.stats.current_errors.get(label) != text:
            _log.error("%s cannot go on: %s", label or "projections", text)
        self.stats.current_errors[label] = text


class _AggregateCache:
    """The aggregates last folded. One of version n is what event n + 1 of its stream follows on: so
    whatever else has moved since, what is recalled is right."""

    def __init__(self, entries_max: int) -> None:
        self._states: dict[str, State] = {}
        self._entries_max = entries_max

    def get(self, stream: str, version: int) -> State | None:
        state = self._states.get(stream)
        return state if state is not None and state.version == version else None

    def put(self, states: Mapping[str, State]) -> None:
        cached = self._states
        for stream, state in states.items():
            cached.pop(stream, None)
            cached[stream] = state
        while len(cached) > self._entries_max:
            del cached[next(iter(cached))]


def _format_key(key: GenerationKey) -> str:
    return f"{key[0]}_g{key[1]}" if key[0] else ""
