"""The readers that are connected to one process: what each has been sent, what wakes it, what ends it.

A reader costs its cursor: it takes what it is to send from blocks that all share, when its connection takes
more. What the feed has for others only moves the cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from ledger.feed.blocks import Block
from ledger.feed.filters import FeedFilter

EndReason = Literal["disconnected", "key", "stalled", "stopped"]
"""Why a reader is to end: it has gone, its key is no longer valid, it takes nothing, or the process ends."""


class Reader:
    """One reader, from its request on.

    shown      what it gets
    position   everything that passes has been taken for it up to here
    passed_share
               of the positions taken last, how many passed: 0 to 1
    key        what its key is known by
    check_key  whether the key is still valid
    abort      ends the connection at once, whatever it still has to send
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
        self.end_reason: EndReason | None = None
        self.passed_share = 0.0
        self.sent_bytes = 0
        self._sending_since: float | None = None
        self._woken = asyncio.Event()

    def end(self, reason: EndReason) -> None:
        """Let it end, after what it is sending."""
        self.end_reason = self.end_reason or reason
        self._woken.set()

    def wake(self) -> None:
        """Let it look at the feed, and at the time."""
        self._woken.set()

    def offer(self, block: Block) -> None:
        """The feed has a new block. If nothing in it passes, and all before has been taken, that is all."""
        if self.position == block.first - 1 and not (self.passes_all or self.shown.may_pass(block)):
            self.position = block.last
        else:
            self._woken.set()

    def note_passed(self, passed: int, positions: int) -> None:
        """Of so many positions, so many have passed the filter."""
        self.passed_share = passed / positions

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is woken, for `seconds` at most."""
        if seconds is None:
            await self._woken.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
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
