"""Append each batch exactly once, also when the connection breaks in the middle.

An appender has an id of its own and numbers its batches 1, 2, 3 … The database (migration 0039) stores the
number and the result of the appender's last batch in the same transaction as the batch's events. The next
batch is sent only when the result of the last one is known, or when waiting for it has timed out.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import NamedTuple

import psycopg

from ledger.clock import Clock
from ledger.errors import Unavailable
from ledger.postgres.connections import Conn, connect, first_line
from ledger.postgres.prepared import PreparedConnection
from ledger.store.append_call import Batch, Function, encode_call
from ledger.store.arrays import BIGINT, decode_integers, decode_record
from ledger.store.log import PLANNER_SETTINGS
from ledger.time_limits import Attempts

ANSWER_GRACE_SECONDS = 0.5
"""For how long the database may still say that it has given a batch up at the timeout. Were the connection
closed before it has, its backend could append the batch a moment later."""

NoteFailover = Callable[[Conn], Awaitable[None]]
_BEFORE_ALL_ERASURES = BIGINT.encode(-1)
_INT8 = Struct(">q")
_FLOAT8 = Struct(">d")


class BatchResult(NamedTuple):
    """What the database did with a batch.

    last_position      the log's last position before the batch; the accepted events follow it in order
    version_conflicts  indexes of the commands rejected because a stream has another version
    key_conflicts      indexes of the commands rejected because their idempotency key has a reply
    erasures           the erasure epoch now, if it is above that of the batch: then all commands were
                       rejected, unless the batch began an erasure itself
    """

    last_position: int
    version_conflicts: list[int]
    key_conflicts: list[int]
    erasures: int | None = None


class Appender:
    """Sends batches, one after the other, over a connection of its own.

    When the connection breaks while a batch is under way, this process cannot know whether it was committed.
    The batch is sent again under the same number, until `timeout_ms` have passed since it was first sent:

    - broken before the commit: nothing was stored; the batch is committed now;
    - broken after the commit, before the result arrived: the database finds the number, appends nothing
      and returns the stored result;
    - a backend has not noticed and still works on it: the second sending waits for the head lock that this
      backend holds, then finds one of the two cases above;
    - the server does not answer: after half of the time that is left the connection counts as broken.

    So no batch is appended twice, and no command that was appended is reported as rejected. After the timeout
    the callers get Unavailable. The database itself ends a statement then, and says so; without its answer
    the outcome is unknown, and a retry under an idempotency key gets the stored reply. If that batch reaches
    the database after all, but later than the next one, its lower number is refused.

    `note_failover` is told of each new connection. A batch that was made before a failover is committed only
    if it was before, too: it may be sealed under a key that the new primary never had, and that nobody could
    open later. Any other is refused like one of an earlier erasure epoch, and decided again.
    """

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        *,
        timeout_ms: int,
        note_failover: NoteFailover | None = None,
    ) -> None:
        self.id = uuid.uuid4()
        self._clock = clock
        self._timeout_seconds = timeout_ms / 1000
        self._batch_number = 0
        self._dsn = dsn
        self._note_failover = note_failover
        self._settings = PLANNER_SETTINGS | {"statement_timeout": f"{timeout_ms}ms"}
        self._connection: PreparedConnection | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    async def append(
        self,
        batch: Batch,
        *,
        with_creations: bool = False,
        is_outdated: Callable[[], bool] = lambda: False,
    ) -> BatchResult:
        """Append one batch; `with_creations` as for `encode_call`; `is_outdated` says whether the database
        has failed over since the batch was made.

        Raises Unavailable when the outcome is unknown or the database cannot store anything now,
        psycopg.DataError and psycopg.IntegrityError when a row cannot be stored; then nothing was stored.
        Raises TypeError, ValueError and struct.error for a row that cannot be encoded; nothing was sent.
        """
        function, arguments = encode_call(batch, with_creations=with_creations)
        self._batch_number += 1
        number = _INT8.pack(self._batch_number)
        attempts = Attempts(asyncio.get_running_loop().time() + self._timeout_seconds)
        failure: Exception | None = None
        while True:
            deadline = attempts.begin()
            # The last attempt waits for what the database itself says at the timeout.
            grace_seconds = ANSWER_GRACE_SECONDS if deadline == attempts.deadline else 0.0
            connection = self._connection
            try:
                if connection is not None and connection.is_suspect:
                    connection.close()
                if connection is None or connection.closed:
                    connection = self._connection = await self._connect(deadline)
                if is_outdated():
                    arguments[0] = _BEFORE_ALL_ERASURES
                at = _FLOAT8.pack(self._clock.now())
                values = [self.id.bytes, number, at, *arguments]
                return await _send(connection, function, values, deadline + grace_seconds)
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                # What an earlier attempt met says more than that the last one took too long.
                failure = failure if failure is not None and isinstance(error, TimeoutError) else error
                disconnected = connection is None or connection.closed
                # Dropped in any case: a session that began on a read-only database stays read-only.
                await self.close()
            if not (disconnected and await attempts.pause(failure)):
                raise Unavailable(first_line(failure)) from failure

    async def _connect(self, deadline: float) -> PreparedConnection:
        async with asyncio.timeout_at(deadline):
            conn = await connect(self._dsn, "ledger_api", name="journal", settings=self._settings)
            try:
                if self._note_failover is not None:
                    await self._note_failover(conn)
            except psycopg.errors.ObjectNotInPrerequisiteState:
                pass  # a standby: the append says so
            except BaseException:
                await conn.close()
                raise
        return PreparedConnection(conn)


async def _send(
    connection: PreparedConnection, function: Function, arguments: list[bytes | None], deadline: float
) -> BatchResult:
    """Send the batch once."""
    result = await connection.run(function.statement, arguments, function.formats, deadline=deadline)
    record = result.get_value(0, 0)
    assert record is not None
    base, stale, taken, erasures = decode_record(record)
    assert base is not None
    return BatchResult(
        _INT8.unpack(base)[0],
        decode_integers(stale) if stale is not None else [],
        decode_integers(taken) if taken is not None else [],
        _INT8.unpack(erasures)[0] if erasures is not None else None,
    )
