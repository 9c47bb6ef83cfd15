"""The feed as server-sent events, without end.

Each item is an event whose id is its position. The event `progress` says up to which position everything that
passes the filter has been sent: when the stream has caught up, every HEARTBEAT_SECONDS, and while items are
left out by the filter, once a second at most. So a client that stores the last id it has seen resumes with
it, and a reader with a filter can tell that it has missed nothing.

A line that is no part of an event has no empty line after it: some clients take each empty line for an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ledger.errors import Unavailable
from ledger.feed.feed import Feed
from ledger.feed.progress import encode_progress_event
from ledger.feed.readers import HEARTBEAT_SECONDS, PROGRESS_SECONDS_MIN, Reader

RETRY_MILLISECONDS = 1000
"""After which time a client connects again."""
_AWAY = b": the database cannot be reached; the stream goes on once it can\n"


async def stream_sse(feed: Feed, reader: Reader, head: int) -> AsyncIterator[bytes]:
    """The events for a connected reader, until it is to end. Everything up to `head` is durable."""
    yield b"retry: %d\n" % RETRY_MILLISECONDS
    now = asyncio.get_running_loop().time
    with feed.follow(reader, head):
        caught_up = failed = False
        reader.told = reader.position, now()
        while reader.end_reason is None:
            head = max(head, feed.position)
            if reader.position < head:
                try:
                    upto, positions, source = await feed.take(reader, head)
                except Unavailable:
                    failed = True  # to be tried again after the next look
                else:
                    failed, reader.position = False, upto
                    if positions:
                        reader.told = positions[-1], now()
                        yield source.encode_sse(positions)
            has_all = reader.position >= max(head, feed.position)
            if heartbeat := _make_heartbeat(feed, reader, now(), is_first=has_all and not caught_up):
                yield heartbeat
            caught_up = (caught_up or has_all) and not feed.is_away
            if failed or has_all:
                await reader.wait()


def _make_heartbeat(feed: Feed, reader: Reader, now: float, *, is_first: bool) -> bytes | None:
    """What the client is told besides the items, if it is time. `is_first`: the stream has caught up."""
    assert reader.told is not None, "a stream is pushed to"
    told_position, told_at = reader.told
    silent_seconds = now - told_at
    if feed.is_away:
        if silent_seconds < HEARTBEAT_SECONDS:
            return None
        reader.told = told_position, now
        return _AWAY
    is_due = silent_seconds > HEARTBEAT_SECONDS or (
        reader.position > told_position and silent_seconds > PROGRESS_SECONDS_MIN
    )
    if not (is_first or is_due):
        return None
    reader.told = reader.position, now
    return encode_progress_event(reader.position, max(feed.position, reader.position))
