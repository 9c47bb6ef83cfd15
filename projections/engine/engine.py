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
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.errors import LedgerError, OperationRefused
from ledger.postgres.connections import Link
from ledger.store.codec import Codec, State
from ledger.store.log import PLANS, Recorded, history, states_at, tail
from ledger.store.notifications import Wake
from projections.engine import checkpoints, operations, partitions, registry
from projections.engine.assignment import Seats
from projections.engine.batch import Key, Member, Pass, unfollowed
from projections.engine.daily_partitions import Upkeep
from projections.engine.operations import Operator
from projections.engine.writes import write_apart, write_together
from projections.projection import Projection, described

BATCH_TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 0.01
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
# Events folded before the loop gets its turn: a few milliseconds.
SLICE_EVENTS = 64
# A process that hangs in a batch loses its checkpoints to another one …
_OPTIONS = f"{PLANS} -c idle_in_transaction_session_timeout=10s -c statement_timeout=60s"
# … and one that hangs between batches its seat: views of a seat that is taken, by a process that is
# stopped, would get one batch from others whenever they have stood still. One that runs looks more often.
IDLE_SECONDS_MAX = 3.0
IDLE_POLLS_MAX = 10

Write = Callable[[AsyncConnection[TupleRow], Sequence[Member]], Awaitable[dict[Key, str]]]

_log = logging.getLogger("ledger.projections")


class Advance(NamedTuple):
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
    seconds: float = 0.0
    position: int = 0
    head: int = 0
    failures: int = 0
    failing: dict[str, str] = field(default_factory=dict)


class Engine:
    """One runner. `dsn`: the projections' database; `wake` is the caller's, started and closed by it."""

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        clock: Clock,
        wake: Wake,
        *,
        projections: Iterable[Projection] = registry.PROJECTIONS,
        batch_max: int = 1000,
        poll_ms: int = 100,
        remembered_max: int = 50_000,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._wake = wake
        self._projections = {projection.name: projection for projection in projections}
        self._shapes = {projection.name: projection.shape for projection in self._projections.values()}
        self._batch_max = batch_max
        self._poll_seconds = poll_ms / 1000
        idle_ms = max(IDLE_SECONDS_MAX * 1000, IDLE_POLLS_MAX * poll_ms)
        options = f"{_OPTIONS} -c idle_session_timeout={idle_ms:.0f}"
        self._link = Link(dsn, "ledger_projector", name="projections", options=options)
        self._memory = _Memory(remembered_max)
        self._upkeep = Upkeep()
        self._seats = Seats(self._shapes)
        self._not_before: dict[Key, float] = {}
        self._last_was_lowest = False
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.stats = EngineStats()

    async def run(self) -> None:
        """Follow the log until closed or cancelled. Whatever happens to a batch, it is tried again."""
        self._idle.clear()
        pause = RETRY_SECONDS_MIN
        try:
            while not self._stopping.is_set():
                heard = self._wake.position
                try:
                    async with asyncio.timeout(BATCH_TIMEOUT_SECONDS):
                        advance = await self.advance()
                except Exception as error:  # the edge: told, waited out, tried again
                    self._failed("", error)
                    await self._rest(pause)
                    pause = min(pause * 2, RETRY_SECONDS_MAX)
                    continue
                self.stats.failing.pop("", None)
                pause = RETRY_SECONDS_MIN
                if advance.contended:
                    await self._rest(self._poll_seconds)
                elif not advance.events:
                    await self._wake.beyond(max(heard, self.stats.head), timeout_seconds=self._poll_seconds)
                elif advance.events < self._batch_max:
                    # Under a steady load what comes meanwhile makes one batch, not many; what comes now
                    # and then finds the pause over.
                    await self._rest(PAUSE_SECONDS)
        finally:
            self._idle.set()

    async def close(self) -> None:
        """Finish the batch under way, then stop."""
        self._stopping.set()
        await self._idle.wait()
        await self._link.drop()

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def advance(self) -> Advance:
        """Apply the next events to the checkpoints that stand before them: one batch, one transaction.

        Raises psycopg.Error, and what reading an unreadable event raises; then nothing has changed.
        """
        started = asyncio.get_running_loop().time()
        async with self._link as conn:
            await self._clock.refresh(conn)
            await self._upkeep.run(conn, self._projections.values(), self._clock.now())
            standing, head = await checkpoints.standing(conn, self._shapes)
            self.stats.head = head
            behind = {key: position for key, position in standing.items() if position < head}
            ours = await self._seats.ours(conn, self._projections, behind)
            ready = {key: at for key, at in ours.items() if self._not_before.get(key, 0.0) <= started}
            if not ready:
                return Advance(0, caught_up=not behind, contended=len(ours) < len(behind))
            position, upto = self._choose(set(ready.values()), head)
            group = [key for key, at in ready.items() if at == position]
            try:
                events = await self._batch(conn, group, position, upto, write_together)
            except Exception:  # whatever it is: each projection apart, so that one does not stop all
                if conn.broken:
                    raise
                self._upkeep.forget()
                events = await self._batch(conn, group, position, upto, write_apart)
        if events:
            self.stats.events += events
            self.stats.batches += 1
            self.stats.seconds += asyncio.get_running_loop().time() - started
        return Advance(events, caught_up=False, contended=not events)

    async def retry(self, name: str, stream: str, operator: Operator) -> bool:
        """Apply what was left out of a parked stream, in every generation that leaves it out and is not
        still being filled, up to its checkpoint. False if it had to be parked again in one.

        Raises OperationRefused when there is nothing to retry, or that is for a later release to do;
        AlreadyDone, psycopg.Error, KeyError.
        """
        projection = self._projections[name]
        healed = True
        async with self._link as conn:
            await self._clock.refresh(conn)
            parking = await checkpoints.generations_parking(conn, name, stream)
            if not parking:
                raise OperationRefused(f"{stream} is not left out of {name}: there is nothing to retry.")
            shapes = {generation: shape for generation, shape in parking.items() if shape is not None}
            for generation, shape in shapes.items():
                # We would leave out what a later shape has more, and nobody would know of it.
                if shape > projection.shape:
                    raise OperationRefused(
                        f"generation {generation} of {name} was built by a later release: use that one's "
                        "command."
                    )
            if not shapes:
                raise OperationRefused(
                    f"{stream} is left out of generation {max(parking)} of {name}, which is still being "
                    "filled: retry it when that catches up."
                )
            for generation in shapes:
                member = self._member(projection, generation)
                try:
                    healed &= await self._retry(conn, member, stream, operator)
                except (psycopg.Error, LedgerError):
                    raise
                except Exception as error:  # what an event raises that cannot be read
                    raise OperationRefused(f"{name} cannot go on with it: {described(error)}") from None
                operator = operator._replace(key=None)  # the call is known by its first
        return healed

    def _choose(self, positions: set[int], head: int) -> tuple[int, int]:
        """Where to go on from, and up to which position at most. Mostly where the furthest behind stands,
        until it meets the next; every other time where the furthest ahead does: readers wait for that."""
        lowest, highest = min(positions), max(positions)
        if lowest < highest:
            self._last_was_lowest = not self._last_was_lowest
            if self._last_was_lowest:
                meeting = min(position for position in positions if position > lowest)
                return lowest, min(lowest + self._batch_max, meeting)
        return highest, min(highest + self._batch_max, head)

    async def _batch(
        self, conn: AsyncConnection[TupleRow], group: Sequence[Key], position: int, upto: int, write: Write
    ) -> int:
        days: dict[Key, set[int]] = {}
        async with conn.transaction():
            locked = await checkpoints.lock(conn, group, position)
            if not locked:
                return 0
            members = [self._member(self._projections[key[0]], key[1]) for key in locked]
            reading = Pass(members)
            recorded = await tail(conn, self._codec, position, upto - position, without=unfollowed(members))
            days = self._upkeep.missing(reading.days(recorded))
            if days:
                raise psycopg.Rollback
            streams = {item.event.originator_id for item in recorded}
            parking = [key for key, parked in locked.items() if parked]
            if parking:
                by_key = {member.key: member for member in members}
                for key, stream in await checkpoints.parked_of(conn, parking, streams):
                    by_key[key].parked.add(stream)
            broken = await self._begin(conn, reading, recorded, position)
            for start in range(0, len(recorded), SLICE_EVENTS):
                reading.read(recorded[start : start + SLICE_EVENTS], broken)
                await asyncio.sleep(0)
            self._memory.remember(reading.states)
            failed = await write(conn, members)
            moved = [member for member in members if member.key not in failed]
            for member in moved:
                await checkpoints.park(conn, member)
            await checkpoints.move(conn, [member.key for member in moved], upto)
        if days:
            # DDL keeps out of the batch's transaction; the batch begins again with the partitions there.
            await self._upkeep.make(conn, days)
            return await self._batch(conn, group, position, upto, write)
        self._settle(moved, failed)
        if not moved:
            return 0
        self.stats.position = max(self.stats.position, upto)
        return upto - position

    def _settle(self, moved: Iterable[Member], failed: Mapping[Key, str]) -> None:
        for member in moved:
            self._not_before.pop(member.key, None)
            self.stats.failing.pop(_label(member.key), None)
            for parking in member.parkings:
                _log.error("%s parks %s from %d: %s", _label(member.key), *parking)
        for key, error in failed.items():
            self._not_before[key] = asyncio.get_running_loop().time() + RETRY_SECONDS_MAX
            self._failed(_label(key), error)

    async def _begin(
        self, conn: AsyncConnection[TupleRow], reading: Pass, recorded: Sequence[Recorded], position: int
    ) -> dict[str, Exception]:
        """Give `reading` the aggregates as of `position`; the streams that cannot be folded, and why."""
        versions = reading.begin(recorded)
        unknown: list[str] = []
        for stream, version in versions.items():
            if version:
                state = self._memory.recall(stream, version)
                if state is None:
                    unknown.append(stream)
                else:
                    reading.states[stream] = state
        try:
            if unknown:
                reading.states |= await states_at(conn, self._codec, unknown, position)
        except psycopg.Error:
            raise
        except Exception:
            return await self._begin_apart(conn, reading, unknown, position)
        return {}

    async def _begin_apart(
        self, conn: AsyncConnection[TupleRow], reading: Pass, streams: Iterable[str], position: int
    ) -> dict[str, Exception]:
        broken: dict[str, Exception] = {}
        for stream in streams:
            try:
                reading.states |= await states_at(conn, self._codec, [stream], position)
            except psycopg.Error:
                raise
            except Exception as error:  # the pass parks it
                broken[stream] = error
        return broken

    async def _retry(
        self, conn: AsyncConnection[TupleRow], member: Member, stream: str, operator: Operator
    ) -> bool:
        missing: dict[Key, set[int]] = {}
        async with conn.transaction():
            unparked = await checkpoints.unpark(conn, member.key, stream)
            if unparked is None:
                return True
            first, upto = unparked
            events = await history(conn, self._codec, stream, upto=upto)
            left_out = [item for item in events if item.position >= first]
            reading = Pass([member])
            missing = self._upkeep.missing(reading.days(left_out))
            if missing:
                raise psycopg.Rollback
            reading.read(left_out, await self._begin(conn, reading, left_out, first - 1))
            failed = await write_apart(conn, [member])
            if failed:
                raise psycopg.Rollback
            await checkpoints.park(conn, member)
            told = {"stream": stream, "healed": not member.parkings}
            await operations.record(conn, operator, "retry", *member.key, upto, told)
        if missing:
            await self._upkeep.make(conn, missing)
            return await self._retry(conn, member, stream, operator)
        return not failed and not member.parkings

    def _member(self, projection: Projection, generation: int) -> Member:
        since = partitions.rows_since(self._clock.now(), projection.days_kept)
        return Member(projection, generation, since)

    def _failed(self, label: str, error: Exception | str) -> None:
        text = error if isinstance(error, str) else described(error)
        self.stats.failures += 1
        if self.stats.failing.get(label) != text:
            _log.error("%s cannot go on: %s", label or "projections", text)
        self.stats.failing[label] = text


class _Memory:
    """The aggregates last folded. One of version n is what event n + 1 of its stream follows on: so
    whatever else has moved since, what is recalled is right."""

    def __init__(self, remembered_max: int) -> None:
        self._states: dict[str, State] = {}
        self._remembered_max = remembered_max

    def recall(self, stream: str, version: int) -> State | None:
        state = self._states.get(stream)
        return state if state is not None and state.version == version else None

    def remember(self, states: Mapping[str, State]) -> None:
        known = self._states
        for stream, state in states.items():
            known.pop(stream, None)
            known[stream] = state
        while len(known) > self._remembered_max:
            del known[next(iter(known))]


def _label(key: Key) -> str:
    return f"{key[0]}_g{key[1]}" if key[0] else ""
