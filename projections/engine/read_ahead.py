"""Prepares the next batch of a backlog while the current one is being written, on a connection of its own.

Rows follow from the log alone, and the log never changes. So a batch may be read and folded before the one in
front of it has committed. It is used only if it turns out to be the very batch that comes next, for
generations that have parked nothing by then. Otherwise it is dropped, which costs time, never rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from ledger.postgres.connections import ANSWER_GRACE_SECONDS, Conn, ReconnectingConnection
from ledger.store.log import PLANNER_SETTINGS, Recorded
from projections.engine.batch import BatchFold, GenerationKey, Target

_STATEMENT_SECONDS_MAX = 60
_SETTINGS = PLANNER_SETTINGS | {"statement_timeout": f"{_STATEMENT_SECONDS_MAX}s"}


class BatchRange(NamedTuple):
    """What a batch applies: to which generations, after which position, up to which."""

    keys: frozenset[GenerationKey]
    position: int
    upto: int


class PreparedBatch(NamedTuple):
    """The recorded events of a batch, and its targets with the rows that `fold` gave them: of events as they
    were in the erasure epoch `erasures`."""

    recorded: list[Recorded]
    fold: BatchFold
    targets: list[Target]
    erasures: int


Prepare = Callable[[Conn, BatchRange], Awaitable[PreparedBatch]]


class ReadAhead:
    """At most one batch, prepared in the background between `start` and `take`.

    prepare  reads and folds a batch; without a look at parked streams
    """

    def __init__(self, dsn: str, prepare: Prepare) -> None:
        self._connection = ReconnectingConnection(
            dsn,
            "ledger_projector",
            name="read-ahead",
            settings=_SETTINGS,
            prepare_threshold=None,
            answer_seconds=_STATEMENT_SECONDS_MAX + ANSWER_GRACE_SECONDS,
        )
        self._prepare = prepare
        self._range: BatchRange | None = None
        self._task: asyncio.Future[PreparedBatch] | None = None

    def start(self, batch_range: BatchRange) -> None:
        """Begin to prepare this batch."""
        assert self._task is None, "the batch before was taken"
        self._range = batch_range
        self._task = asyncio.create_task(self._run(batch_range), name="projections read-ahead")

    def has(self, batch_range: BatchRange) -> bool:
        """Whether this batch is being prepared, or is prepared."""
        return self._task is not None and self._range == batch_range

    def put_back(self, batch_range: BatchRange, batch: PreparedBatch) -> None:
        """Keep a batch that was not written, for the next `take`."""
        assert self._task is None, "the batch before was taken"
        self._range = batch_range
        self._task = asyncio.get_running_loop().create_future()
        self._task.set_result(batch)

    async def take(
        self, batch_range: BatchRange, parked: Iterable[bool], erasures: int
    ) -> PreparedBatch | None:
        """The batch that was prepared, if it is this one, no generation has `parked` a stream and nothing was
        erased since. None: the caller reads the batch itself, and meets the same error if there was one."""
        task = self._task
        if task is None:
            return None
        if self._range != batch_range or any(parked):
            await self.drop()
            return None
        self._task = None
        try:
            batch = await task
            return batch if batch.erasures == erasures else None
        except Exception:  # whatever it is: it happens again to the caller, or is gone
            return None

    def forget(self) -> None:
        """Take nothing of what was prepared, or is being prepared: the log has lost some of it."""
        self._range = None

    async def drop(self) -> None:
        """Forget what was prepared, or is being prepared."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Forget what was prepared, and close the connection: until the next `start`."""
        await self.drop()
        await self._connection.drop()

    async def _run(self, batch_range: BatchRange) -> PreparedBatch:
        async with self._connection as conn:
            return await self._prepare(conn, batch_range)
