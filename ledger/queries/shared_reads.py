"""Identical reads that meet run once: whoever waits for the same read gets the result of one run.

A run that has begun is never joined: a result always comes from a run that began after its caller asked for
it, so sharing makes no answer older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from ledger.time_limits import RequestLimit, adopt_request_limit, get_request_limit

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Read = Callable[[], Awaitable[Result]]


class _Waiting(NamedTuple, Generic[Result]):
    """A caller that waits for a run: what gets its result, what is run, and how long the caller waits."""

    future: asyncio.Future[Result]
    read: Read[Result]
    limit: RequestLimit | None


class SharedReads(Generic[Key, Result]):
    """The reads of one process. The key of a read names everything that its result depends on."""

    def __init__(self) -> None:
        # By key, while a read of it runs: those who wait for the next run.
        self._waiting: dict[Key, list[_Waiting[Result]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, key: Key, read: Read[Result]) -> Result:
        """The result of `read`, or of the read that another caller of the same key gave. Raises what that
        one raises."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            waiting.append(_Waiting(future, read, get_request_limit()))
            return await future
        self._waiting[key] = []
        try:
            return await read()  # without a task: most reads meet no other
        finally:
            if self._waiting[key]:
                task = asyncio.create_task(self._run_for_waiting(key), name="shared reads")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                del self._waiting[key]

    async def _run_for_waiting(self, key: Key) -> None:
        """Run the read again as long as someone waits for it."""
        while waiting := self._waiting[key]:
            self._waiting[key] = []
            # The task was made in the request whose run has ended. Who came last may wait longest.
            adopt_request_limit(waiting[-1].limit)
            try:
                result = await waiting[0].read()
            except Exception as error:
                for future, _, _ in waiting:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, _, _ in waiting:
                    if not future.done():
                        future.set_result(result)
        del self._waiting[key]
