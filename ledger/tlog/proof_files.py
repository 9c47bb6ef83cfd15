"""Proof files (C2SP tlog-proof): everything that shows offline that an entry is in a log.

The proof files of this service hold the record itself, in its canonical form, as their extra data: the log's
entry is the SHA-256 hash of it. It is trusted only because that hash is what the proof leads to.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from ledger.tlog.encoding import decode_base64, decode_hash, encode_base64, parse_decimal
from ledger.tlog.merkle import ProofError, check_inclusion, hash_leaf
from ledger.tlog.notes import parse_note
from ledger.tlog.policies import Policy, Trusted

FIRST_LINE = "c2sp.org/tlog-proof@v1"
FILE_SUFFIX = ".tlog-proof"
FILE_BYTES_MAX = 64 * 1024 * 1024
HASHES_MAX = 63
_EXTRA = "extra "
_INDEX = "index "


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A proof file.

    index            the number of the leaf, from 0
    hashes           the inclusion proof, from the leaf's sibling upwards
    checkpoint_note  the signed checkpoint, as a text
    extra            the record's canonical form; None: whoever verifies must know the entry
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_note: str
    extra: bytes | None = None

    def encode(self) -> str:
        """The file's text."""
        lines = [FIRST_LINE]
        if self.extra is not None:
            lines.append(_EXTRA + encode_base64(self.extra))
        lines += (f"{_INDEX}{self.index}", *map(encode_base64, self.hashes), "")
        return "".join(f"{line}\n" for line in lines) + self.checkpoint_note


def parse_proof_file(text: str | bytes) -> ProofFile:
    """Read a proof file, of which nothing is verified yet. Raises ProofError."""
    if len(text) > FILE_BYTES_MAX:
        raise ProofError(f"the proof file is longer than {FILE_BYTES_MAX} bytes")
    try:
        content = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise ProofError("the proof file is not UTF-8") from None
    head, separator, checkpoint_note = content.partition("\n\n")
    if not head.startswith(FIRST_LINE + "\n"):
        raise ProofError(f"the proof file does not begin with the line {FIRST_LINE}")
    if not separator:
        raise ProofError("the proof file is truncated: it has no checkpoint")
    _, *lines = head.split("\n")
    extra = None
    if lines[0].startswith(_EXTRA):
        extra = decode_base64(lines.pop(0).removeprefix(_EXTRA), "the extra data")
    if not lines or not lines[0].startswith(_INDEX):
        raise ProofError("the proof file has no line with the index")
    index = parse_decimal(lines.pop(0).removeprefix(_INDEX), "the index")
    if len(lines) > HASHES_MAX:
        raise ProofError(f"the proof has more than {HASHES_MAX} hashes")
    parse_note(checkpoint_note)
    hashes = tuple(decode_hash(line, f"hash {number} of the proof") for number, line in enumerate(lines, 1))
    return ProofFile(index, hashes, checkpoint_note, extra)


def verify_proof_file(proof: ProofFile, leaf_hash: bytes | None, policy: Policy) -> Trusted:
    """Check that the leaf is in a tree that the policy accepts, and say in which.

    leaf_hash  None: that of the record in the extra data

    Raises ProofError that says what is missing or wrong.
    """
    if leaf_hash is None:
        if proof.extra is None:
            raise ProofError("the proof file has no extra data, so the entry must be given")
        leaf_hash = hash_leaf(sha256(proof.extra).digest())
    trusted = policy.check(proof.checkpoint_note)
    tree = trusted.checkpoint
    check_inclusion(leaf_hash, proof.index, tree.size, proof.hashes, tree.root)
    return trusted
