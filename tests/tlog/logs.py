"""A log of made-up entries: its hashes, proofs, checkpoints and tiles, for the tests of the formats."""

from __future__ import annotations

from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import (
    Frontier,
    Leaves,
    Node,
    cover,
    hash_children,
    hash_leaf,
    hash_range,
    plan_consistency,
    plan_inclusion,
)
from ledger.tlog.notes import sign_note
from ledger.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tile_path

SIGNER = SignerKey.make("log.example/1", bytes(32))


class MadeUpLog:
    """A log of `size` entries, all of whose complete nodes are kept. `last`: the last entry, in place of a
    made-up one."""

    def __init__(self, size: int, last: bytes | None = None) -> None:
        self.size = size
        self.entries = [b"entry %d" % number for number in range(size)]
        if last is not None:
            self.entries[-1] = last
        self.nodes: dict[Node, bytes] = {}
        row, level = [hash_leaf(entry) for entry in self.entries], 0
        while row:
            self.nodes |= {Node(level, number): node_hash for number, node_hash in enumerate(row)}
            row = [hash_children(*pair) for pair in zip(row[::2], row[1::2], strict=False)]
            level += 1

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves; None: of all."""
        leaves = Leaves(0, self.size if size is None else size)
        return hash_range(leaves, self.nodes) if leaves.end else Frontier().root

    def prove_inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes of the proof, from the leaf's sibling upwards."""
        plan = plan_inclusion(index, self.size if size is None else size)
        return [hash_range(leaves, self.nodes) for leaves in plan]

    def prove_consistency(self, old_size: int, size: int | None = None) -> list[bytes]:
        """The hashes of the proof."""
        plan = plan_consistency(old_size, self.size if size is None else size)
        return [hash_range(leaves, self.nodes) for leaves in plan]

    def checkpoint_text(self, size: int | None = None, origin: str = SIGNER.name) -> str:
        """What the log signs at a size."""
        tree_size = self.size if size is None else size
        return Checkpoint(origin, tree_size, self.root(tree_size)).to_text()

    def checkpoint_note(self, size: int | None = None, signer: SignerKey = SIGNER) -> str:
        """A signed checkpoint."""
        return sign_note(self.checkpoint_text(size, signer.name), [signer])

    def read_tile(self, tile: Tile) -> bytes:
        """The hashes of a tile."""
        assert tile.level is not None
        first = tile.number << TILE_HEIGHT
        level = TILE_HEIGHT * tile.level
        return b"".join(self.nodes[Node(level, number)] for number in range(first, first + tile.width))

    def list_tiles(self) -> dict[str, bytes]:
        """All tiles, by path."""
        return {tile_path(*tile): self.read_tile(tile) for tile in list_tiles(self.size)}

    def cover_hashes(self) -> list[bytes]:
        """Those of the nodes that cover the tree."""
        return [self.nodes[node] for node in cover(Leaves(0, self.size))]


def list_tiles(size: int) -> list[Tile]:
    """All tiles of a tree of `size` leaves, level by level, each level from left to right."""
    tiles: list[Tile] = []
    level, count = 0, size
    while count:
        full, width = divmod(count, TILE_WIDTH)
        tiles += (Tile(level, number, TILE_WIDTH) for number in range(full))
        if width:
            tiles.append(Tile(level, full, width))
        level, count = level + 1, full
    return tiles
