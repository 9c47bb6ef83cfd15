"""Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.

Signatures of keys that the reader does not know are ignored, so a note can be signed with a new key, and
cosigned, without notice. A wrong signature of a key that the reader does know makes the whole note worthless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ledger.tlog.encoding import decode_base64, encode_base64
from ledger.tlog.keys import KEY_ID_BYTES, SignerKey, VerifierKey, check_key_name
from ledger.tlog.merkle import ProofError

NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100

_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH} "


class NoteSignature(NamedTuple):
    """One signature line.

    key_id     4 bytes; with the name it says which key signed, and how
    signature  what follows the key id; its form is that of the key's type
    """

    name: str
    key_id: bytes
    signature: bytes

    def is_of(self, key: VerifierKey) -> bool:
        """Whether the line claims to be of this key."""
        return (self.name, self.key_id) == (key.name, key.key_id)

    def to_line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}\n"


class Note(NamedTuple):
    """A note, whose text must not be used before `verify_note`.

    text  ends with a newline
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_text(self) -> str:
        """The whole note."""
        return self.text + "\n" + "".join(signature.to_line() for signature in self.signatures)

    def merge(self, signatures: Iterable[NoteSignature]) -> Note:
        """The note with more signatures, each key's newest in place of an older one."""
        merged = {signature[:2]: signature for signature in (*self.signatures, *signatures)}
        return Note(self.text, tuple(merged.values()))


def parse_note(text: str | bytes) -> Note:
    """Read a note, whose signatures are not verified yet. Raises ProofError."""
    try:
        size_bytes = len(text if isinstance(text, bytes) else text.encode())
        content = text.decode() if isinstance(text, bytes) else text
    except UnicodeError:
        raise ProofError("the note is not UTF-8") from None
    if size_bytes > NOTE_BYTES_MAX:
        raise ProofError(f"the note is longer than {NOTE_BYTES_MAX} bytes")
    if _CONTROL.search(content):
        raise ProofError("the note has a control character")
    body, separator, tail = content.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise ProofError("the note is truncated: no empty line and signature lines at its end")
    return Note(f"{body}\n", parse_signature_lines(tail))


def parse_signature_lines(text: str) -> tuple[NoteSignature, ...]:
    """Read signature lines, each with its newline. Raises ProofError."""
    *lines, rest = text.split("\n")
    if rest or not lines:
        raise ProofError("a signature line does not end")
    if len(lines) > SIGNATURES_MAX:
        raise ProofError(f"the note has more than {SIGNATURES_MAX} signatures")
    return tuple(_parse_signature_line(line) for line in lines)


def _parse_signature_line(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not separator:
        raise ProofError("a signature line is not an em dash, a key's name and base64")
    check_key_name(name)
    content = decode_base64(encoded, f"the signature of {name!a}")
    if len(content) <= KEY_ID_BYTES:
        raise ProofError(f"the signature of {name!a} is too short")
    return NoteSignature(name, content[:KEY_ID_BYTES], content[KEY_ID_BYTES:])


def sign_note(text: str, signers: Sequence[SignerKey], at: int = 0) -> str:
    """The note of a text that ends with a newline, signed by these keys.

    at  unix seconds, for keys whose signatures have a time

    Raises ProofError for a text that a note cannot have.
    """
    if not text.endswith("\n") or _CONTROL.search(text):
        raise ProofError("a note's text ends with a newline and has no other control character")
    return Note(text, tuple(sign_text(text, signer, at) for signer in signers)).to_text()


def sign_text(text: str, signer: SignerKey, at: int = 0) -> NoteSignature:
    """One key's signature of a note's text."""
    return NoteSignature(signer.name, signer.verifier.key_id, signer.sign(text, at))


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """The keys that signed the note, each once. Raises ProofError when none of them did, and when the
    signature of one of them is wrong."""
    verified: list[VerifierKey] = []
    for key in keys:
        claimed = [line.signature for line in note.signatures if line.is_of(key)]
        for signature in claimed:
            key.verify(note.text, signature)
        if claimed and key not in verified:
            verified.append(key)
    if not verified:
        raise ProofError("the note is not signed by a known key")
    return verified
