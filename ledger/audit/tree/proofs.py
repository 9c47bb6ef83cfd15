"""Answers from the Merkle tree: checkpoints, keys, proofs, tiles and bundles of entries.

Checkpoints, tiles and bundles are about the whole log and have no content, only hashes and the number of
records. What a record says is in a proof file, and only for the record's own account and mode: any other
record is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.audit.auditor import Auditor
from ledger.audit.event_ids import find_event_position
from ledger.audit.moments import POSITION_MAX
from ledger.errors import InvalidParameter, NotSealedYet, UnknownObject
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.context import QueryContext
from ledger.tlog.encoding import encode_base64
from ledger.tlog.merkle import HASH_BYTES, ProofError
from ledger.tlog.tiles import TILE_WIDTH, Tile, parse_tile_path
from ledger.tree.checkpoints import KeptCheckpoint, find_newest_cosigned, list_kept, read_kept
from ledger.tree.keys import PublishedKey, list_keys
from ledger.tree.proofs import find_inclusion, make_proof_file, prove_consistency
from ledger.tree.records import encode_record
from ledger.tree.storage import TreeHead, read_record, read_root, read_tile, read_tree_head

_ENTRY_LENGTH = HASH_BYTES.to_bytes(2, "big")

_HEAD = "SELECT position, ledger.is_active_database() FROM ledger.head"
_OWNER = "SELECT account, livemode FROM ledger.events WHERE notification_id = %(position)s"
_ENTRIES = """
SELECT ledger.record_digest(e) FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s ORDER BY e.notification_id
"""


async def read_checkpoint(queries: QueryContext, size: int | None, *, cosigned: bool) -> str:
    """The newest signed checkpoint, the newest one that a witness has cosigned, or the kept one of this size.
    Raises InvalidParameter, UnknownObject, NotSealedYet while there is none at all, and Unavailable."""
    if cosigned and size is not None:
        raise InvalidParameter("Pass only one of size and cosigned.", param="cosigned")

    async def read(conn: Conn) -> str:
        head = await read_tree_head(conn)
        if cosigned:
            kept = await find_newest_cosigned(conn, 0)
        elif size is None:
            return _get_note(head)
        else:
            kept = await read_kept(conn, size)
        if kept is not None:
            return kept.note
        if size == head.size and head.note:
            return _get_note(head)
        if cosigned:
            hint = ": no witness has cosigned one yet"
            raise UnknownObject("checkpoint", "cosigned", param="cosigned", hint=hint)
        raise UnknownObject("checkpoint", str(size), param="size")

    return await queries.pool.run_idempotent(read)


async def list_checkpoints(
    queries: QueryContext, *, starting_after: int | None, limit: int
) -> dict[str, Any]:
    """A page of the kept checkpoints, the newest first. `starting_after` is a size. Raises Unavailable."""
    before = POSITION_MAX if starting_after is None else starting_after
    rows = await queries.pool.run_idempotent(lambda conn: list_kept(conn, before=before, limit=limit + 1))
    return {
        "object": "list",
        "url": "/internal/v1/audit/checkpoints",
        "has_more": len(rows) > limit,
        "data": [_render_checkpoint(row) for row in rows[:limit]],
    }


async def list_verifier_keys(queries: QueryContext) -> dict[str, Any]:
    """The log's keys, current and retired, as verifiers write them. Raises Unavailable."""
    keys = await queries.pool.run_idempotent(list_keys)
    return {
        "object": "list",
        "url": "/internal/v1/audit/keys",
        "has_more": False,
        "data": [_render_key(key) for key in keys],
    }


async def read_inclusion(
    queries: QueryContext,
    auditor: Auditor,
    *,
    position: int | None,
    event_id: str | None,
    size: int | None,
) -> dict[str, Any]:
    """The proof that a record is in the tree of `size` records (default: all that are sealed). The record is
    named by its position or by a public Event that it made.

    Raises InvalidParameter, UnknownObject, NotSealedYet and Unavailable.
    """
    if (position is None) == (event_id is None):
        raise InvalidParameter("Pass exactly one of position and event.", param="position")

    async def read(conn: Conn) -> dict[str, Any]:
        if event_id is not None:
            at = await _find_own_event(conn, queries, auditor, event_id, param="event")
            tree = await read_sealed(conn, {"event": at, "size": size})
        else:
            assert position is not None
            at, tree = position, await read_sealed(conn, {"position": position, "size": size})
            if not await _is_own(conn, auditor, at):
                raise UnknownObject("record", str(at), param="position")
        tree_size = tree.size if size is None else size
        if at > tree_size:
            raise InvalidParameter(
                f"The tree of {tree_size} records has no record at position {at}.", param="size"
            )
        inclusion = await find_inclusion(conn, at, tree_size)
        return {
            "position": at,
            "index": at - 1,
            "size": tree_size,
            "leaf_hash": encode_base64(inclusion.leaf_hash),
            "hashes": _encode(inclusion.hashes),
            "root": encode_base64(inclusion.root),
            "checkpoint": await _find_note(conn, tree, tree_size),
        }

    return await queries.pool.run_idempotent(read)


async def read_consistency(queries: QueryContext, old_size: int, size: int | None) -> dict[str, Any]:
    """The proof that the tree of `size` records (default: all that are sealed) continues the one of
    `old_size`. Raises InvalidParameter, NotSealedYet and Unavailable."""
    if size is not None and old_size > size:
        raise InvalidParameter(f"`from` is {old_size}, which is after `to`, {size}.", param="from")

    async def read(conn: Conn) -> dict[str, Any]:
        tree = await read_sealed(conn, {"to": size, "from": old_size})
        tree_size = tree.size if size is None else size
        return {
            "from": old_size,
            "to": tree_size,
            "from_root": encode_base64(await read_root(conn, old_size)),
            "root": encode_base64(await read_root(conn, tree_size)),
            "hashes": _encode(await prove_consistency(conn, old_size, tree_size)),
            "from_checkpoint": await _find_note(conn, tree, old_size),
            "checkpoint": await _find_note(conn, tree, tree_size),
        }

    return await queries.pool.run_idempotent(read)


async def read_proof_file(queries: QueryContext, auditor: Auditor, subject: str) -> str:
    """The proof file of a record of the auditor's, named by its position or by a public Event that it made.
    Raises InvalidParameter for a position in the future, UnknownObject, NotSealedYet and Unavailable."""

    async def read(conn: Conn) -> str:
        if subject.isascii() and subject.isdecimal():
            position = int(subject)
            await read_sealed(conn, {"id": position})
            if not await _is_own(conn, auditor, position):
                raise UnknownObject("record", subject)
        else:
            position = await _find_own_event(conn, queries, auditor, subject, param="id")
            await read_sealed(conn, {"id": position})
        record = await read_record(conn, position)
        assert record is not None, "the log loses no record"
        return await make_proof_file(conn, position, encode_record(record))

    return await queries.pool.run_idempotent(read)


async def read_tile_file(queries: QueryContext, path: str) -> bytes:
    """The bytes of a tile or of a bundle of entries, by its path from `tile/` on. Raises InvalidParameter for
    text that is no such path, UnknownObject for a tile that the sealed tree does not have, and Unavailable.
    """
    try:
        tile = parse_tile_path(path)
    except ProofError:
        raise InvalidParameter(
            "Invalid tile path: it is <level>/<number> or entries/<number>, the number in groups of three "
            "digits, as in 0/x001/234 and 0/000.p/17.",
            param="path",
        ) from None

    async def read(conn: Conn) -> bytes:
        hashes = await _read_tile_if_known(conn, tile)
        if len(hashes) < tile.width * HASH_BYTES:
            raise UnknownObject("tile", path.removeprefix("tile/"), param="path")
        if tile.level is not None:
            return hashes[: tile.width * HASH_BYTES]
        after = tile.number * TILE_WIDTH
        rows = await fetch_all(conn, _ENTRIES, {"after": after, "upto": after + tile.width})
        return b"".join(_ENTRY_LENGTH + row[0] for row in rows)

    return await queries.pool.run_idempotent(read)


async def _read_tile_if_known(conn: Conn, tile: Tile) -> bytes:
    """The hashes of the tile, of the one of leaves for a bundle; none when there is no such tile."""
    if tile.number > POSITION_MAX:
        return b""
    return await read_tile(conn, tile.level or 0, tile.number) or b""


async def read_sealed(conn: Conn, positions: dict[str, int | None]) -> TreeHead:
    """The sealed tree, which has all these positions, by the parameter that named each. Raises
    InvalidParameter for one that the log does not have yet, NotSealedYet for one that the tree does not."""
    row = await fetch_one(conn, _HEAD)
    assert row is not None
    tree = await read_tree_head(conn)
    for param, position in positions.items():
        if position is None or position <= tree.size:
            continue
        if position > row[0]:
            raise InvalidParameter(
                f"Position {position} is in the future: the last one is {row[0]}.", param=param
            )
        hint = "Try again in a moment." if row[1] else "This database is a copy, which signs no checkpoints."
        raise NotSealedYet(
            f"Position {position} is not sealed yet: the tree ends at {tree.size}. {hint}", param=param
        )
    return tree


async def _find_own_event(
    conn: Conn, queries: QueryContext, auditor: Auditor, event_id: str, *, param: str
) -> int:
    """The position of the record that made a public Event of the auditor's. Raises UnknownObject."""
    position = await find_event_position(conn, queries.store.codec, event_id)
    if position is None or not await _is_own(conn, auditor, position):
        raise UnknownObject("event", event_id, param=param)
    return position


async def _is_own(conn: Conn, auditor: Auditor, position: int) -> bool:
    """Whether the log has a record at this position, of the auditor's account and mode."""
    if position > POSITION_MAX:
        return False
    row = await fetch_one(conn, _OWNER, {"position": position})
    return row is not None and (row[0], row[1]) == (auditor.account, auditor.livemode)


async def _find_note(conn: Conn, tree: TreeHead, size: int) -> str | None:
    """A signed checkpoint of this size; None when none is kept."""
    kept = await read_kept(conn, size)
    if kept is not None:
        return kept.note
    return _get_note(tree) if size == tree.size else None


def _get_note(tree: TreeHead) -> str:
    if not tree.note:
        raise NotSealedYet("There is no checkpoint yet. Try again in a moment.")
    return tree.note


def _render_checkpoint(kept: KeptCheckpoint) -> dict[str, Any]:
    return {
        "size": kept.size,
        "checkpoint": kept.note,
        "cosignatures": kept.cosignatures,
        "created": int(kept.made_at),
    }


def _render_key(key: PublishedKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "algorithm": key.algorithm,
        "key": str(key.verifier),
        "current": key.retired_at is None,
        "created": int(key.created_at),
        "retired": None if key.retired_at is None else int(key.retired_at),
        "reason": key.reason,
    }


def _encode(hashes: Sequence[bytes]) -> list[str]:
    return [encode_base64(each) for each in hashes]
