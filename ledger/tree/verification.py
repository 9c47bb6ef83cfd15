"""The verification of the log: recomputes the Merkle tree from the events and compares it with everything
that was signed; the whole log at once, or range by range.

It trusts the service key and no table: checkpoints count only when a key that the service key sealed has
signed them. It reads what is sealed once, in order, and is not disturbed by a service that appends and seals.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.errors import DamagedTree
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.tlog.checkpoints import Checkpoint, open_checkpoint
from ledger.tlog.encoding import encode_base64
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import HASH_BYTES, Frontier, Leaves, Node, ProofError, cover
from ledger.tlog.tiles import TILE_HEIGHT, TILE_WIDTH
from ledger.tree.comparison import Finding, Report, SignedRoot, Start, TreeComparison
from ledger.tree.keys import Keyring
from ledger.tree.records import derive_leaf_hash
from ledger.tree.storage import RECORDS_PER_PAGE, read_nodes, read_records, read_tile, read_tiles

BLOCK_TILES = 16
BLOCK_EVENTS = BLOCK_TILES * TILE_WIDTH
SHARED_PAGE_EVENTS = 64
"""How many events are hashed at once in a process that serves requests: a millisecond's work, in which no
request of that process goes on."""

_TREE_HEAD = "SELECT size, root, note FROM ledger.tree_head"
# One statement, so one moment. The head is the last event that is left; projections know how far the log
# reached.
_ENDS = """
SELECT h.position, greatest(h.position, (SELECT max(position) FROM projections.checkpoints)), t.size,
       (SELECT count(*) FROM ledger.events WHERE notification_id > %(size)s),
       (SELECT min(notification_id) FROM ledger.events),
       coalesce((SELECT 256 * number + length(hashes) / 32 FROM ledger.tree_tiles WHERE level = 0
                 ORDER BY number DESC LIMIT 1), 0),
       (SELECT max(size) FROM ledger.checkpoints)
FROM ledger.head h, ledger.tree_head t
"""
_FIRST_HOLE = """
SELECT place FROM (
    SELECT notification_id, %(size)s + row_number() OVER (ORDER BY notification_id) AS place
    FROM ledger.events WHERE notification_id > %(size)s
) numbered
WHERE notification_id <> place ORDER BY place LIMIT 1
"""
_KEPT = """
SELECT size, note FROM ledger.checkpoints WHERE size > %(after)s AND size <= %(upto)s ORDER BY size
"""

Progress = Callable[[int, int], None]
"""Called with the events that were compared so far, and all that will be."""


@dataclass(slots=True)
class Verification:
    """What was verified, and every difference that was found; it is verified when there is none.

    upto         the last position that was compared
    sealed       events in the tree
    unsealed     events after it, which nothing has been signed about yet
    checkpoints  signed checkpoints that were compared, with the newest one and those given
    root         of the tree that follows from the events, in base64
    """

    origin: str | None = None
    upto: int = 0
    sealed: int = 0
    unsealed: int = 0
    checkpoints: int = 0
    root: str | None = None
    report: Report = field(default_factory=Report)

    @property
    def findings(self) -> list[Finding]:
        """In order of position."""
        return self.report.findings

    @property
    def first_difference(self) -> tuple[int, int] | None:
        """The first position that differs is after the first number and not after the second one; None when
        there is no difference, or none of a position."""
        ranges = [
            (each.upto, -each.after)
            for each in self.findings
            if each.upto is not None and each.after is not None
        ]
        upto, negative_after = min(ranges, default=(None, None))
        return None if upto is None or negative_after is None else (-negative_after, upto)


class _Head(NamedTuple):
    """The tree as `ledger.tree_head` has it; `checkpoint` None: nothing that can be trusted is signed."""

    size: int
    checkpoint: Checkpoint | None

    @property
    def root(self) -> SignedRoot | None:
        """What the checkpoint says."""
        return SignedRoot(self.checkpoint.size, self.checkpoint.root) if self.checkpoint else None


async def verify_log(
    conn: Conn, keyring: Keyring, *, against: Mapping[str, str] = {}, progress: Progress | None = None
) -> Verification:
    """Verify the whole log.

    keyring    opens the log's keys
    against  signed checkpoints that somebody kept elsewhere, by the name of the file

    Raises psycopg.Error.
    """
    result = Verification()
    keys = await keyring.list_own_keys(conn)
    head = await _read_head(conn, keys, result)
    given = _open_given(against, keys, head, result)
    comparison = TreeComparison(lambda level, number: _read_tile(conn, level, number), result.report)
    for begin in range(0, head.size, BLOCK_EVENTS):
        end = min(begin + BLOCK_EVENTS, head.size)
        await _compare_block(conn, comparison, begin, end, given, keys, result)
        if progress:
            progress(end, head.size)
    await comparison.finish(head.root)
    result.sealed = result.upto = comparison.size
    result.root = encode_base64(comparison.root)
    await _check_ends(conn, head, result)
    if not head.size and not result.findings:
        result.report.add("empty", "there is nothing to verify: no event has been sealed")
    return result


async def verify_range(conn: Conn, keyring: Keyring, begin: int, end: int, *, seconds: float) -> Verification:
    """Verify the events after position `begin`, a multiple of TILE_WIDTH, up to `end` or the end of the tree;
    fewer where that takes longer than `seconds`: as far as `upto` says.

    The stored hashes of what is before and after lead from these events to the root of the newest checkpoint.
    So ranges that together are the whole log verify as much as `verify_log` does. It leaves half of the time
    to the other work of the process. Raises psycopg.Error.
    """
    result = Verification(upto=begin)
    deadline = asyncio.get_running_loop().time() + seconds
    keys = await keyring.list_own_keys(conn)
    head = await _read_head(conn, keys, result)
    end, result.sealed = min(end, head.size), head.size
    try:
        start = await _read_start(conn, begin)
    except DamagedTree as error:
        result.report.add("tile", f"events after position {begin}, up to {end}, were not compared: {error}")
        result.upto = end
        return result
    comparison = TreeComparison(lambda level, number: _read_tile(conn, level, number), result.report, start)
    while result.upto < end:
        upto = min(result.upto + BLOCK_EVENTS, end)
        await _compare_block(conn, comparison, result.upto, upto, [], keys, result, is_shared=True)
        result.upto = upto
        if asyncio.get_running_loop().time() >= deadline:
            break
    await _finish_range(conn, comparison, head, result)
    if result.upto == head.size:
        await _check_ends(conn, head, result)
    return result


async def _read_start(conn: Conn, size: int) -> Start:
    """The stored tree of the first `size` leaves. Raises psycopg.Error, and DamagedTree when hashes lack."""
    nodes = cover(Leaves(0, size))
    hashes = await read_nodes(conn, nodes)
    rows: list[list[bytes]] = []
    count, level = size >> TILE_HEIGHT, 1
    while count:
        number, width = divmod(count, TILE_WIDTH)
        stored = await _read_tile(conn, level, number) if width else b""
        if len(stored) < width * HASH_BYTES:
            raise DamagedTree(f"the stored tile {number} of level {level} lacks hashes")
        rows.append([stored[place * HASH_BYTES : (place + 1) * HASH_BYTES] for place in range(width)])
        level, count = level + 1, number
    return Start(Frontier(size, [hashes[node] for node in nodes]), rows)


async def _finish_range(conn: Conn, comparison: TreeComparison, head: _Head, result: Verification) -> None:
    """Compare the tree with the newest checkpoint, by the stored hashes of what follows the range."""
    nodes = cover(Leaves(comparison.size, head.size))
    rest: list[tuple[Node, bytes]] = []
    newest = head.root
    try:
        hashes = await read_nodes(conn, nodes)
        rest = [(node, hashes[node]) for node in nodes]
    except DamagedTree as error:
        result.report.add("tile", f"the newest checkpoint was not compared: {error}")
        newest = None
    await comparison.finish(newest, rest)
    result.root = encode_base64(comparison.root)


async def _read_head(conn: Conn, keys: list[VerifierKey], result: Verification) -> _Head:
    row = await fetch_one(conn, _TREE_HEAD)
    if row is None:
        result.report.add("head", "there is nothing to verify: ledger.tree_head has no row")
        return _Head(0, None)
    size, root, note = row
    if not note and not size:
        return _Head(0, None)
    checkpoint = _open(note, keys, "the newest checkpoint", result)
    if checkpoint is None:
        return _Head(size, None)
    result.origin = checkpoint.origin
    if (checkpoint.size, checkpoint.root) != (size, root):
        message = (
            f"the newest checkpoint is of {checkpoint.size} events, and ledger.tree_head of {size}, or of "
        )
        result.report.add("head", f"{message}another root")
    return _Head(checkpoint.size, checkpoint)


def _open(note: str, keys: list[VerifierKey], name: str, result: Verification) -> Checkpoint | None:
    """A checkpoint of the log's own; None, and a finding, for any other one."""
    try:
        checkpoint = open_checkpoint(note, *keys)
    except ProofError as error:
        result.report.add("signature", f"{name}: {error}")
        return None
    result.checkpoints += 1
    return checkpoint


def _open_given(
    against: Mapping[str, str], keys: list[VerifierKey], head: _Head, result: Verification
) -> list[Checkpoint]:
    """Those of the given checkpoints that the tree reaches."""
    given: list[Checkpoint] = []
    for name, note in against.items():
        checkpoint = _open(note, keys, name, result)
        if checkpoint is None:
            continue
        if checkpoint.size <= head.size:
            given.append(checkpoint)
        else:
            message = f"the log was cut: {name} is of {checkpoint.size} events, and the tree has {head.size}"
            result.report.add("cut", message, head.size, head.size + 1)
    return given


async def _compare_block(
    conn: Conn,
    comparison: TreeComparison,
    begin: int,
    end: int,
    given: list[Checkpoint],
    keys: list[VerifierKey],
    result: Verification,
    *,
    is_shared: bool = False,
) -> None:
    """Compare the leaves from `begin` up to `end`, and the checkpoints that end there. `is_shared`: whether
    the process serves requests meanwhile."""
    leaves: list[bytes | None] = [None] * (end - begin)
    per_page = SHARED_PAGE_EVENTS if is_shared else RECORDS_PER_PAGE
    async for page in read_records(conn, begin, end, per_page=per_page):
        begun = time.perf_counter()
        for record in page:
            leaves[record.position - 1 - begin] = derive_leaf_hash(record)
        if is_shared:
            await asyncio.sleep(time.perf_counter() - begun)
    roots = [SignedRoot(each.size, each.root, True) for each in given if begin < each.size <= end]
    for size, note in await fetch_all(conn, _KEPT, {"after": begin, "upto": end}):
        checkpoint = _open(note, keys, f"the kept checkpoint of {size} events", result)
        if checkpoint and checkpoint.size == size:
            roots.append(SignedRoot(size, checkpoint.root))
        elif checkpoint:
            message = f"the kept checkpoint of {size} events is of {checkpoint.size}"
            result.report.add("checkpoint", message)
    numbers = range(begin // TILE_WIDTH, -(-end // TILE_WIDTH))
    tiles = await read_tiles(conn, [(0, number) for number in numbers])
    for number in numbers:
        first, last = number * TILE_WIDTH, min((number + 1) * TILE_WIDTH, end)
        ending = [each for each in roots if first < each.size <= last]
        stored = tiles.get((0, number), b"")
        await comparison.add_tile(leaves[first - begin : last - begin], stored, ending)


async def _read_tile(conn: Conn, level: int, number: int) -> bytes:
    return await read_tile(conn, level, number) or b""


async def _check_ends(conn: Conn, head: _Head, result: Verification) -> None:
    """Compare where the log, its head, the tree and the checkpoints end."""
    row = await fetch_one(conn, _ENDS, {"size": head.size})
    if row is None:
        result.report.add("head", "ledger.head_lock has no row")
        return
    position, reached, tree_size, unsealed, first, leaf_count, kept_size = row
    result.unsealed = unsealed
    if position < head.size:
        message = f"the log was cut: its head is at position {position}, and the tree has {head.size} events"
        result.report.add("cut", message, position, position + 1)
    elif unsealed != reached - head.size:
        hole_row = await fetch_one(conn, _FIRST_HOLE, {"size": head.size})
        hole = hole_row[0] if hole_row else head.size + unsealed + 1
        message = f"the log reached position {reached}, but its events do not end there without a hole"
        result.report.add("positions", message, hole - 1, hole)
    if first is not None and first < 1:
        result.report.add("positions", f"there is an event at position {first}", first - 1, first)
    if leaf_count > tree_size or (kept_size or 0) > tree_size:
        message = f"the newest checkpoint is of {tree_size} events, but more were sealed: it is an older one"
        result.report.add("rolled_back", message, tree_size, tree_size + 1)
