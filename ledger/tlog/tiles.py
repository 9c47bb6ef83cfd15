"""Tiles of a transparency log (C2SP tlog-tiles): rows of hashes from which all nodes of the tree follow.

A tile of level L holds up to 256 consecutive nodes of the Merkle tree's level 8 * L. The nodes between two
levels of tiles are not stored: `locate` says of which hashes they are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ledger.tlog.merkle import HASH_BYTES, Leaves, Node, ProofError, hash_parents

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_LEVEL_MAX = 63

_PATH = re.compile(
    r"tile/(?P<level>0|[1-9][0-9]?|entries)/(?P<number>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
ENTRIES = "entries"


class Tile(NamedTuple):
    """What a tile's path names.

    level   None: the bundle of the entries below the tile `number` of level 0
    number  from 0, within the level
    width   how many hashes (or entries) it holds: from 1 to 256
    """

    level: int | None
    number: int
    width: int


class Location(NamedTuple):
    """The hashes of one tile that a node of the tree is made of: `width` of them, from number `first` on."""

    level: int
    number: int
    first: int
    width: int


def tile_path(level: int | None, number: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile below the log's address; `level` None: of the bundle of entries."""
    assert 0 < width <= TILE_WIDTH
    digits = f"{number:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[begin : begin + 3] for begin in range(0, len(digits), 3)]
    elements = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{ENTRIES if level is None else level}/{elements}{suffix}"


def parse_tile_path(text: str) -> Tile:
    """What a path names. Raises ProofError for any text but the one that `tile_path` makes."""
    match = _PATH.fullmatch(text)
    if match is None:
        raise ProofError(f"not the path of a tile: {text!a}")
    level = None if match["level"] == ENTRIES else int(match["level"])
    number = int("".join(re.findall("[0-9]{3}", match["number"])))
    width = int(match["width"]) if match["width"] else TILE_WIDTH
    is_partial = match["width"] is not None
    if (level or 0) > TILE_LEVEL_MAX or (is_partial and width >= TILE_WIDTH):
        raise ProofError(f"not the path of a tile: {text!a}")
    if tile_path(level, number, width) != text:
        raise ProofError(f"the tile's number has more digits than it needs: {text!a}")
    return Tile(level, number, width)


def locate(node: Node) -> Location:
    """Which hashes of which tile make the node's hash (`hash_node`)."""
    level, height = divmod(node.level, TILE_HEIGHT)
    first = node.number << height
    return Location(level, first // TILE_WIDTH, first % TILE_WIDTH, 1 << height)


def make_tile(level: int, number: int, size: int) -> Tile:
    """A tile that the tree of `size` leaves has, as wide as it is there."""
    count = size >> TILE_HEIGHT * level
    return Tile(level, number, min(TILE_WIDTH, count - number * TILE_WIDTH))


def list_tiles(leaves: Leaves, size: int) -> Iterator[Tile]:
    """The tiles that hold these leaves of the tree of `size` leaves, those above them, and the last one of
    each level: from them follow the root, and the proof of inclusion of each of these leaves."""
    first, last, count, level = leaves.begin, leaves.end - 1, size, 0
    while count:
        final = (count - 1) // TILE_WIDTH
        numbers = range(first // TILE_WIDTH, min(last // TILE_WIDTH, final) + 1)
        for number in numbers:
            yield make_tile(level, number, size)
        if final not in numbers:
            yield make_tile(level, final, size)
        first, last, count, level = first // TILE_WIDTH, last // TILE_WIDTH, count // TILE_WIDTH, level + 1


def hash_node(hashes: bytes) -> bytes:
    """The hash of a complete subtree, from the hashes that `locate` names, one after another."""
    assert hashes
    assert (len(hashes) // HASH_BYTES).bit_count() == 1
    while len(hashes) > HASH_BYTES:
        hashes = hash_parents(hashes)
    return hashes
