"""The right edge of the stored tree: its last, partial tile of each level, which new leaves extend.

Its size grows with the tree's height only. Whatever was stored is compared with the root that was signed, so
an edge that was changed is never extended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.errors import DamagedTree
from ledger.tlog.merkle import HASH_BYTES, Frontier
from ledger.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, hash_node

TILE_BYTES = TILE_WIDTH * HASH_BYTES


class StoredTile(NamedTuple):
    """A tile as it is to be stored: new, or with more hashes than before."""

    level: int
    number: int
    hashes: bytes


def locate_edge(size: int) -> list[tuple[int, int, int]]:
    """Level, number and width (1 to 255) of each partial tile of a tree of `size` leaves."""
    partial: list[tuple[int, int, int]] = []
    level = 0
    while size:
        number, width = divmod(size, TILE_WIDTH)
        if width:
            partial.append((level, number, width))
        level, size = level + 1, number
    return partial


class TreeEdge:
    """The edge of a tree of `size` leaves, which `append` extends."""

    def __init__(self, size: int, root: bytes, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """`tiles` by level and number: those of `locate_edge`, and perhaps others. Raises DamagedTree when
        they do not have this root."""
        self.size = size
        self._rows: dict[int, bytes] = {}
        for level, number, width in locate_edge(size):
            hashes = tiles.get((level, number), b"")
            if len(hashes) != width * HASH_BYTES:
                raise DamagedTree(
                    f"the stored tile {number} of level {level} has {len(hashes) // HASH_BYTES} hashes, but "
                    f"{width} in a tree of {size} records"
                )
            self._rows[level] = hashes
        if self.root != root:
            raise DamagedTree(f"the stored tiles do not have the root that was signed for {size} records")

    @property
    def root(self) -> bytes:
        """The hash of the whole tree."""
        frontier = Frontier()
        for level in sorted(self._rows, reverse=True):
            row = self._rows[level]
            for begin in range(0, len(row), HASH_BYTES):
                frontier.append(row[begin : begin + HASH_BYTES], level * TILE_HEIGHT)
        return frontier.root

    def append(self, leaf_hashes: bytes) -> list[StoredTile]:
        """Append leaves, whose hashes follow one another. Returns the tiles that changed."""
        changed: list[StoredTile] = []
        level, count, hashes = 0, self.size, leaf_hashes
        self.size += len(leaf_hashes) // HASH_BYTES
        while hashes:
            row, number = self._rows.pop(level, b"") + hashes, count // TILE_WIDTH
            above = []
            for begin in range(0, len(row), TILE_BYTES):
                tile = row[begin : begin + TILE_BYTES]
                changed.append(StoredTile(level, number + begin // TILE_BYTES, tile))
                if len(tile) == TILE_BYTES:
                    above.append(hash_node(tile))
                else:
                    self._rows[level] = tile
            level, count, hashes = level + 1, number, b"".join(above)
        return changed
