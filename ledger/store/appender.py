"""Call `ledger.append_batch` exactly once for each batch, also when the connection breaks in the middle.

An appender has an id of its own and numbers its batches 1, 2, 3 … `ledger.append_batch` stores the number and
the result of the appender's last batch in the same transaction as the batch's events. The next batch is sent
only when the result of the last one is known, or when waiting for it has timed out.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, NamedTuple

import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from ledger.clock import Clock
from ledger.errors import Unavailable
from ledger.postgres.connections import Conn, ReconnectingConnection, first_line
from ledger.store.arrays import (
    BOOLEAN,
    BYTEA,
    INTEGER,
    SMALLINT,
    TEXT,
    ElementType,
    decode_integers,
    encode_array,
)
from ledger.store.log import PLANNER_OPTIONS

RECONNECT_PAUSE_SECONDS = 0.05

CheckRow = tuple[int, str, int]
"""Index of a command in the batch, a stream, and the version that it must have; 0: no event yet."""
EventRow = tuple[
    int, str, int, str, bytes, str, bool, str | None, str | None, str | None, str | None,
    str | None, str | None, str | None,
]  # fmt: skip
"""Command, stream, version, topic, state; account, livemode, actor, request id, idempotency key; causation;
the customer, charge and payment intent that the stream belongs to."""
ReplyRow = tuple[
    int, str, bool, str | None, str, int, str, str | None, int | None, str | None, int | None
]  # fmt: skip
"""Command; account, livemode, idempotency key; fingerprint, status, body, secret object's id and secret's
offset; request id; the place in the batch, from 1, of the command's last event, None if it has no events."""

# The arguments of `ledger.append_batch` are the columns of these rows, in order.
_CHECK = (INTEGER, TEXT, INTEGER)
_EVENT = (INTEGER, TEXT, INTEGER, TEXT, BYTEA, TEXT, BOOLEAN, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
_REPLY = (INTEGER, TEXT, BOOLEAN, TEXT, TEXT, SMALLINT, TEXT, TEXT, INTEGER, TEXT, INTEGER)
_PARAMETER_COUNT = 3 + len(_CHECK) + len(_EVENT) + len(_REPLY)
_BINARY = [1] * _PARAMETER_COUNT
_STATEMENT = b"append"
_ARGUMENTS = ", ".join(f"${number + 1}" for number in range(_PARAMETER_COUNT))
_APPEND = f"SELECT * FROM ledger.append_batch({_ARGUMENTS})".encode()  # noqa: S608  # only numbers
_INT8 = Struct(">q")
_FLOAT8 = Struct(">d")


class BatchResult(NamedTuple):
    """What `ledger.append_batch` did with a batch.

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
    - broken after the commit, before the result arrived: `ledger.append_batch` finds the number, appends
      nothing and returns the stored result;
    - a backend has not noticed and still works on it: the second sending waits for the head lock that this
      backend holds, then finds one of the two cases above.

    So no batch is appended twice, and no command that was appended is reported as rejected. After the timeout
    the outcome is unknown: the callers get Unavailable, and a retry under an idempotency key gets the stored
    reply. If that batch reaches the database after all, but later than the next one, `ledger.append_batch`
    refuses its lower number.
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
        arrays = [
            *_encode_columns(checks, _CHECK),
            *_encode_columns(events, _EVENT),
            *_encode_columns(replies, _REPLY),
        ]
        self._batch_number += 1
        number = _INT8.pack(self._batch_number)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    conn = await self._connection.get()
                    return await self._send(
                        conn, [self.id.bytes, number, _FLOAT8.pack(self._clock.now()), *arrays]
                    )
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                disconnected = isinstance(error, TimeoutError) or self._connection.is_disconnected
                # Dropped in any case: a session that began on a read-only database stays read-only.
                await self._connection.drop()
                if not disconnected or loop.time() + RECONNECT_PAUSE_SECONDS >= deadline:
                    raise Unavailable(first_line(error)) from error
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    async def _send(self, conn: Conn, parameters: list[bytes | None]) -> BatchResult:
        """One sending of a batch. By libpq's calls: a cursor costs four times as much, for a statement whose
        types never change."""
        if conn is not self._prepared_on:
            conn.pgconn.send_prepare(_STATEMENT, _APPEND)
            await _fetch_result(conn)
            self._prepared_on = conn
        conn.pgconn.send_query_prepared(_STATEMENT, parameters, _BINARY, result_format=1)
        result = await _fetch_result(conn)
        base, stale, taken = (result.get_value(0, column) for column in range(3))
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


def _encode_columns(rows: Sequence[tuple[Any, ...]], types: Sequence[ElementType]) -> Iterable[bytes | None]:
    """The columns of the rows as arrays; NULLs if there are no rows."""
    if not rows:
        return [None] * len(types)
    return map(encode_array, zip(*rows, strict=True), types)
