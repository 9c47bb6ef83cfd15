"""Cosignatures (C2SP tlog-cosignature): a witness says that it saw a checkpoint at a time, and that the log
only ever grew until then.

Two types: Ed25519 `cosignature/v1`, and ML-DSA-44, which needs a release of `cryptography` that has it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import Note, NoteSignature, sign_text, verify_note


def cosign(checkpoint_text: str, signer: SignerKey, at: int) -> NoteSignature:
    """The signature line of a witness, for `Note.merge`.

    checkpoint_text  without signatures, as the log signed it
    at               unix seconds

    Raises ProofError for a text that is no checkpoint, and where the key's algorithm is missing.
    """
    assert signer.kind.is_timestamped
    parse_checkpoint(checkpoint_text)
    return sign_text(checkpoint_text, signer, at)


def verify_cosignatures(note: Note, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int]:
    """The witnesses among `keys` that cosigned a checkpoint, each with the newest time at which it did, in
    unix seconds. {} when none did. Raises ProofError when the cosignature of one of them is wrong."""
    claimed = {key: [line for line in note.signatures if line.is_of(key)] for key in keys}
    present = [key for key, lines in claimed.items() if lines]
    if not present:
        return {}
    if not all(key.kind.is_timestamped for key in present):
        raise ProofError("a witness's key must be of a type for cosignatures")
    return {
        key: max(key.read_time(line.signature) or 0 for line in claimed[key])
        for key in verify_note(note, present)
    }
