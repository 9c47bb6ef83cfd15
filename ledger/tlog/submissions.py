"""The request in which a log asks a witness for its cosignature (C2SP tlog-witness, `add-checkpoint`).

old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
(an empty line, then the checkpoint as a signed note)
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.tlog.encoding import decode_hash, encode_base64, parse_decimal
from ledger.tlog.merkle import ProofError

PROOF_HASHES_MAX = 63
SIZE_CONTENT_TYPE = "text/x.tlog.size"
"""Of the answer to a submission that does not begin where the witness is: the size where it is."""


class Submission(NamedTuple):
    """A checkpoint, and the proof that it continues the one that the witness knows.

    old_size  size of the tree that the witness knows; 0 if it knows none
    proof     hashes of the proof of consistency from that size
    note      the checkpoint as a signed note
    """

    old_size: int
    proof: list[bytes]
    note: str

    def encode(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old_size}", *map(encode_base64, self.proof), "", self.note]
        return "\n".join(lines).encode()


def parse_submission(body: bytes) -> Submission:
    """Read the body of a request; what follows the empty line is not parsed. Raises ProofError."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ProofError("the request is not UTF-8") from None
    head, separator, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    if not separator or not first.startswith("old "):
        raise ProofError("the request does not begin with `old <size>`, a proof and an empty line")
    if len(lines) > PROOF_HASHES_MAX:
        raise ProofError(f"the proof has {len(lines)} hashes, at most {PROOF_HASHES_MAX} are allowed")
    old_size = parse_decimal(first.removeprefix("old "), "the old size")
    return Submission(old_size, [decode_hash(line, "a line of the proof") for line in lines], note)
