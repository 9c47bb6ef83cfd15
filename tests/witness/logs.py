"""A log in memory, with the key that signs its checkpoints: what a witness is asked to cosign."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import EMPTY_ROOT, Leaves, Node, cover, hash_children, hash_leaf, plan_consistency
from ledger.tlog.notes import sign_note
from ledger.tlog.submissions import Submission

ORIGIN = "log.example/1"
SIGNER = SignerKey.make(ORIGIN, bytes(32))


class SampleLog:
    """Entries, from which every checkpoint and proof is computed anew."""

    def __init__(self, entries: Sequence[str] = (), signer: SignerKey = SIGNER) -> None:
        self.leaves = [hash_leaf(entry.encode()) for entry in entries]
        self.signer = signer

    def append(self, *entries: str) -> None:
        self.leaves += [hash_leaf(entry.encode()) for entry in entries]

    def sign(self, size: int | None = None) -> str:
        """The signed checkpoint of the first `size` leaves."""
        size = len(self.leaves) if size is None else size
        root = self._hash(Leaves(0, size)) if size else EMPTY_ROOT
        return sign_note(Checkpoint(self.signer.name, size, root).to_text(), [self.signer])

    def prove(self, old_size: int, size: int) -> list[bytes]:
        return [self._hash(leaves) for leaves in plan_consistency(old_size, size)]

    def submit(self, old_size: int, size: int | None = None) -> bytes:
        """The body of a request to cosign the first `size` leaves; without a proof if there can be none."""
        size = len(self.leaves) if size is None else size
        proof = self.prove(old_size, size) if old_size <= size else []
        return Submission(old_size, proof, self.sign(size)).encode()

    def _hash(self, leaves: Leaves) -> bytes:
        *others, last = map(self._hash_node, cover(leaves))
        for node_hash in reversed(others):
            last = hash_children(node_hash, last)
        return last

    def _hash_node(self, node: Node) -> bytes:
        row = self.leaves[node.number << node.level : (node.number + 1) << node.level]
        while len(row) > 1:
            row = [hash_children(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
        return row[0]
