"""The feed as server-sent events, without end.

Each item is an event whose id is its position. The event `progress` says up to which position everything that
passes the filter has been sent: when the stream has caught up, every HEARTBEAT_SECONDS, and while items are
left out by the filter, once a second at most. So a client that stores the last id it has seen resumes with
it, and a reader with a filter can tell that it has missed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ledger.errors import Unavailable
from ledger.feed.feed import Feed
from ledger.feed.ndjson import encode_progress
from ledger.feed.readers import Reader

HEARTBEAT_SECONDS = 15.0
PROGRESS_SECONDS_MIN = 1.0
RETRY_MILLISECONDS = 1000
"""After which time a client connects again."""
_AWAY = b": the database cannot be reached; the stream goes on once it can\n\n"


async def stream_sse(feed: Feed, reader: Reader, head: int) -> AsyncIterator[bytes]:
    """The events for a connected reader, until it is to end. Everything up to `head` is durable."""
    yield b"retry: %d\n\n" % RETRY_MILLISECONDS
    now = asyncio.get_running_loop().time
    with feed.follow(reader, head):
        caught_up = False
        told_position, told_at = reader.position, now()
        while reader.end_reason is None:
            head = max(head, feed.position)
            while reader.position < head and reader.end_reason is None:
                try:
                    upto, positions, source = await feed.take(reader, head)
                except Unavailable:
                    break  # to be tried again after the next look
                reader.position = upto
                if positions:
                    told_position, told_at = positions[-1], now()
                    yield source.encode_sse(positions)
            silent_seconds = now() - told_at
            if feed.is_away:
                caught_up = False
                if silent_seconds > HEARTBEAT_SECONDS:
                    told_at = now()
                    yield _AWAY
            elif reader.position >= head and (
                not caught_up
                or silent_seconds > HEARTBEAT_SECONDS
                or (reader.position > told_position and silent_seconds > PROGRESS_SECONDS_MIN)
            ):
                caught_up = True
                told_position, told_at = reader.position, now()
                yield _encode_progress(told_position, max(head, told_position))
            await reader.wait()


def _encode_progress(progress: int, head: int) -> bytes:
    return b"event: progress\nid: %d\ndata: %b\n\n" % (progress, encode_progress(progress, head))
