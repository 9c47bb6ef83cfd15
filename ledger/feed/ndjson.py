"""The feed as NDJSON: items, one a line, and at the end a line with the progress.

The answer is whole only with that last line: everything up to `progress` that passes the filter has been sent
then, so `progress` is the next `after`. It also ends with it early: at `limit`, when the process ends, and
when the database is lost for longer than a read may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from ledger.errors import Unavailable
from ledger.feed.feed import Feed
from ledger.feed.progress import encode_progress
from ledger.feed.readers import Reader

log = structlog.get_logger()


async def stream_ndjson(
    feed: Feed, reader: Reader, head: int, *, limit: int | None = None, wait_seconds: float = 0.0
) -> AsyncIterator[bytes]:
    """The items for a connected reader up to `head`, which is durable, and may be before its position; at
    most `limit`. If there are none, those that come within `wait_seconds`."""
    is_empty = True
    async for lines in _stream_items(feed, reader, head, limit):
        is_empty = False
        yield lines
    if is_empty and wait_seconds and reader.position >= head:
        deadline = asyncio.get_running_loop().time() + wait_seconds
        with feed.follow(reader, head):
            while is_empty and (seconds := deadline - asyncio.get_running_loop().time()) > 0:
                if reader.end_reason is not None:
                    break
                await reader.wait(seconds)
                head = max(head, feed.position)
                async for lines in _stream_items(feed, reader, head, limit):
                    is_empty = False
                    yield lines
    yield encode_progress(reader.position, max(head, reader.position)) + b"\n"


async def _stream_items(feed: Feed, reader: Reader, head: int, limit: int | None) -> AsyncIterator[bytes]:
    """The lines of the items up to `head`; fewer when the reader is to end, or the log cannot be read."""
    left = limit
    while reader.position < head and left != 0 and reader.end_reason is None:
        try:
            upto, positions, source = await feed.take(reader, head)
        except Unavailable as error:
            log.warning("feed_interrupted", position=reader.position, reason=str(error))
            return
        if left is not None:
            if len(positions) >= left:
                positions = positions[:left]
                upto = positions[-1]
            left -= len(positions)
        reader.position = upto
        if positions:
            yield source.join_lines(positions)
