"""Tiles: their paths, their widths, and that all nodes of a tree follow from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tlog import tiles as tlog_tiles
from ledger.tlog.merkle import (
    Frontier,
    Leaves,
    Node,
    ProofError,
    cover,
    hash_children,
    hash_leaf,
    plan_inclusion,
)
from ledger.tlog.tiles import (
    TILE_WIDTH,
    Tile,
    hash_node,
    locate,
    parse_tile_path,
    tile_path,
)
from tests.tlog.logs import list_tiles

SIZE = 3 * TILE_WIDTH + 77


def test_paths_of_the_specification() -> None:
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path(None, 5, 12) == "tile/entries/005.p/12"
    assert tile_path(63, 1000, 255) == "tile/63/x001/000.p/255"


@given(st.none() | st.integers(0, 63), st.integers(0, 2**56), st.integers(1, TILE_WIDTH))
def test_a_path_is_read_as_it_was_written(level: int | None, number: int, width: int) -> None:
    assert parse_tile_path(tile_path(level, number, width)) == Tile(level, number, width)


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0/1", "tile/0/0001", "tile/00/001", "tile/64/001", "tile/-1/001", "tile/0/x000/001",
        "tile/0/001/", "/tile/0/001", "tile/0/001.p/0", "tile/0/001.p/01", "tile/0/001.p/256",
        "tile/0/001.p/", "tile/8/0/001", "tile/0/001/002", "tile/0/x001", "tile/data/001", "tile/0/001\n",
        "tile/0/\u0660\u0660\u0661",
    ],
)  # fmt: skip
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(ProofError):
        parse_tile_path(path)


def test_the_tiles_of_the_specifications_example() -> None:
    tiles = list_tiles(70_000)
    assert len(tiles) == 273 + 1 + 1 + 1 + 1
    partial = [tile for tile in tiles if tile.width < TILE_WIDTH]
    assert partial == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list_tiles(256) == [Tile(0, 0, 256), Tile(1, 0, 1)]
    assert list_tiles(0) == []


@given(st.integers(1, 2**24))
def test_a_level_is_as_wide_as_the_full_tiles_below_it(size: int) -> None:
    for tile in list_tiles(size)[-3:]:
        assert tile.level is not None
        held = (size >> 8 * tile.level) - tile.number * TILE_WIDTH
        assert tile.width == min(TILE_WIDTH, held)


def make_tiles(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles of a tree: each level's row of hashes, made only from the level below."""
    tiles: dict[tuple[int, int], bytes] = {}
    row, level = leaves, 0
    while row:
        parts = [row[begin : begin + TILE_WIDTH] for begin in range(0, len(row), TILE_WIDTH)]
        tiles |= {(level, number): b"".join(part) for number, part in enumerate(parts)}
        frontiers = [Frontier() for part in parts if len(part) == TILE_WIDTH]
        for frontier, part in zip(frontiers, parts, strict=False):
            for node_hash in part:
                frontier.append(node_hash)
        row, level = [frontier.root for frontier in frontiers], level + 1
    return tiles


def test_every_node_of_a_tree_follows_from_one_tile() -> None:
    leaves = [hash_leaf(b"%d" % number) for number in range(SIZE)]
    tiles = make_tiles(leaves)
    assert {(tile.level, tile.number): tile.width for tile in list_tiles(SIZE)} == {
        place: len(hashes) // 32 for place, hashes in tiles.items()
    }
    row, level = leaves, 0
    while row:
        for number, node_hash in enumerate(row):
            place = locate(Node(level, number))
            held = tiles[place.level, place.number][32 * place.first : 32 * (place.first + place.width)]
            assert hash_node(held) == node_hash
        row = [hash_children(*pair) for pair in zip(row[::2], row[1::2], strict=False)]
        level += 1


def test_a_node_is_made_of_hashes_of_a_tile_that_the_tree_has() -> None:
    widths = {(tile.level, tile.number): tile.width for tile in list_tiles(SIZE)}
    for node in cover(Leaves(0, SIZE)):
        place = locate(node)
        assert place.first + place.width <= widths[place.level, place.number]


@given(st.data())
def test_the_tiles_of_a_range_have_all_nodes_of_its_proofs(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70_000 * TILE_WIDTH), "size")
    begin = data.draw(st.integers(0, size - 1), "begin")
    end = min(size, begin + data.draw(st.integers(1, 3 * TILE_WIDTH), "count"))
    widths = {
        (tile.level, tile.number): tile.width for tile in tlog_tiles.list_tiles(Leaves(begin, end), size)
    }
    needed = [Leaves(0, size), *plan_inclusion(begin, size), *plan_inclusion(end - 1, size)]
    for node in (node for leaves in needed for node in cover(leaves)):
        level, number, first, width = locate(node)
        assert widths[level, number] >= first + width
