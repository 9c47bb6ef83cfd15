"""Signed checkpoints in Postgres: the newest one, which the sealer moves, and those that are kept.

Whoever signs holds the lock on the row of `ledger.tree_head` and has compared the stored tiles with what was
signed before: so the log never signs two checkpoints that contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from ledger.errors import DamagedTree
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.tlog.merkle import HASH_BYTES
from ledger.tlog.tiles import TILE_WIDTH
from ledger.tree.edge import StoredTile, TreeEdge, locate_edge
from ledger.tree.storage import read_tiles

_LOCK = "SELECT size, root, note FROM ledger.tree_head FOR UPDATE"
_LOCK_IF_FREE = _LOCK + " SKIP LOCKED"
_HEAD = "SELECT position FROM ledger.head"
# Data-modifying parts of one statement: the tiles and the checkpoint over them become visible together.
_STORE = """
WITH tiles AS (
    INSERT INTO ledger.tree_tiles (level, number, hashes)
    SELECT * FROM unnest(%(levels)s::smallint[], %(numbers)s::bigint[], %(hashes)b::bytea[])
    ON CONFLICT ON CONSTRAINT tree_tiles_key DO UPDATE SET hashes = excluded.hashes
), kept AS (
    INSERT INTO ledger.checkpoints (size, note)
    SELECT %(size)s, %(note)s
    WHERE %(size)s > 0 AND now() >= make_interval(secs => %(keep_seconds)s) + coalesce(
        (SELECT made_at FROM ledger.checkpoints ORDER BY size DESC LIMIT 1), '-infinity')
    ON CONFLICT ON CONSTRAINT checkpoints_size DO NOTHING
)
UPDATE ledger.tree_head
SET size = %(size)s, root = %(root)s, note = %(note)s, sealed_at = now(), error = NULL
"""
_KEPT = "SELECT size, note, cosignatures, extract(epoch FROM made_at)::float8 FROM ledger.checkpoints"
_KEPT_OF_SIZE = _KEPT + " WHERE size = %(size)s"
_KEPT_BEFORE = _KEPT + " WHERE size < %(before)s ORDER BY size DESC LIMIT %(limit)s"
_NEWEST_COSIGNED = _KEPT + " WHERE size >= %(size)s AND cosignatures > 0 ORDER BY size DESC LIMIT 1"


class KeptCheckpoint(NamedTuple):
    """A checkpoint that is kept.

    note          with the signatures of the log and of witnesses
    cosignatures  how many witnesses have signed it
    made_at       unix seconds, by the database's clock
    """

    size: int
    note: str
    cosignatures: int
    made_at: float


class LockedTree(NamedTuple):
    """The tree, which nobody else extends or signs until the transaction ends.

    note  the newest checkpoint; '' before the first one
    head  the last position of the log
    last  the hash of the last leaf; None for an empty tree
    """

    edge: TreeEdge
    note: str
    head: int
    last: bytes | None


async def lock_tree(conn: Conn, *, wait: bool) -> LockedTree | None:
    """Lock the tree for the transaction under way. None when it is locked and `wait` is false.

    Raises psycopg.Error, and DamagedTree when the stored tiles are not those that were signed, or the log
    ends before the tree.
    """
    row = await fetch_one(conn, _LOCK if wait else _LOCK_IF_FREE)
    if row is None:
        return None
    size, root, note = row
    # Not in the statement that locks: that one may return the row as another process has just left it, but
    # would still show the log as it was before.
    head_row = await fetch_one(conn, _HEAD)
    assert head_row is not None
    head = head_row[0]
    if head < size:
        raise DamagedTree(
            f"the log ends at position {head}, but {size} records were signed: it was cut, or restored from "
            "an older backup than the tree"
        )
    last_tile, last_width = divmod(size - 1, TILE_WIDTH)
    edge_tiles = [(level, number) for level, number, _ in locate_edge(size)]
    tiles = await read_tiles(conn, [*edge_tiles, (0, last_tile)])
    edge = TreeEdge(size, root, tiles)
    begin = last_width * HASH_BYTES
    last = tiles.get((0, last_tile), b"")[begin : begin + HASH_BYTES] if size else None
    return LockedTree(edge, note, head, last)


async def store_tree(
    conn: Conn, edge: TreeEdge, note: str, tiles: Sequence[StoredTile] = (), *, keep_seconds: float
) -> None:
    """Store the tree as `lock_tree` and then `append` have left it, with its checkpoint. That is also kept,
    if the last one that was kept is older than `keep_seconds`.

    Raises psycopg.Error, and DamagedTree when there are other hashes where the tree is to grow.
    """
    parameters = {
        "levels": [tile.level for tile in tiles],
        "numbers": [tile.number for tile in tiles],
        "hashes": [tile.hashes for tile in tiles],
        "size": edge.size,
        "root": edge.root,
        "note": note,
        "keep_seconds": keep_seconds,
    }
    try:
        await conn.execute(_STORE, parameters)
    except psycopg.errors.RestrictViolation:
        raise DamagedTree(f"there are other tiles than those of the {edge.size} records") from None


async def read_kept(conn: Conn, size: int) -> KeptCheckpoint | None:
    """The kept checkpoint of this size; None when there is none. Raises psycopg.Error."""
    row = await fetch_one(conn, _KEPT_OF_SIZE, {"size": size})
    return None if row is None else KeptCheckpoint(*row)


async def list_kept(conn: Conn, *, before: int, limit: int) -> list[KeptCheckpoint]:
    """The kept checkpoints of sizes below `before`, the largest first. Raises psycopg.Error."""
    rows = await fetch_all(conn, _KEPT_BEFORE, {"before": before, "limit": limit})
    return [KeptCheckpoint(*row) for row in rows]


async def find_newest_cosigned(conn: Conn, size: int) -> KeptCheckpoint | None:
    """The newest checkpoint of at least this size that a witness has cosigned; None when there is none.
    Raises psycopg.Error."""
    row = await fetch_one(conn, _NEWEST_COSIGNED, {"size": size})
    return None if row is None else KeptCheckpoint(*row)
