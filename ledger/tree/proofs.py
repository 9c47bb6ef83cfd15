"""Proofs from the stored tiles: that a record is in the log, and that one tree continues another.

A proof reads the hashes it needs by one statement. Positions and sizes are those of the sealed tree; the
leaf of the record at a position has the number `position - 1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.postgres.connections import Conn
from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.merkle import (
    Leaves,
    cover,
    fold_inclusion,
    hash_range,
    plan_consistency,
    plan_inclusion,
)
from ledger.tlog.notes import parse_note
from ledger.tlog.proof_files import ProofFile
from ledger.tree.checkpoints import find_newest_cosigned
from ledger.tree.storage import read_nodes, read_tree_head


class Inclusion(NamedTuple):
    """A leaf, and what proves that it is in the tree with this root; `hashes` from its sibling upwards."""

    leaf_hash: bytes
    hashes: list[bytes]
    root: bytes


async def find_inclusion(conn: Conn, position: int, size: int) -> Inclusion:
    """The leaf of the record at `position`, and the proof that the tree of the first `size` records has it.
    Raises psycopg.Error and DamagedTree."""
    leaf = Leaves(position - 1, position)
    plan = plan_inclusion(leaf.begin, size)
    leaf_hash, *hashes = await _read_plan(conn, [leaf, *plan])
    return Inclusion(leaf_hash, hashes, fold_inclusion(leaf_hash, leaf.begin, plan, hashes))


async def prove_inclusion(conn: Conn, position: int, size: int) -> list[bytes]:
    """The hashes that prove that the tree of the first `size` records has the record at `position`, from the
    leaf's sibling upwards. Raises psycopg.Error and DamagedTree."""
    return (await find_inclusion(conn, position, size)).hashes


async def prove_consistency(conn: Conn, old_size: int, size: int) -> list[bytes]:
    """The hashes that prove that the tree of `size` records continues the one of `old_size`; [] where nothing
    needs proof. Raises psycopg.Error and DamagedTree."""
    return await _read_plan(conn, plan_consistency(old_size, size))


async def make_proof_file(conn: Conn, position: int, extra: bytes | None = None) -> str:
    """The text of the proof file for the record at `position`: in the newest checkpoint that a witness has
    cosigned, if one of them has the record, and otherwise in the newest one.

    extra  the record's canonical form, for a reader who may have it

    Raises psycopg.Error and DamagedTree.
    """
    cosigned = await find_newest_cosigned(conn, position)
    note = (await read_tree_head(conn)).note if cosigned is None else cosigned.note
    size = parse_checkpoint(parse_note(note).text).size
    hashes = await prove_inclusion(conn, position, size)
    return ProofFile(position - 1, tuple(hashes), note, extra).encode()


async def _read_plan(conn: Conn, plan: Sequence[Leaves]) -> list[bytes]:
    hashes = await read_nodes(conn, {node for leaves in plan for node in cover(leaves)})
    return [hash_range(leaves, hashes) for leaves in plan]
