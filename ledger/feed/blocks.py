"""Items of consecutive positions, rendered once and shared by all readers: their lines as one piece of bytes,
where each ends, and by what they are filtered.

A block never changes. Who reads all of it gets the bytes as they are; who begins inside it, or filters, gets
copies of the lines chosen.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from ledger.feed.items import encode_sse_item

KEYS_BYTES = 100
"""About how many bytes of memory the keys of one item take."""
BLOCK_BYTES = 2_000
"""About how many bytes a block takes besides."""

Owner = tuple[str, bool]
"""An account and a mode: whether it is live mode."""


class Keys(NamedTuple):
    """By what the items of a block are filtered, in their order. Columns: what is kept as an object for each
    item, the garbage collector looks at again and again."""

    owners: Sequence[Owner]
    topics: Sequence[str]
    streams: Sequence[str]


class Block:
    """The items at the positions from `first` to `last`.

    lines   their lines, each with its line feed
    ends    where each line ends in `lines`
    keys    by what they are filtered
    owners  the owners of the items, and the platform of each one's account; None for an account without one
    reach   the owners, and the platforms as owners
    """

    __slots__ = ("_sse", "ends", "first", "keys", "last", "lines", "owners", "reach")

    def __init__(
        self,
        first: int,
        lines: bytes,
        ends: Sequence[int],
        keys: Keys,
        owners: Mapping[Owner, str | None],
    ) -> None:
        self.first = first
        self.last = first + len(ends) - 1
        self.lines = lines
        self.ends = array("Q", ends)
        self.keys = keys
        self.owners = owners
        self.reach = {*owners, *((platform, owner[1]) for owner, platform in owners.items() if platform)}
        self._sse: bytes | None = None

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, once it has been read in both forms."""
        return 2 * len(self.lines) + KEYS_BYTES * len(self.ends) + BLOCK_BYTES

    def get_line(self, position: int) -> bytes:
        """The line of the item at a position of the block."""
        place = position - self.first
        return self.lines[self.ends[place - 1] if place else 0 : self.ends[place]]

    def get_lines(self, after: int, upto: int) -> bytes:
        """The lines of the items after one position, up to another one; both within the block, or `after`
        right before it."""
        if after < self.first and upto == self.last:
            return self.lines
        start = 0 if after < self.first else self.ends[after - self.first]
        return self.lines[start : self.ends[upto - self.first]]

    def join_lines(self, positions: Sequence[int]) -> bytes:
        """The lines of the items at these positions of the block."""
        if len(positions) == self.last - self.first + 1:
            return self.lines
        return b"".join(map(self.get_line, positions))

    def encode_sse(self, positions: Sequence[int]) -> bytes:
        """The items at these positions as server-sent events. Those of all are kept."""
        if len(positions) < self.last - self.first + 1:
            return self._join_events(positions)
        if self._sse is None:
            self._sse = self._join_events(positions)
        return self._sse

    def _join_events(self, positions: Sequence[int]) -> bytes:
        return b"".join(encode_sse_item(position, self.get_line(position)) for position in positions)


def join_blocks(blocks: Sequence[Block]) -> Block:
    """One block of several that follow each other."""
    ends: list[int] = []
    for block in blocks:
        before = ends[-1] if ends else 0
        ends += [before + end for end in block.ends]
    owners: dict[Owner, str | None] = {}
    for block in blocks:
        owners |= block.owners
    columns = zip(*(block.keys for block in blocks), strict=True)
    keys = Keys(*(list(chain.from_iterable(column)) for column in columns))
    return Block(blocks[0].first, b"".join(block.lines for block in blocks), ends, keys, owners)
