"""The tree as Postgres keeps it: tiles, the newest signed checkpoint, and the records below the tree.

Only the sealer writes tiles (`tree/sealer.py`). Everybody reads them here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from ledger.errors import DamagedTree
from ledger.postgres.connections import Conn, fetch_one
from ledger.tlog.merkle import EMPTY_ROOT, HASH_BYTES, Leaves, Node, cover, hash_range
from ledger.tlog.tiles import hash_node, locate
from ledger.tree.records import Record

RECORDS_PER_PAGE = 500

_TREE_HEAD = """
SELECT size, root, note, extract(epoch FROM sealed_at)::float8, error FROM ledger.tree_head
"""
_TILE = "SELECT hashes FROM ledger.tree_tiles WHERE level = %(level)s AND number = %(number)s"
_TILES = """
SELECT t.level, t.number, t.hashes
FROM unnest(%(levels)s::smallint[], %(numbers)s::bigint[]) AS wanted(level, number)
JOIN ledger.tree_tiles t ON t.level = wanted.level AND t.number = wanted.number
"""
_SELECT_RECORDS = """
SELECT notification_id, originator_id, originator_version, topic, account, livemode, actor, request_id,
       idempotency_key, causation, customer, charge, payment_intent,
       CASE WHEN isfinite(recorded_at) THEN (extract(epoch FROM recorded_at) * 1000000)::bigint END, state
FROM ledger.events
"""
_RECORDS = f"""{_SELECT_RECORDS}
WHERE notification_id > %(after)s AND notification_id <= %(upto)s ORDER BY notification_id
"""
_RECORDS_AT = f"""{_SELECT_RECORDS}
WHERE notification_id = ANY (%(positions)s::bigint[]) ORDER BY notification_id
"""


class TreeHead(NamedTuple):
    """The tree as it was last sealed.

    size       how many records it holds; its last leaf is that of this position
    note       the signed checkpoint; '' before the first one
    sealed_at  unix seconds, by the database's clock
    error      why sealing has stopped; None while it works
    """

    size: int
    root: bytes
    note: str
    sealed_at: float
    error: str | None


async def read_tree_head(conn: Conn) -> TreeHead:
    """The newest sealed tree. Raises psycopg.Error."""
    row = await fetch_one(conn, _TREE_HEAD)
    assert row is not None, "the migration inserts the row, and a trigger keeps it"
    return TreeHead(*row)


async def read_tile(conn: Conn, level: int, number: int) -> bytes | None:
    """The hashes of a tile, as many as it has by now; None when there is no such tile. Raises
    psycopg.Error."""
    row = await fetch_one(conn, _TILE, {"level": level, "number": number})
    return None if row is None else bytes(row[0])


async def read_tiles(conn: Conn, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The hashes of those of these tiles, by level and number, that there are. Raises psycopg.Error."""
    tiles = sorted(set(wanted))
    cur = conn.cursor(binary=True)
    await cur.execute(_TILES, {"levels": [each[0] for each in tiles], "numbers": [each[1] for each in tiles]})
    return {(level, number): hashes for level, number, hashes in await cur.fetchall()}


async def read_nodes(conn: Conn, nodes: Iterable[Node]) -> dict[Node, bytes]:
    """The hashes of complete nodes of the tree, read by one statement. Raises psycopg.Error, and DamagedTree
    when a tile lacks hashes that the sealed tree has."""
    locations = {node: locate(node) for node in nodes}
    if not locations:
        return {}
    tiles = await read_tiles(conn, (location[:2] for location in locations.values()))
    result: dict[Node, bytes] = {}
    for node, (level, number, first, count) in locations.items():
        hashes = tiles.get((level, number), b"")[first * HASH_BYTES : (first + count) * HASH_BYTES]
        if len(hashes) != count * HASH_BYTES:
            raise DamagedTree(f"the stored tile {number} of level {level} lacks hashes")
        result[node] = hash_node(hashes)
    return result


async def read_root(conn: Conn, size: int) -> bytes:
    """The root of the tree of the first `size` records, which is no larger than the sealed one. Raises
    psycopg.Error and DamagedTree."""
    leaves = Leaves(0, size)
    return hash_range(leaves, await read_nodes(conn, cover(leaves))) if size else EMPTY_ROOT


async def read_records(
    conn: Conn, after: int, upto: int, *, per_page: int = RECORDS_PER_PAGE
) -> AsyncIterator[list[Record]]:
    """The stored rows after the position `after`, up to and including `upto`, in pages of at most `per_page`
    in order of position. A page is shorter where rows are missing. Raises psycopg.Error."""
    for begin in range(after, upto, per_page):
        cur = conn.cursor(binary=True)
        await cur.execute(_RECORDS, {"after": begin, "upto": min(begin + per_page, upto)})
        yield [Record(*row) for row in await cur.fetchall()]


async def read_records_at(conn: Conn, positions: Sequence[int]) -> list[Record]:
    """The stored rows at these positions, in order of position; fewer where rows are missing. Raises
    psycopg.Error."""
    cur = conn.cursor(binary=True)
    await cur.execute(_RECORDS_AT, {"positions": list(positions)})
    return [Record(*row) for row in await cur.fetchall()]


async def read_record(conn: Conn, position: int) -> Record | None:
    """The stored row at a position; None when there is none. Raises psycopg.Error."""
    async for page in read_records(conn, position - 1, position):
        return page[0] if page else None
    return None
