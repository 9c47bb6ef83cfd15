"""Identical reads that meet run once, and none begins before its caller asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ledger.queries.shared_reads import SharedReads


class Source:
    """A value that changes, and a slow read of it: a read shows the value as of when it began."""

    def __init__(self) -> None:
        self.value = 0
        self.runs = 0
        self.second_run = asyncio.Event()
        self.shared: SharedReads[str, int] = SharedReads()

    async def read(self) -> int:
        self.runs += 1
        if self.runs == 2:
            self.second_run.set()
        value = self.value
        await asyncio.sleep(0.002)
        if value < 0:
            raise LookupError(value)
        return value

    def ask(self, key: str = "a") -> asyncio.Task[int]:
        return asyncio.create_task(self.shared.run(key, self.read))


def run(story: Callable[[Source], Awaitable[Any]]) -> None:
    source = Source()

    async def run_story() -> None:
        await asyncio.wait_for(story(source), 30)
        await asyncio.sleep(0)
        assert not source.shared._waiting
        assert not source.shared._tasks

    asyncio.run(run_story())


def test_reads_that_wait_for_the_same_run_once() -> None:
    async def story(source: Source) -> None:
        asked = [source.ask() for _ in range(10)]
        assert await asyncio.gather(*asked) == [0] * 10
        assert source.runs == 2  # the first, and one for the nine that came while it ran

    run(story)


def test_a_read_that_has_begun_is_not_joined() -> None:
    async def story(source: Source) -> None:
        results = []
        for value in range(50):
            source.value = value
            asked = source.ask()
            results.append((value, asked))
            await asyncio.sleep(0.0003 * (value % 4))
        for value, asked in results:
            assert await asked >= value
        assert source.runs < 50

    run(story)


def test_other_keys_do_not_meet() -> None:
    async def story(source: Source) -> None:
        await asyncio.gather(*[source.ask(key) for key in "abcd"])
        assert source.runs == 4

    run(story)


def test_an_error_reaches_all_that_shared_the_run_and_no_others() -> None:
    async def story(source: Source) -> None:
        source.value = -1
        asked = [source.ask() for _ in range(3)]
        await source.second_run.wait()
        source.value = 7
        later = source.ask()
        for task in asked:
            with pytest.raises(LookupError):
                await task
        assert await later == 7

    run(story)


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_caller_that_gives_up_takes_nobody_along(cancelled: int) -> None:
    async def story(source: Source) -> None:
        asked = [source.ask() for _ in range(4)]
        await asyncio.sleep(0)
        asked[cancelled].cancel()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(results.pop(cancelled), asyncio.CancelledError)
        assert results == [0] * 3

    run(story)
