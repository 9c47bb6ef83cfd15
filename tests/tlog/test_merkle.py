"""The Merkle tree against the definitions of RFC 6962, written down here as they are there: recursively."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    Leaves,
    Node,
    ProofError,
    check_consistency,
    check_inclusion,
    cover,
    hash_leaf,
    hash_range,
    plan_consistency,
    plan_inclusion,
)

SIZE_MAX = 40
# The entries and roots of the reference trees that implementations of certificate transparency test with.
REFERENCE_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
REFERENCE_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def test_the_roots_of_the_reference_trees() -> None:
    frontier = Frontier()
    assert frontier.root == EMPTY_ROOT
    for entry, root in zip(REFERENCE_ENTRIES, REFERENCE_ROOTS, strict=True):
        frontier.append(hash_leaf(entry))
        assert frontier.root.hex() == root


def make_leaves(count: int) -> list[bytes]:
    return [hash_leaf(b"entry %d" % number) for number in range(count)]


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of the RFC, over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    k = split(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def audit_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of the RFC."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*audit_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*audit_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


def consistency_proof(old_size: int, leaves: list[bytes], *, is_complete: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF of the RFC."""
    if old_size == len(leaves):
        return [] if is_complete else [tree_hash(leaves)]
    k = split(len(leaves))
    if old_size <= k:
        return [*consistency_proof(old_size, leaves[:k], is_complete=is_complete), tree_hash(leaves[k:])]
    return [*consistency_proof(old_size - k, leaves[k:], is_complete=False), tree_hash(leaves[:k])]


def split(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def complete_nodes(leaves: list[bytes]) -> dict[Node, bytes]:
    """The hashes of all complete nodes of the tree."""
    return {
        Node(level, number): tree_hash(leaves[number << level : (number + 1) << level])
        for level in range(len(leaves).bit_length())
        for number in range(len(leaves) >> level)
    }


@pytest.mark.parametrize("size", range(1, SIZE_MAX))
def test_proofs_of_all_small_trees_are_those_of_the_definition(size: int) -> None:
    leaves = make_leaves(size)
    nodes, root = complete_nodes(leaves), tree_hash(leaves)
    assert hash_range(Leaves(0, size), nodes) == root
    for index in range(size):
        proof = [hash_range(part, nodes) for part in plan_inclusion(index, size)]
        assert proof == audit_path(index, leaves)
        check_inclusion(leaves[index], index, size, proof, root)
    for old_size in range(1, size + 1):
        proof = [hash_range(part, nodes) for part in plan_consistency(old_size, size)]
        assert proof == consistency_proof(old_size, leaves)
        check_consistency(old_size, tree_hash(leaves[:old_size]), size, root, proof)
    check_consistency(0, EMPTY_ROOT, size, root, [])


@settings(max_examples=200)
@given(st.data())
def test_a_changed_proof_is_refused(data: st.DataObject) -> None:
    """Any bit of any hash, a hash left out or added, another index, another root, another leaf."""
    size = data.draw(st.integers(2, SIZE_MAX))
    leaves = make_leaves(size)
    root, index = tree_hash(leaves), data.draw(st.integers(0, size - 1))
    proof = audit_path(index, leaves)
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    flipped = flip(proof[place], bit)
    for changed in (
        [*proof[:place], flipped, *proof[place + 1 :]],
        [*proof[:place], *proof[place + 1 :]],
        [*proof, flipped],
    ):
        with pytest.raises(ProofError):
            check_inclusion(leaves[index], index, size, changed, root)
    other = data.draw(st.integers(-1, size).filter(lambda number: number != index))
    for leaf, number, expected in (
        (leaves[index], other, root),
        (flip(leaves[index], bit), index, root),
        (leaves[index], index, flip(root, bit)),
    ):
        with pytest.raises(ProofError):
            check_inclusion(leaf, number, size, proof, expected)


@settings(max_examples=200)
@given(st.data())
def test_a_changed_consistency_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, SIZE_MAX))
    old_size = data.draw(st.integers(1, size - 1))
    leaves = make_leaves(size)
    old_root, root = tree_hash(leaves[:old_size]), tree_hash(leaves)
    proof = consistency_proof(old_size, leaves)
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    changed = [*proof[:place], flip(proof[place], bit), *proof[place + 1 :]]
    for old, new, hashes in (
        (old_root, root, changed),
        (old_root, root, proof[1:]),
        (flip(old_root, bit), root, proof),
        (old_root, flip(root, bit), proof),
    ):
        with pytest.raises(ProofError):
            check_consistency(old_size, old, size, new, hashes)
    with pytest.raises(ProofError, match="shrank"):
        check_consistency(size, root, old_size, old_root, proof)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_cover_is_the_range_without_gaps_and_as_short_as_can_be(one: int, other: int) -> None:
    leaves = Leaves(min(one, other), max(one, other))
    nodes = cover(leaves)
    begin = leaves.begin
    for node in nodes:
        assert node.number << node.level == begin
        begin += 1 << node.level
    assert begin == leaves.end
    # Two neighbours that make one node would have been taken as that one.
    for left, right in pairwise(nodes):
        assert not (left.level == right.level and left.number % 2 == 0)
    assert len(nodes) <= 2 * max(1, leaves.end.bit_length())


@given(st.lists(st.integers(0, 5), max_size=40))
def test_a_frontier_grows_by_leaves_and_by_nodes_alike(levels: list[int]) -> None:
    leaves = make_leaves(40 * 32)
    frontier = Frontier()
    for level in levels:
        if frontier.size % (1 << level):
            with pytest.raises(ProofError):
                frontier.append(b"", level)
            continue
        frontier.append(tree_hash(leaves[frontier.size : frontier.size + (1 << level)]), level)
    size = frontier.size
    assert frontier.root == tree_hash(leaves[:size])
    assert frontier.hashes == [
        tree_hash(leaves[node.number << node.level : (node.number + 1) << node.level])
        for node in cover(Leaves(0, size))
    ]
    assert Frontier(size, frontier.hashes).root == frontier.root


def flip(content: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
