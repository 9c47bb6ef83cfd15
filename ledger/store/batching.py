"""A queue of many callers with one worker, which processes pending items in batches.

Items submitted while a batch is processed form the next batch. There is no timer: an idle worker starts at
once, or when the callers that run now have submitted theirs. The queue is bounded: a full one refuses
callers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from ledger.errors import QueueFull, Unavailable
from ledger.time_limits import RequestLimit, adopt_request_limit, get_request_limit

CLOSE_TIMEOUT_SECONDS = 3.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pending(NamedTuple, Generic[Item, Result]):
    """One caller's item, and the future that gets its result."""

    item: Item
    future: asyncio.Future[Result]


class BatchQueue(Generic[Item, Result]):
    """Calls `process_batch` with up to `batch_max` pending items. `process_batch` sets the result of each
    item; the items without a result get the exception that it raises. At most `queue_max` items wait.

    A batch of fewer than `gather_max` items waits for more as long as each turn of the event loop brings one,
    unless as many wait as there were callers last time: callers that come back after a batch come together.
    """

    def __init__(
        self,
        process_batch: Callable[[list[Pending[Item, Result]]], Awaitable[None]],
        *,
        batch_max: int,
        queue_max: int,
        gather_max: int = 0,
    ) -> None:
        self._process_batch = process_batch
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._gather_max = gather_max
        self._callers = 0
        self._limit: RequestLimit | None = None
        self._queue: deque[Pending[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def start(self, name: str) -> None:
        """Begin to process, in a task of this name."""
        self._task = asyncio.create_task(self._run(), name=name)

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item; the future gets its result. Raises QueueFull, and Unavailable after `close`."""
        if len(self._queue) >= self._queue_max:
            raise QueueFull
        if self._closing:
            raise Unavailable("shutting down")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(Pending(item, future))
        if len(self._queue) == 1 or _ends_later(get_request_limit(), self._limit):
            self._limit = get_request_limit()
        self._wake.set()
        return future

    async def close(self) -> None:
        """Process everything submitted, then stop. What takes longer than CLOSE_TIMEOUT_SECONDS is cancelled,
        and its callers get Unavailable."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _fail(self._queue, Unavailable("shutting down"))

    async def _run(self) -> None:
        queue = self._queue
        while True:
            if not queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._gather()
            adopt_request_limit(self._limit)  # that of whoever may wait longest
            batch = self._take_batch()
            if not batch:
                continue
            try:
                await self._process_batch(batch)
                self._callers = len(batch) + len(queue)
            except Exception as error:
                _fail(batch, error)
            except asyncio.CancelledError:
                _fail(batch, Unavailable("shutting down"))
                raise

    def _take_batch(self) -> list[Pending[Item, Result]]:
        """The next items, without those whose caller waits no longer: it has been answered, and repeats its
        request perhaps."""
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
        return [pending for pending in batch if not pending.future.cancelled()]

    async def _gather(self) -> None:
        wanted = min(self._callers, self._gather_max)
        length = 0
        while length < len(self._queue) < wanted:
            length = len(self._queue)
            await asyncio.sleep(0)


def _ends_later(limit: RequestLimit | None, other: RequestLimit | None) -> bool:
    """Whether a request may take longer than another one. What belongs to none has time."""
    return other is not None and (limit is None or limit.deadline > other.deadline)


def _fail(batch: Iterable[Pending[Item, Result]], error: Exception) -> None:
    for pending in batch:
        if not pending.future.done():
            pending.future.set_exception(error)
