"""The readers that are connected to one process: what each has been sent, what wakes it, what ends it.

A reader costs its cursor: it takes what it is to send from blocks that all share, when its connection takes
more. What the feed has for others only moves the cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, NamedTuple

from ledger.feed.blocks import Block
from ledger.feed.filters import FeedFilter
from ledger.feed.progress import encode_progress_event

HEARTBEAT_SECONDS = 15.0
PROGRESS_SECONDS_MIN = 1.0
"""How often a stream is told at most that positions were left out by its filter."""

EndReason = Literal["disconnected", "key", "stalled", "stopped"]
"""Why a reader is to end: it has gone, its key is no longer valid, it takes nothing, or the process ends."""


class Piece(NamedTuple):
    """The items of a block that pass a filter, as server-sent events, and the position of the last one."""

    content: bytes
    last: int


class Reader:
    """One reader, from its request on.

    shown      what it gets
    position   everything that passes has been taken for it up to here
    passed_share
               of the positions taken last, how many passed: 0 to 1
    key        what its key is known by
    check_key  whether the key is still valid
    abort      ends the connection at once, whatever it still has to send
    push       sends a piece at once, if nothing else waits to be sent; returns whether it is sent
    told       up to which position the client has been told, and when (a time of the event loop), of a stream
               that may be pushed to; None of any other answer
    """

    def __init__(
        self,
        shown: FeedFilter,
        position: int,
        *,
        key: bytes,
        check_key: Callable[[], Awaitable[bool]],
        abort: Callable[[], None] = lambda: None,
    ) -> None:
        self.shown = shown
        self.passes_all = shown.passes_all
        self.position = position
        self.key = key
        self.check_key = check_key
        self.abort = abort
        self.push: Callable[[bytes], bool] = lambda _: False
        self.told: tuple[int, float] | None = None
        self.end_reason: EndReason | None = None
        self.passed_share = 0.0
        self.sent_bytes = 0
        self._sending_since: float | None = None
        self._woken = asyncio.Event()
        self._waits = False

    def end(self, reason: EndReason) -> None:
        """Let it end, after what it is sending."""
        self.end_reason = self.end_reason or reason
        self._woken.set()

    def wake(self) -> None:
        """Let it look at the feed, and at the time."""
        self._woken.set()

    def is_due(self, head: int, now: float) -> bool:
        """Whether its task may have something to tell: a heartbeat, what a filter left out, items up
        to `head`."""
        if self.told is None or self.position < head:
            return True
        told_position, told_at = self.told
        return now - told_at > (PROGRESS_SECONDS_MIN if self.position > told_position else HEARTBEAT_SECONDS)

    def push_progress(self, head: int, now: float) -> bool:
        """Push the progress to a stream that waits and has all up to `head`. Returns whether it is told."""
        if not self._waits or self.told is None or self.position != head or self.end_reason:
            return False
        piece = encode_progress_event(head, head)
        if not self.push(piece):
            return False
        self.sent_bytes += len(piece)
        self.told = head, now
        return True

    def offer(self, block: Block, pieces: dict[FeedFilter, Piece]) -> None:
        """The feed has a new block. If all before has been taken, what passes of it is pushed, and the task
        of this reader goes on waiting: to wake it costs three times as much. `pieces` has what passes for
        others, who may have the same filter."""
        # While its task runs, the cursor is the task's: it may be about to read on from where it stands.
        if not self._waits or self.position != block.first - 1:
            self._woken.set()
            return
        piece = pieces.get(self.shown)
        if piece is None:
            positions = self.shown.select(block, self.position, block.last)
            piece = pieces[self.shown] = Piece(block.encode_sse(positions), positions[-1] if positions else 0)
        if not piece.content:
            self.position = block.last
        elif self.told and not self.end_reason and self.push(piece.content):
            self.position = block.last
            self.sent_bytes += len(piece.content)
            self.told = piece.last, asyncio.get_running_loop().time()
        else:
            self._woken.set()

    def note_passed(self, passed: int, positions: int) -> None:
        """Of so many positions, so many have passed the filter."""
        self.passed_share = passed / positions

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is woken, for `seconds` at most."""
        self._waits = True
        if seconds is None:
            await self._woken.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
        self._waits = False
        self._woken.clear()

    def begin_send(self, size: int, now: float) -> None:
        """So many bytes are handed to the connection now, a time of the event loop."""
        self.sent_bytes += size
        self._sending_since = now

    def end_send(self) -> None:
        """The connection takes more."""
        self._sending_since = None

    def get_stalled_seconds(self, now: float) -> float:
        """For how long the connection has taken nothing of what it has to send."""
        return 0.0 if self._sending_since is None else now - self._sending_since
