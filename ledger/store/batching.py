"""Many callers, one worker: what waits is drained into one piece of work while the last one runs.

No timer and no added delay: an idle worker starts at once with what is there. Callers beyond the
bound are refused, never queued without limit. Closing finishes what was taken on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from ledger.errors import Overloaded, Unavailable

CLOSE_SECONDS = 3.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Waiting(NamedTuple, Generic[Item, Result]):
    """One caller's item and where its answer goes."""

    item: Item
    answer: asyncio.Future[Result]


class Drain(Generic[Item, Result]):
    """Calls `work` with up to `batch_max` waiting items; `work` must answer each of them."""

    def __init__(
        self,
        work: Callable[[list[Waiting[Item, Result]]], Awaitable[None]],
        *,
        batch_max: int,
        queue_max: int,
    ) -> None:
        self._work = work
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._queue: deque[Waiting[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def start(self, name: str) -> None:
        self._task = asyncio.create_task(self._run(), name=name)

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """The answer to come. Raises Overloaded when the queue is full, Unavailable when closing."""
        if len(self._queue) >= self._queue_max:
            raise Overloaded
        if self._closing:
            raise Unavailable("shutting down")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(item, answer))
        self._wake.set()
        return answer

    async def close(self) -> None:
        """Finish everything submitted, then stop; what hangs longer than CLOSE_SECONDS is given up."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        queue = self._queue
        while True:
            if not queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [queue.popleft() for _ in range(min(len(queue), self._batch_max))]
            try:
                await self._work(batch)
            except Exception as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
