"""The feed by position of one process: the log as items, up to what is durable, for all its readers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ledger.background import BackgroundLoop
from ledger.errors import RateLimited, Unavailable
from ledger.feed.blocks import Block
from ledger.feed.history import BLOCK_POSITIONS, BlockReader, History
from ledger.feed.readers import Reader
from ledger.feed.scans import ScannedItems, Scanner
from ledger.feed.tail import Tail
from ledger.metrics.prometheus import Metrics
from ledger.store.store import Store

READERS_MAX = 2000
"""Readers that may be connected to one process."""
LOOK_SECONDS = 1.0
KEY_CHECK_SECONDS = 5.0
"""How long a key that was revoked or has expired goes on reading, about."""
STALLED_SECONDS_MAX = 60.0
"""How long a reader may take nothing of what it is sent."""
SCAN_POSITIONS_MIN = 8 * BLOCK_POSITIONS
SCAN_SHARE_MAX = 0.25
"""A reader with a filter that is further behind than this, and gets less than this share of what there is, is
served by scans of the database."""
AWAY_SECONDS = 5.0
"""After this time without a read of the log the database counts as away."""


class Taken(NamedTuple):
    """What a reader is to be sent next: the items at `positions`, of which `source` has the lines. That is
    all up to the position `upto`."""

    upto: int
    positions: Sequence[int]
    source: Block | ScannedItems


class Feed:
    """What the readers of one process share."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._metrics = metrics
        self._readers: set[Reader] = set()
        self._followers: set[Reader] = set()
        self._history = History(BlockReader(store.dsn, store.codec, name="feed history"))
        self._scanner = Scanner(store.dsn, store.codec)
        self._tail = Tail(store, self._history, lambda: self._followers)
        self._look_loop = BackgroundLoop("feed readers", self._look, close_timeout_seconds=0.5)
        self._keys_checked_at = 0.0
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._ended_bytes = self._counted_bytes = 0

    async def start(self) -> None:
        """Begin to serve readers."""
        self._event_loop = asyncio.get_running_loop()
        await self._tail.start()
        await self._look_loop.start()

    def stop(self) -> None:
        """Let all readers end: the process is to. May be called by a signal handler."""
        self._stopping = True
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self._end_all)

    async def close(self) -> None:
        """Stop. All readers have ended before."""
        await self._look_loop.close()
        await self._tail.close()
        await self._scanner.close()
        await self._history.close()

    @property
    def position(self) -> int:
        """The last position that followers are sent: what is after it is not known to be durable."""
        return self._tail.position

    @property
    def is_away(self) -> bool:
        """Whether the log cannot be read at present: `position` may be old."""
        return asyncio.get_running_loop().time() - self._tail.read_at > AWAY_SECONDS

    async def read_head(self) -> tuple[int, int]:
        """The last position of the log that is durable, and the last one that there is. Raises
        Unavailable."""
        return await self._tail.read_head()

    async def take(self, reader: Reader, head: int) -> Taken:
        """What comes next for a reader that is behind `head`, which is durable. Raises Unavailable.

        The reader's cursor is the caller's to move. What waits to be written is written meanwhile.
        """
        await asyncio.sleep(0)
        after = reader.position
        block = self._tail.find(after)
        is_far = block is None and head - after > SCAN_POSITIONS_MIN
        if is_far and not reader.passes_all and reader.passed_share < SCAN_SHARE_MAX:
            scanned = await self._scanner.find(reader.shown, after, head)
            reader.note_passed(len(scanned.positions), scanned.upto - after)
            return Taken(scanned.upto, scanned.positions, scanned)
        if block is None:
            block = await self._history.get(after, head)
            if block.last < head and self._tail.find(block.last) is None:
                self._history.read_ahead(block.last, head)
        upto = min(block.last, head)
        positions = reader.shown.select(block, after, upto)
        reader.note_passed(len(positions), upto - after)
        return Taken(upto, positions, block)

    def check_room(self) -> None:
        """Raises RateLimited when too many readers are connected."""
        if len(self._readers) >= READERS_MAX:
            raise RateLimited("Too many readers are connected. Try again later.", code="rate_limit")

    @contextmanager
    def connect(self, reader: Reader) -> Iterator[None]:
        """The reader is connected, while its answer is sent."""
        self._readers.add(reader)
        if self._stopping:
            reader.end("stopped")
        self._look_loop.wake()
        try:
            yield
        finally:
            self._readers.discard(reader)
            self._ended_bytes += reader.sent_bytes
            self._report()

    @contextmanager
    def follow(self, reader: Reader, head: int) -> Iterator[None]:
        """The connected reader is offered what comes after `head`, up to which everything is durable."""
        self._followers.add(reader)
        self._tail.begin(head)
        try:
            yield
        finally:
            self._followers.discard(reader)

    async def _look(self) -> float | None:
        """Tell readers their progress when it is time, and end those that take nothing or whose key has
        ended."""
        now = asyncio.get_running_loop().time()
        for number, reader in enumerate(list(self._readers)):
            if number % 100 == 0:
                await asyncio.sleep(0)
            if reader.get_stalled_seconds(now) > STALLED_SECONDS_MAX:
                reader.end("stalled")
                reader.abort()
            elif (
                reader in self._followers
                and reader.is_due(self.position, now)
                and (self.is_away or not reader.push_progress(self.position, now))
            ):
                reader.wake()
        if now - self._keys_checked_at > KEY_CHECK_SECONDS:
            self._keys_checked_at = now
            await self._check_keys()
        self._report()
        return LOOK_SECONDS if self._readers else None

    async def _check_keys(self) -> None:
        valid: dict[bytes, bool] = {}
        for reader in list(self._readers):
            if reader.key not in valid:
                try:
                    valid[reader.key] = await reader.check_key()
                except Unavailable:  # nobody can tell: the next look may
                    return
            if not valid[reader.key]:
                reader.end("key")

    def _end_all(self) -> None:
        for reader in self._readers:
            reader.end("stopped")

    def _report(self) -> None:
        """Update the metrics."""
        sent = self._ended_bytes + sum(reader.sent_bytes for reader in self._readers)
        sent, self._counted_bytes = sent - self._counted_bytes, sent
        slowest = min((reader.position for reader in self._followers), default=self.position)
        self._metrics.set_feed_readers(
            len(self._readers),
            lag_events=max(self.position - slowest, 0),
            sent_bytes=sent,
            cached_bytes=self._history.cached_bytes,
        )
