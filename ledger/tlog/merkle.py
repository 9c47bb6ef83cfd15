"""The Merkle tree of RFC 6962, section 2.1: hashes, and proofs of inclusion and consistency.

A node `(level, number)` is the complete subtree over the leaves from `number * 2**level` to the next multiple
of `2**level`. All trees of a log share their complete nodes, so a proof is planned as a list of ranges of
leaves, each range is covered by complete nodes, and whoever keeps the nodes computes the proof's hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger.errors import LedgerError

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


class ProofError(LedgerError):
    """A proof does not prove what it is offered for; `str()` is one line that says why."""


class Node(NamedTuple):
    """A complete subtree of `2**level` leaves, the first of which is leaf `number * 2**level`."""

    level: int
    number: int


class Leaves(NamedTuple):
    """The leaves from `begin` up to `end`, without `end`; numbered from 0."""

    begin: int
    end: int


def hash_leaf(entry: bytes) -> bytes:
    """The hash of the leaf that holds `entry`."""
    return sha256(b"\x00" + entry).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two nodes."""
    return sha256(b"\x01" + left + right).digest()


def hash_parents(row: bytes) -> bytes:
    """The hashes of the nodes above a row of nodes, whose hashes follow one another; an even number."""
    pairs = range(0, len(row), 2 * HASH_BYTES)
    return b"".join([sha256(b"\x01" + row[begin : begin + 2 * HASH_BYTES]).digest() for begin in pairs])


def cover(leaves: Leaves) -> list[Node]:
    """The fewest complete nodes that together hold just these leaves, from left to right."""
    nodes: list[Node] = []
    begin, end = leaves
    while begin < end:
        aligned = (begin & -begin).bit_length() - 1 if begin else 64
        level = min(aligned, (end - begin).bit_length() - 1)
        nodes.append(Node(level, begin >> level))
        begin += 1 << level
    return nodes


def hash_range(leaves: Leaves, hashes: Mapping[Node, bytes]) -> bytes:
    """The hash of the subtree over a range of a plan; `hashes` has those of the nodes that cover it."""
    *others, last = cover(leaves)
    result = hashes[last]
    for node in reversed(others):
        result = hash_children(hashes[node], result)
    return result


def plan_inclusion(index: int, size: int) -> list[Leaves]:
    """The ranges whose hashes prove that the leaf `index` is in the tree of `size` leaves, from the leaf's
    sibling upwards (PATH in the RFC)."""
    assert 0 <= index < size
    path: list[Leaves] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(Leaves(middle, end))
            end = middle
        else:
            path.append(Leaves(begin, middle))
            begin = middle
    return path[::-1]


def plan_consistency(old_size: int, size: int) -> list[Leaves]:
    """The ranges whose hashes prove that the tree of `size` leaves begins with the tree of `old_size` leaves
    (PROOF in the RFC). [] for two trees of one size, and for an empty old tree."""
    assert 0 <= old_size <= size
    if old_size in (0, size):
        return []
    path: list[Leaves] = []
    begin, end = 0, size
    while old_size != end:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            path.append(Leaves(middle, end))
            end = middle
        else:
            path.append(Leaves(begin, middle))
            begin = middle
    if begin:
        path.append(Leaves(begin, end))
    return path[::-1]


def check_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf is number `index` of the tree with this root. Raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"the tree of {size} leaves has no leaf {index}")
    plan = plan_inclusion(index, size)
    if len(plan) != len(proof):
        raise ProofError(f"the proof has {len(proof)} hashes instead of {len(plan)}")
    if fold_inclusion(leaf_hash, index, plan, proof) != root:
        raise ProofError(f"the leaf {index} is not in the tree of {size} leaves with this root")


def fold_inclusion(leaf_hash: bytes, index: int, plan: Sequence[Leaves], proof: Sequence[bytes]) -> bytes:
    """The root that follows from a proof, whose `plan` is that of `plan_inclusion`."""
    result = leaf_hash
    for leaves, sibling in zip(plan, proof, strict=True):
        result = hash_children(sibling, result) if leaves.begin < index else hash_children(result, sibling)
    return result


def check_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `size` leaves begins with the tree of `old_size` leaves. Raises ProofError."""
    if old_size > size:
        raise ProofError(f"the tree shrank from {old_size} to {size} leaves")
    plan = plan_consistency(old_size, size)
    if len(plan) != len(proof):
        raise ProofError(f"the proof has {len(proof)} hashes instead of {len(plan)}")
    if old_size == 0:
        is_consistent = old_root == EMPTY_ROOT
    elif old_size == size:
        is_consistent = old_root == root
    else:
        is_consistent = _fold_consistency(old_size, old_root, plan, proof) == (old_root, root)
    if not is_consistent:
        raise ProofError(f"the tree of {size} leaves does not begin with the tree of {old_size} leaves")


def _fold_consistency(
    old_size: int, old_root: bytes, plan: Sequence[Leaves], proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The roots of the old and the new tree that follow from the proof."""
    hashes = list(zip(plan, proof, strict=True))
    if hashes[0][0].end == old_size and hashes[0][0].begin:
        old_result = new_result = hashes.pop(0)[1]
    else:
        old_result = new_result = old_root  # the old tree is one complete node
    for leaves, sibling in hashes:
        if leaves.begin < old_size:
            old_result = hash_children(sibling, old_result)
            new_result = hash_children(sibling, new_result)
        else:
            new_result = hash_children(new_result, sibling)
    return old_result, new_result


class Frontier:
    """The right edge of a growing tree: enough to append leaves or complete nodes, and to know the root. Its
    size does not grow with the tree's but with the tree's height."""

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """`hashes`: those of the nodes that cover a tree of `size` leaves, from left to right."""
        self.size = size
        self._hashes = list(hashes)
        assert len(self._hashes) == size.bit_count()

    def append(self, node_hash: bytes, level: int = 0) -> None:
        """Append a leaf, or the complete node of `2**level` leaves that begins where the tree ends. Raises
        ProofError for a node that cannot begin there."""
        if self.size % (1 << level):
            raise ProofError(f"no node of level {level} begins at leaf {self.size}")
        carried = self.size >> level
        self.size += 1 << level
        while carried & 1:
            node_hash = hash_children(self._hashes.pop(), node_hash)
            carried >>= 1
        self._hashes.append(node_hash)

    @property
    def hashes(self) -> list[bytes]:
        """Those of the nodes that cover the tree, from left to right."""
        return list(self._hashes)

    @property
    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self._hashes:
            return EMPTY_ROOT
        *others, result = self._hashes
        for node_hash in reversed(others):
            result = hash_children(node_hash, result)
        return result


def _split(leaf_count: int) -> int:
    """The largest power of two below `leaf_count`: where a tree divides."""
    return 1 << (leaf_count - 1).bit_length() - 1
