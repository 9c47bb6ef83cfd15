"""Append each batch exactly once, also when the connection breaks in the middle.

An appender has an id of its own and numbers its batches 1, 2, 3 … The database (migration 0021) stores the
number and the result of the appender's last batch in the same transaction as the batch's events. The next
batch is sent only when the result of the last one is known, or when waiting for it has timed out.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from ledger.clock import Clock
from ledger.errors import Unavailable
from ledger.postgres.connections import Conn, ReconnectingConnection, first_line
from ledger.store.append_call import (
    APPEND_MANY,
    APPEND_ONE,
    CheckRow,
    EventRow,
    Function,
    ReplyRow,
    encode_call,
)
from ledger.store.arrays import decode_integers, decode_record
from ledger.store.log import PLANNER_OPTIONS

RECONNECT_PAUSE_SECONDS = 0.05

_INT8 = Struct(">q")
_FLOAT8 = Struct(">d")


class BatchResult(NamedTuple):
    """What the database did with a batch.

    last_position      the log's last position before the batch; the accepted events follow it in order
    version_conflicts  indexes of the commands rejected because a stream has another version
    key_conflicts      indexes of the commands rejected because their idempotency key has a reply
    """

    last_position: int
    version_conflicts: list[int]
    key_conflicts: list[int]


class Appender:
    """Sends batches, one after the other, over a connection of its own.

    When the connection breaks while a batch is under way, this process cannot know whether it was committed.
    The batch is sent again under the same number, until `timeout_ms` have passed since it was first sent:

    - broken before the commit: nothing was stored; the batch is committed now;
    - broken after the commit, before the result arrived: the database finds the number, appends nothing
      and returns the stored result;
    - a backend has not noticed and still works on it: the second sending waits for the head lock that this
      backend holds, then finds one of the two cases above.

    So no batch is appended twice, and no command that was appended is reported as rejected. After the timeout
    the outcome is unknown: the callers get Unavailable, and a retry under an idempotency key gets the stored
    reply. If that batch reaches the database after all, but later than the next one, its lower number is
    refused.
    """

    def __init__(self, dsn: str, clock: Clock, *, timeout_ms: int) -> None:
        self.id = uuid.uuid4()
        self._clock = clock
        self._timeout_seconds = timeout_ms / 1000
        self._batch_number = 0
        self._prepared_on: Conn | None = None
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="journal", options=f"{PLANNER_OPTIONS} -c statement_timeout={timeout_ms}"
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def append(
        self, checks: Sequence[CheckRow], events: Sequence[EventRow], replies: Sequence[ReplyRow]
    ) -> BatchResult:
        """Append one batch.

        Raises Unavailable when the outcome is unknown or the database cannot store anything now,
        psycopg.DataError and psycopg.IntegrityError when a row cannot be stored; then nothing was stored.
        Raises TypeError, ValueError and struct.error for a row that cannot be encoded; nothing was sent.
        """
        function, arguments = encode_call(checks, events, replies)
        self._batch_number += 1
        number = _INT8.pack(self._batch_number)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    conn = await self._connection.get()
                    at = _FLOAT8.pack(self._clock.now())
                    return await self._send(conn, function, [self.id.bytes, number, at, *arguments])
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                disconnected = isinstance(error, TimeoutError) or self._connection.is_disconnected
                # Dropped in any case: a session that began on a read-only database stays read-only.
                await self._connection.drop()
                if not disconnected or loop.time() + RECONNECT_PAUSE_SECONDS >= deadline:
                    raise Unavailable(first_line(error)) from error
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    async def _send(self, conn: Conn, function: Function, arguments: list[bytes | None]) -> BatchResult:
        """Send the batch once.

        By libpq's calls: a cursor would look up the types of the same statement for each batch
        (docs/decisions/0081-append-takes-arrays.md).
        """
        if conn is not self._prepared_on:
            for each in (APPEND_ONE, APPEND_MANY):
                conn.pgconn.send_prepare(each.name, each.statement)
                await _fetch_result(conn)
            self._prepared_on = conn
        conn.pgconn.send_query_prepared(function.name, arguments, function.formats, result_format=1)
        result = await _fetch_result(conn)
        record = result.get_value(0, 0)
        assert record is not None
        base, stale, taken = decode_record(record)
        assert base is not None
        return BatchResult(
            _INT8.unpack(base)[0],
            decode_integers(stale) if stale is not None else [],
            decode_integers(taken) if taken is not None else [],
        )


async def _fetch_result(conn: Conn) -> PGresult:
    """The result of what was sent over the connection. Raises psycopg.Error."""
    results: list[PGresult] = await conn.wait(execute(conn.pgconn))
    result = results[-1]
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return result
