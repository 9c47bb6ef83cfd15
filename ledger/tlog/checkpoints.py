"""Checkpoints (C2SP tlog-checkpoint): a signed note that says how large a log's tree is, and its root."""

from __future__ import annotations

from typing import NamedTuple

from ledger.tlog.encoding import encode_base64
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import EMPTY_ROOT, ProofError
from ledger.tlog.notes import parse_note, verify_note
from ledger.tlog.signed_messages import split_checkpoint


class Checkpoint(NamedTuple):
    """What a checkpoint says.

    origin      the name of the log, which is also that of its keys
    size        the number of leaves
    extensions  more lines, which we read and never write
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The text to sign."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint, without signatures. Raises ProofError."""
    checkpoint = Checkpoint(*split_checkpoint(text))
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise ProofError("the checkpoint's root is not that of an empty tree")
    return checkpoint


def open_checkpoint(note_text: str | bytes, *keys: VerifierKey) -> Checkpoint:
    """What a signed checkpoint says. Raises ProofError unless one of these keys signed it, and that key
    has the name of the log."""
    note = parse_note(note_text)
    signers = verify_note(note, keys)
    checkpoint = parse_checkpoint(note.text)
    if not any(key.name == checkpoint.origin for key in signers):
        raise ProofError(f"the checkpoint is of the log {checkpoint.origin!a}, which has no known key")
    return checkpoint
