"""Archives: a range of the log with the records of all accounts, and tiles of the tree beside them.

The records are an export that is complete. The tiles (C2SP tlog-tiles) are those from which the proof of each
of these records follows, so that a program that knows nothing of exports can check them too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from itertools import islice

from ledger.audit.exports.content import ExportError, ExportHeader, cover_gap
from ledger.audit.exports.source import ExportPlan, read_hashes
from ledger.audit.search.filters import LogFilters, PositionRange
from ledger.errors import DamagedTree, InvalidParameter, Unavailable
from ledger.postgres.connections import Conn
from ledger.queries.context import QueryContext
from ledger.tlog.checkpoints import Checkpoint, parse_checkpoint
from ledger.tlog.merkle import HASH_BYTES, Leaves, Node, cover, hash_range
from ledger.tlog.notes import parse_note
from ledger.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    hash_node,
    list_tiles,
    locate,
    make_tile,
    tile_path,
)
from ledger.tree.checkpoints import find_newest_cosigned
from ledger.tree.storage import read_tiles, read_tree_head

TILES_PER_READ = 128
TILES_KEPT = 64

ReadFile = Callable[[str], bytes]
"""The bytes of a tile by its path; raises ExportError when there is none."""


async def plan_archive(context: QueryContext, wanted: PositionRange) -> ExportPlan:
    """The archive of these positions, checked against the newest checkpoint that a witness has cosigned if
    one has them all, and otherwise against the newest one.

    Raises InvalidParameter for a range that is empty or not sealed, Unavailable while no checkpoint has been
    signed.
    """
    if wanted.is_empty:
        raise InvalidParameter(f"There is no position after {wanted.after} and up to {wanted.upto}.")

    async def run(conn: Conn) -> tuple[str, list[bytes]]:
        tree = await read_tree_head(conn)
        if not tree.note:
            raise Unavailable("no checkpoint has been signed yet: is a worker running?")
        if wanted.upto > tree.size:
            raise InvalidParameter(
                f"Position {wanted.upto} is not sealed: the last one of the newest checkpoint is {tree.size}."
            )
        cosigned = await find_newest_cosigned(conn, wanted.upto)
        nodes = cover_gap(0, wanted.after + 1)
        hashes = await read_hashes(conn, nodes)
        return tree.note if cosigned is None else cosigned.note, [hashes[node] for node in nodes]

    note, skipped = await context.pool.run_idempotent(run)
    header = ExportHeader(
        account=None,
        livemode=None,
        filters={},
        after=wanted.after,
        upto=wanted.upto,
        skipped=skipped,
        checkpoint=note,
    )
    return ExportPlan(None, LogFilters(), header, parse_checkpoint(parse_note(note).text).size)


async def read_archive_tiles(context: QueryContext, plan: ExportPlan) -> AsyncIterator[tuple[str, bytes]]:
    """The tiles of an archive, by their paths. Raises DamagedTree when one lacks hashes, and Unavailable."""
    wanted = list_tiles(_get_leaves(plan.header), plan.size)
    while part := list(islice(wanted, TILES_PER_READ)):
        keys = [(tile.level or 0, tile.number) for tile in part]
        found = await context.reads.run_idempotent(partial(read_tiles, wanted=keys))
        for tile, key in zip(part, keys, strict=True):
            hashes = found.get(key, b"")[: tile.width * HASH_BYTES]
            if len(hashes) != tile.width * HASH_BYTES:
                raise DamagedTree(f"the stored tile {key[1]} of level {key[0]} lacks hashes")
            yield tile_path(*tile), hashes


def check_tiles(read_file: ReadFile, header: ExportHeader, checkpoint: Checkpoint) -> int:
    """Check that the tiles of an archive are there and have the root of its checkpoint; returns how many they
    are. Raises ExportError, which names the first that is wrong.

    The last tiles of each level have the root. Any other tile is full, and the tile above it has its hash.
    """
    size = checkpoint.size

    @lru_cache(maxsize=TILES_KEPT)
    def read(tile: Tile) -> bytes:
        path = tile_path(*tile)
        hashes = read_file(path)
        if len(hashes) != tile.width * HASH_BYTES:
            raise ExportError(f"{path} has {len(hashes)} bytes instead of {tile.width * HASH_BYTES}")
        return hashes

    def find_hash(node: Node) -> bytes:
        level, number, first, width = locate(node)
        hashes = read(make_tile(level, number, size))
        return hash_node(hashes[first * HASH_BYTES : (first + width) * HASH_BYTES])

    whole = Leaves(0, size)
    if hash_range(whole, {node: find_hash(node) for node in cover(whole)}) != checkpoint.root:
        raise ExportError("the last tiles of the levels do not have the root of the checkpoint")
    count = 0
    for tile in list_tiles(_get_leaves(header), size):
        count += 1
        above = Node(TILE_HEIGHT * ((tile.level or 0) + 1), tile.number)
        if tile.width == TILE_WIDTH and hash_node(read(tile)) != find_hash(above):
            raise ExportError(f"{tile_path(*tile)} was changed: the tile above it has another hash")
        read(tile)
    return count


def _get_leaves(header: ExportHeader) -> Leaves:
    return Leaves(header.after, header.upto)
