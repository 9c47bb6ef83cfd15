"""Identical reads that meet run once: whoever waits for the same read gets the result of one run.

A run that has begun is never joined: a result always comes from a run that began after its caller asked for
it, so sharing makes no answer older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Read = Callable[[], Awaitable[Result]]


class SharedReads(Generic[Key, Result]):
    """The reads of one process. The key of a read names everything that its result depends on."""

    def __init__(self) -> None:
        # By key, while a read of it runs: those who wait for the next run, and what that one runs.
        self._waiting: dict[Key, list[tuple[asyncio.Future[Result], Read[Result]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, key: Key, read: Read[Result]) -> Result:
        """The result of `read`, or of the read that another caller of the same key gave. Raises what that
        one raises."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            waiting.append((future, read))
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
            _, read = waiting[0]
            try:
                result = await read()
            except Exception as error:
                for future, _ in waiting:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, _ in waiting:
                    if not future.done():
                        future.set_result(result)
        del self._waiting[key]
