"""What a key signs, by type of signature: a note's text, or a message made of it (C2SP tlog-cosignature).

Ed25519 log signatures sign the text itself. Cosignatures are timestamped and sign a message that says so;
that of ML-DSA-44 holds the cosigner's name and what the checkpoint says instead of its text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ledger.tlog.encoding import NUMBER_MAX, decode_hash, parse_decimal
from ledger.tlog.merkle import ProofError

TIMESTAMP_BYTES = 8
NAME_BYTES_MAX = 255
_SUBTREE_LABEL = b"subtree/v1\n\x00"


class SignatureType(IntEnum):
    """The byte that begins a key's encoding and says what it signs."""

    ED25519 = 0x01
    COSIGNATURE_ED25519 = 0x04
    COSIGNATURE_ML_DSA_44 = 0x06

    @property
    def is_timestamped(self) -> bool:
        """Whether a signature begins with the time at which it was made."""
        return self is not SignatureType.ED25519


class CheckpointLines(NamedTuple):
    """The lines of a checkpoint's text, in which `root` is decoded."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...]


def split_checkpoint(text: str) -> CheckpointLines:
    """The lines of a checkpoint's text. Raises ProofError."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise ProofError("the checkpoint is not at least three lines that are not empty")
    origin, size, root, *extensions = lines[:-1]
    return CheckpointLines(
        origin,
        parse_decimal(size, "the checkpoint's tree size"),
        decode_hash(root, "the checkpoint's root hash"),
        tuple(extensions),
    )


def build_message(kind: SignatureType, name: str, text: str, timestamp: int) -> bytes:
    """The bytes that the key `name` signs for the note `text`.

    timestamp  unix seconds; unused for signatures without a time

    Raises ProofError for a text that the type cannot sign.
    """
    if not kind.is_timestamped:
        return text.encode()
    if not 0 <= timestamp <= NUMBER_MAX:
        raise ProofError("the cosignature's time is out of range")
    if kind is SignatureType.COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
    lines = split_checkpoint(text)
    return b"".join(
        (
            _SUBTREE_LABEL,
            _prefix_length(name),
            timestamp.to_bytes(8, "big"),
            _prefix_length(lines.origin),
            (0).to_bytes(8, "big"),
            lines.size.to_bytes(8, "big"),
            lines.root,
        )
    )


def _prefix_length(text: str) -> bytes:
    content = text.encode()
    if not 0 < len(content) <= NAME_BYTES_MAX:
        raise ProofError(f"a name of {len(content)} bytes cannot be signed: at most {NAME_BYTES_MAX}")
    return bytes((len(content),)) + content
