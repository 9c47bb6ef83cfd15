"""The comparison of records and tiles, over three levels of tiles: more than 65,536 leaves, without a
database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ledger.tlog.merkle import hash_leaf
from ledger.tlog.tiles import TILE_WIDTH
from ledger.tree.comparison import FINDINGS_MAX, Report, SignedRoot, TreeComparison
from tests.tlog.logs import MadeUpLog, list_tiles

SIZE = TILE_WIDTH**2 + TILE_WIDTH + 44
Tiles = dict[tuple[int, int], bytes]


@pytest.fixture(scope="module")
def log() -> MadeUpLog:
    return MadeUpLog(SIZE)


@pytest.fixture(scope="module")
def tiles(log: MadeUpLog) -> Tiles:
    return {(tile.level or 0, tile.number): log.read_tile(tile) for tile in list_tiles(SIZE)}


def compare(
    log: MadeUpLog, tiles: Tiles, changed: Mapping[int, bytes | None] = {}, *sizes: int
) -> list[tuple[str, int | None, int | None]]:
    """What is found: code and range. `changed`: leaf hashes by position; `sizes`: of kept checkpoints."""

    async def read_tile(level: int, number: int) -> bytes:
        return tiles.get((level, number), b"")

    async def run() -> Report:
        report = Report()
        comparison = TreeComparison(read_tile, report)
        leaves: list[bytes | None] = [hash_leaf(entry) for entry in log.entries]
        for position, leaf in changed.items():
            leaves[position - 1] = leaf
        for begin in range(0, SIZE, TILE_WIDTH):
            end = min(begin + TILE_WIDTH, SIZE)
            roots = [SignedRoot(size, log.root(size)) for size in sizes if begin < size <= end]
            stored = tiles.get((0, begin // TILE_WIDTH), b"")
            await comparison.add_tile(leaves[begin:end], stored, roots)
        await comparison.finish(SignedRoot(SIZE, log.root()))
        return report

    return [(each.code, each.after, each.upto) for each in asyncio.run(run()).findings]


def flip(tiles: Tiles, level: int, number: int, place: int) -> Tiles:
    """The tiles with one other hash in one of them."""
    content = bytearray(tiles[level, number])
    content[32 * place] ^= 1
    return tiles | {(level, number): bytes(content)}


def test_three_levels_that_agree(log: MadeUpLog, tiles: Tiles) -> None:
    assert set(tiles) >= {(0, 257), (1, 0), (1, 1), (2, 0)}
    assert compare(log, tiles) == compare(log, tiles, {}, 1, 255, 256, 257, 65_536, 65_537, SIZE - 1) == []


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ((0, 0, 0), (0, 1)),
        ((0, 257, 43), (SIZE - 1, SIZE)),
        ((1, 0, 255), (65_280, 65_536)),
        ((1, 1, 0), (65_536, 65_792)),
        ((2, 0, 0), (0, 65_536)),
    ],
)
def test_one_other_hash_in_a_tile_of_any_level(
    log: MadeUpLog, tiles: Tiles, place: tuple[int, int, int], first: tuple[int, int]
) -> None:
    assert compare(log, flip(tiles, *place), {}, 300, 65_536) == [("tile", *first)]


def test_other_records_at_the_edges_of_tiles(log: MadeUpLog, tiles: Tiles) -> None:
    places = (1, 256, 258, 65_536, 65_538, SIZE)
    for leaf, code in ((hash_leaf(b"other"), "event"), (None, "missing")):
        found = compare(log, tiles, dict.fromkeys(places, leaf), 256, 65_536)
        assert found == [(code, position - 1, position) for position in places]


def test_both_sides_changed_at_different_places(log: MadeUpLog, tiles: Tiles) -> None:
    found = compare(log, flip(tiles, 0, 1, 0), {600: hash_leaf(b"other")}, 256, 65_536)
    assert ("event", 256, 257) in found
    assert ("event", 599, 600) in found
    assert found[0] == ("event", 256, 257)


def test_a_flood_of_differences_is_counted(log: MadeUpLog, tiles: Tiles) -> None:
    found = compare(log, tiles, dict.fromkeys(range(1, SIZE, 2), hash_leaf(b"other")))
    assert found[:FINDINGS_MAX] == [("event", position - 1, position) for position in range(1, 40, 2)]
    assert len(found) <= FINDINGS_MAX + 2
    assert len(compare(log, {})) <= 2 * FINDINGS_MAX
