"""Blocks of the log, read once per process: those used last stay in memory, up to HISTORY_BYTES_MAX.

A range of positions has one grid of blocks, and a block that is asked for by several is read once. What is
asked for must be durable (`ledger.store.durability`): a block stays, and must not show what may be lost.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextvars import Context
from sys import intern

from ledger.errors import Unavailable
from ledger.feed.blocks import Block, Keys, Owner
from ledger.feed.items import ITEM_COLUMNS, ItemEncoder
from ledger.lru import LruCache
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS

BLOCK_POSITIONS = 512
HISTORY_BYTES_MAX = 64 * 2**20
SLICE_ROWS = 128
"""Rows encoded before the event loop gets its turn: about one millisecond."""
CONNECTIONS_MAX = 2
PLATFORMS_CACHED_MAX = 50_000

_ITEMS = parse_statement(f"""
SELECT {ITEM_COLUMNS} FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s
ORDER BY e.notification_id
""")  # noqa: S608 (a constant)
_PLATFORMS = parse_statement("""
SELECT id, platform FROM ledger.accounts WHERE id = ANY (%(accounts)s::text[])
""")


Place = tuple[int, int]
"""A range of positions: after the first one, up to the second one."""


class BlockReader:
    """Reads blocks from the database. `name` is that of its connections."""

    def __init__(self, dsn: str, codec: Codec, *, name: str, connections_max: int = CONNECTIONS_MAX) -> None:
        self._encoder = ItemEncoder(codec)
        self._statements = StatementPool(
            dsn, "ledger_api", name=name, settings=PLANNER_SETTINGS, connections_max=connections_max
        )
        # An account's platform never changes. "" for one that is connected to none.
        self._platforms: LruCache[str, str] = LruCache(PLATFORMS_CACHED_MAX)

    async def close(self) -> None:
        """Close the connections."""
        await self._statements.close()

    async def read(self, after: int, upto: int) -> Block:
        """The block of the positions after `after` up to `upto`, which the log has. Raises Unavailable, also
        when the server that answers does not have all of them."""
        rows = await self._statements.fetch(_ITEMS, {"after": after, "upto": upto})
        if len(rows) != upto - after:
            raise Unavailable(f"the log lacks positions after {after}, up to {upto}, on the server asked")
        buffer = bytearray()
        ends: list[int] = []
        for start in range(0, len(rows), SLICE_ROWS):
            ends += self._encoder.encode_into(buffer, rows[start : start + SLICE_ROWS])
            await asyncio.sleep(0)
        _, topics, streams, _, accounts, modes, *_ = zip(*rows, strict=True)
        # A block is kept: of each account and topic it has one object.
        owners: dict[Owner, Owner] = {}
        keys = Keys(
            [owners.setdefault(owner, owner) for owner in zip(accounts, modes, strict=True)],
            list(map(intern, topics)),
            streams,
        )
        return Block(after + 1, bytes(buffer), ends, keys, await self._find_platforms(owners))

    async def _find_platforms(self, owners: dict[Owner, Owner]) -> dict[Owner, str | None]:
        known = {account: self._platforms.get(account) for account, _ in owners}
        unknown = [account for account, platform in known.items() if platform is None]
        if unknown:
            for account, platform in await self._statements.fetch(_PLATFORMS, {"accounts": unknown}):
                known[account] = platform or ""
                self._platforms.put(account, platform or "")
        return {owner: known[owner[0]] or None for owner in owners}


class History:
    """The blocks that were read last. The grid's blocks have BLOCK_POSITIONS each, from position 1 on."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader = reader
        self._blocks: OrderedDict[Place, Block] = OrderedDict()
        self._reads: dict[Place, asyncio.Task[Block]] = {}
        self._bytes = 0

    async def close(self) -> None:
        """End the reads under way, and close the connections."""
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        await self._reader.close()

    @property
    def cached_bytes(self) -> int:
        """How many bytes the cached blocks take."""
        return self._bytes

    async def get(self, after: int, head: int) -> Block:
        """A block with the position `after + 1`, up to `head` at most, which is durable. Raises
        Unavailable."""
        place = _find_place(after, head)
        block = self._blocks.get(place)
        if block is not None:
            self._blocks.move_to_end(place)
            return block
        return await asyncio.shield(self._begin_read(place))

    def read_ahead(self, after: int, head: int) -> None:
        """Begin to read the block with the position `after + 1`, if there is one and it is not cached."""
        if after < head and (place := _find_place(after, head)) not in self._blocks:
            self._begin_read(place)

    def put(self, block: Block) -> None:
        """Cache a block that was read elsewhere."""
        self._keep((block.first - 1, block.last), block)

    def _begin_read(self, place: Place) -> asyncio.Task[Block]:
        read = self._reads.get(place)
        if read is None:
            # In a context of its own: it is not the affair of the request that happens to begin it.
            read = asyncio.create_task(self._read(place), name="feed block", context=Context())
            read.add_done_callback(_observe)
            self._reads[place] = read
        return read

    async def _read(self, place: Place) -> Block:
        try:
            block = await self._reader.read(*place)
        finally:
            del self._reads[place]
        self._keep(place, block)
        return block

    def _keep(self, place: Place, block: Block) -> None:
        replaced = self._blocks.pop(place, None)
        self._bytes += block.size - (0 if replaced is None else replaced.size)
        self._blocks[place] = block
        while self._bytes > HISTORY_BYTES_MAX and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].size


def _find_place(after: int, head: int) -> Place:
    """The block to read for the position `after + 1`: that of the grid, or what there is of it after `after`
    as long as it is not complete."""
    begin = after - after % BLOCK_POSITIONS
    end = begin + BLOCK_POSITIONS
    return (begin, end) if end <= head else (after, head)


def _observe(read: asyncio.Task[Block]) -> None:
    """Take note of the error of a read that nobody waits for any more."""
    if not read.cancelled():
        read.exception()
