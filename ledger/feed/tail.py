"""The end of the feed: the newest positions, in the blocks in which they were read, for all who follow.

While somebody follows, one loop reads what is durable, once for all of them, and offers it to each. Without
followers it does nothing.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection

from ledger.background import BackgroundLoop
from ledger.feed.blocks import Block, join_blocks
from ledger.feed.filters import FeedFilter
from ledger.feed.history import BLOCK_POSITIONS, BlockReader, History
from ledger.feed.readers import Piece, Reader
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store

PAUSE_SECONDS = 0.02
"""The least time between two reads: what is appended meanwhile is read, and sent, together."""
PAUSE_SECONDS_PER_READER = 0.00003
POLL_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 1.0
KEPT_POSITIONS = 2 * BLOCK_POSITIONS
OFFERED_AT_ONCE = 32
"""Readers that are offered a block before the event loop gets its turn: what they are sent takes about a
millisecond."""

_HEAD = parse_statement(f"SELECT position, {WAITS_FOR_STANDBYS} FROM ledger.head")  # noqa: S608


class Tail:
    """Follows the log for the readers that `get_followers` gives. `history` gets each block of the grid that
    is complete."""

    def __init__(
        self, store: Store, history: History, get_followers: Callable[[], Collection[Reader]]
    ) -> None:
        self._notifier = store.notifier
        self._durability = store.durability
        self._history = history
        self._get_followers = get_followers
        self._statements = StatementPool(
            store.dsn, "ledger_api", name="feed head", settings=PLANNER_SETTINGS, connections_max=1
        )
        self._reader = BlockReader(store.dsn, store.codec, name="feed", connections_max=1)
        self._blocks: list[Block] = []
        self._loop = BackgroundLoop(
            "feed", self._follow, backoff_seconds_max=BACKOFF_SECONDS_MAX, close_timeout_seconds=0.5
        )
        self.position = 0
        """The last position of the blocks: all up to here is durable, and can be read."""
        self.read_at = 0.0
        """When the log was last read, a time of the event loop."""

    async def start(self) -> None:
        """Begin to follow, once there are followers."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop, and close the connections."""
        await self._loop.close()
        await self._reader.close()
        await self._statements.close()

    async def read_head(self) -> tuple[int, int]:
        """The last position of the log that is durable, and the last one that there is. Raises
        Unavailable."""
        ((head, waits_for_standbys),) = await self._statements.fetch(_HEAD, {})
        return await self._durability.limit(head, waits_for_standbys=waits_for_standbys), head

    def begin(self, head: int) -> None:
        """Somebody begins to follow; everything up to `head` is durable."""
        if len(self._get_followers()) == 1:
            if head > self.position:
                self._blocks.clear()
                self.position = head
            self.read_at = asyncio.get_running_loop().time()
        self._loop.wake()

    def find(self, after: int) -> Block | None:
        """The block with the position `after + 1`, if it is among the newest."""
        blocks = self._blocks
        if not blocks or not blocks[0].first - 1 <= after < self.position:
            return None
        return blocks[bisect_right(blocks, after, key=_get_last)]

    async def _follow(self) -> float | None:
        followers = self._get_followers()
        if not followers:
            return None
        now = asyncio.get_running_loop().time
        head = self._notifier.acknowledged_position
        if head <= self.position:
            head, _ = await self.read_head()
            self.read_at = now()
        if head <= self.position:
            poll_seconds = self._notifier.get_poll_seconds(POLL_SECONDS)
            await self._notifier.wait_past(self.position, timeout_seconds=poll_seconds)
            return PAUSE_SECONDS / 2
        end_of_grid = self.position - self.position % BLOCK_POSITIONS + BLOCK_POSITIONS
        block = await self._reader.read(self.position, min(head, end_of_grid))
        self.read_at = now()
        self._add(block)
        await self._offer(block)
        if block.last < head:
            return 0
        return PAUSE_SECONDS + PAUSE_SECONDS_PER_READER * len(followers)

    def _add(self, block: Block) -> None:
        self._blocks.append(block)
        self.position = block.last
        if block.last % BLOCK_POSITIONS == 0:
            begin = block.last - BLOCK_POSITIONS
            of_grid = [each for each in self._blocks if each.first > begin]
            if of_grid[0].first == begin + 1:
                self._history.put(join_blocks(of_grid))
            while self._blocks[0].last <= self.position - KEPT_POSITIONS:
                del self._blocks[0]

    async def _offer(self, block: Block) -> None:
        pieces: dict[FeedFilter, Piece] = {}
        for number, reader in enumerate(list(self._get_followers())):
            if number % OFFERED_AT_ONCE == 0:
                await asyncio.sleep(0)
            reader.offer(block, pieces)


def _get_last(block: Block) -> int:
    return block.last
