"""What a new block does to a reader: its task is woken, or the block is pushed, or only the cursor moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ledger.feed.blocks import Block, Keys
from ledger.feed.filters import FeedFilter
from ledger.feed.readers import Reader

OWNER = ("acct_1", False)
BLOCK = Block(
    5, b"{}\n{}\n", [3, 6], Keys([OWNER] * 2, ["customer.created"] * 2, ["cus_5", "cus_6"]), {OWNER: None}
)
ALL = b"id: 5\ndata: {}\n\nid: 6\ndata: {}\n\n"


async def check_key() -> bool:
    return True


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


class Connected:
    """A reader of a stream after position 4, and what is pushed to it: refused while `is_full`."""

    def __init__(self, shown: FeedFilter | None = None, *, is_full: bool = False) -> None:
        self.reader = Reader(shown or FeedFilter(), 4, key=b"", check_key=check_key)
        self.reader.told = 4, 0.0
        self.pushed: list[bytes] = []
        self.reader.push = lambda piece: not is_full and not self.pushed.append(piece)  # type: ignore[func-returns-value]

    async def offer(self, block: Block, *, waits: bool = True) -> bool:
        """Offer a block while the reader's task waits, or does not. Returns whether it goes on then."""
        task = asyncio.create_task(self.reader.wait()) if waits else None
        await asyncio.sleep(0)
        self.reader.offer(block, {})
        await asyncio.sleep(0)
        is_woken = task is None or task.done()
        if task is not None and not task.done():
            task.cancel()
        return is_woken


def test_a_block_is_pushed_to_a_reader_that_waits_for_it() -> None:
    async def test() -> None:
        connected = Connected()
        assert not await connected.offer(BLOCK)
        assert connected.pushed == [ALL]
        assert connected.reader.position == 6
        assert connected.reader.sent_bytes == len(ALL)

    run(test)


def test_what_passes_no_filter_only_moves_the_cursor() -> None:
    async def test() -> None:
        connected = Connected(FeedFilter(stream="cus_7"))
        assert not await connected.offer(BLOCK)
        assert connected.pushed == []
        assert connected.reader.position == 6

    run(test)


@pytest.mark.parametrize("stream", [None, "cus_7"])
def test_a_reader_whose_task_runs_moves_its_cursor_itself(stream: str | None) -> None:
    """It may be about to read on from where the cursor stands: moved under it, that is nowhere."""

    async def test() -> None:
        connected = Connected(FeedFilter(stream=stream))
        assert await connected.offer(BLOCK, waits=False)
        assert connected.pushed == []
        assert connected.reader.position == 4

    run(test)


def test_a_reader_whose_connection_takes_no_more_is_woken() -> None:
    async def test() -> None:
        connected = Connected(is_full=True)
        assert await connected.offer(BLOCK)
        assert connected.reader.position == 4

    run(test)


def test_a_reader_that_is_behind_is_woken() -> None:
    async def test() -> None:
        connected = Connected()
        connected.reader.position = 3
        assert await connected.offer(BLOCK)
        assert connected.pushed == []
        assert connected.reader.position == 3

    run(test)


def test_a_stream_that_waits_is_told_its_progress_when_it_is_time() -> None:
    async def test() -> None:
        connected = Connected(FeedFilter(stream="cus_7"))
        reader = connected.reader
        assert not await connected.offer(BLOCK)
        assert not reader.is_due(6, 0.5)
        assert reader.is_due(6, 1.5)
        task = asyncio.create_task(reader.wait())
        await asyncio.sleep(0)
        assert not reader.push_progress(7, 1.5)
        assert reader.push_progress(6, 1.5)
        assert connected.pushed == [b'event: progress\nid: 6\ndata: {"progress":6,"head":6}\n\n']
        assert not reader.is_due(6, 16.0)
        assert reader.is_due(6, 17.0)
        task.cancel()

    run(test)


def test_a_reader_that_is_to_end_gets_no_more() -> None:
    async def test() -> None:
        connected = Connected()
        connected.reader.end("key")
        assert await connected.offer(BLOCK)
        assert connected.pushed == []

    run(test)
