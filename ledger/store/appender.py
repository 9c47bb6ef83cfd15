"""Call `ledger.append` exactly once for each batch, also when the connection breaks in the middle.

An appender has an id of its own and numbers its batches 1, 2, 3 … `ledger.append` stores the number and the
result of the appender's last batch in the same transaction as the batch's events. The next batch is sent only
when the result of the last one is known, or when waiting for it has timed out.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import NamedTuple

import psycopg

from ledger.clock import Clock
from ledger.errors import Unavailable
from ledger.postgres.connections import ReconnectingConnection, first_line
from ledger.store.log import PLANNER_OPTIONS

RECONNECT_PAUSE_SECONDS = 0.05

_APPEND = "SELECT * FROM ledger.append(%s, %s, %s, %s::json, %s::json, %s::json)"


class BatchResult(NamedTuple):
    """What `ledger.append` did with a batch.

    last_position      the log's last position before the batch; the accepted events follow it in order
    version_conflicts  indexes of the commands rejected because a stream has another version
    key_conflicts      indexes of the commands rejected because their idempotency key has a reply
    """

    last_position: int
    recorded_at: datetime
    version_conflicts: list[int]
    key_conflicts: list[int]


class Appender:
    """Sends batches, one after the other, over a connection of its own.

    When the connection breaks while a batch is under way, this process cannot know whether it was committed.
    The batch is sent again under the same number, until `timeout_ms` have passed since it was first sent:

    - broken before the commit: nothing was stored; the batch is committed now;
    - broken after the commit, before the result arrived: `ledger.append` finds the number, appends nothing
      and returns the stored result;
    - a backend has not noticed and still works on it: the second sending waits for the head lock that this
      backend holds, then finds one of the two cases above.

    So no batch is appended twice, and no command that was appended is reported as rejected. After the timeout
    the outcome is unknown: the callers get Unavailable, and a retry under an idempotency key gets the stored
    reply. If that batch reaches the database after all, but later than the next one, `ledger.append` refuses
    its lower number.
    """

    def __init__(self, dsn: str, clock: Clock, *, timeout_ms: int) -> None:
        self.id = uuid.uuid4()
        self._clock = clock
        self._timeout_seconds = timeout_ms / 1000
        self._batch_number = 0
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="journal", options=f"{PLANNER_OPTIONS} -c statement_timeout={timeout_ms}"
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def append(self, checks: str, events: str | None, replies: str | None) -> BatchResult:
        """Append one batch, given as the JSON arguments of `ledger.append`.

        Raises Unavailable when the outcome is unknown or the database cannot store anything now,
        psycopg.DataError and psycopg.IntegrityError when a row cannot be stored; then nothing was stored.
        """
        self._batch_number += 1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    conn = await self._connection.get()
                    cur = conn.cursor(binary=True)
                    arguments = (self.id, self._batch_number, self._clock.now(), checks, events, replies)
                    await cur.execute(_APPEND, arguments)
                    row = await cur.fetchone()
                assert row is not None
                return BatchResult(*row)
            except (psycopg.OperationalError, psycopg.InternalError, TimeoutError) as error:
                disconnected = isinstance(error, TimeoutError) or self._connection.is_disconnected
                # Dropped in any case: a session that began on a read-only database stays read-only.
                await self._connection.drop()
                if not disconnected or loop.time() + RECONNECT_PAUSE_SECONDS >= deadline:
                    raise Unavailable(first_line(error)) from error
            await asyncio.sleep(RECONNECT_PAUSE_SECONDS)
