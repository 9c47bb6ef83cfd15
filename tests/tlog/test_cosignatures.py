"""Cosignatures of both types: what they sign, what a verifier does with them, and what is refused."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.tlog import keys
from ledger.tlog.cosignatures import cosign, verify_cosignatures
from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note
from ledger.tlog.signed_messages import SignatureType
from tests.tlog.logs import SIGNER, MadeUpLog

LOG = MadeUpLog(7)
AT = 1_796_000_000
TYPES = [SignatureType.COSIGNATURE_ED25519, SignatureType.COSIGNATURE_ML_DSA_44]


def make_witness(kind: SignatureType, seed: int = 7) -> SignerKey:
    return SignerKey.make("witness.example/w1", bytes([seed]) * 32, kind)


@pytest.mark.parametrize("kind", TYPES)
def test_a_cosignature_is_verified_with_its_time(kind: SignatureType) -> None:
    witness, stranger = make_witness(kind), make_witness(kind, 8)
    note = parse_note(LOG.checkpoint_note())
    note = note.merge([cosign(note.text, witness, AT)])
    assert verify_cosignatures(parse_note(note.to_text()), [witness.verifier]) == {witness.verifier: AT}
    assert verify_cosignatures(note, [stranger.verifier]) == {}
    assert verify_cosignatures(note, [stranger.verifier, witness.verifier]) == {witness.verifier: AT}
    renewed = note.merge([cosign(note.text, witness, AT + 60)])
    assert len(renewed.signatures) == 2
    assert verify_cosignatures(renewed, [witness.verifier]) == {witness.verifier: AT + 60}


@pytest.mark.parametrize("kind", TYPES)
def test_a_cosignature_of_another_time_tree_or_log_is_wrong(kind: SignatureType) -> None:
    witness = make_witness(kind)
    note = parse_note(LOG.checkpoint_note())
    line = cosign(note.text, witness, AT)
    later = line._replace(signature=(AT + 1).to_bytes(8, "big") + line.signature[8:])
    short = line._replace(signature=line.signature[:-1])
    for text, changed in (
        (note.text, later),
        (note.text, short),
        (note.text, line._replace(signature=line.signature[:7])),
        (LOG.checkpoint_text(6), line),
        (LOG.checkpoint_text(origin="log.example/2"), line),
        ("no checkpoint\n", line),
    ):
        with pytest.raises(ProofError):
            verify_cosignatures(note._replace(text=text).merge([changed]), [witness.verifier])


def test_the_signed_messages_are_those_of_the_specification() -> None:
    """Built here by hand, and verified by the library itself."""
    text = f"log.example/1\n7\n{b64encode(LOG.root()).decode()}\n"
    assert LOG.checkpoint_text() == text
    seed = make_witness(TYPES[0]).seed
    line = cosign(text, make_witness(TYPES[0]), AT)
    assert line.signature[:8] == AT.to_bytes(8, "big")
    message = f"cosignature/v1\ntime {AT}\n{text}".encode()
    Ed25519PrivateKey.from_private_bytes(seed).public_key().verify(line.signature[8:], message)

    line = cosign(text, make_witness(TYPES[1]), AT)
    assert len(line.signature) == 8 + 2420
    at, begin, end = (number.to_bytes(8, "big") for number in (AT, 0, 7))
    names = (b"\x12witness.example/w1", b"\x0dlog.example/1")
    message = b"".join((b"subtree/v1\n\0", names[0], at, names[1], begin, end, LOG.root()))
    mldsa.MLDSA44PrivateKey.from_seed_bytes(seed).public_key().verify(line.signature[8:], message)


def test_only_checkpoints_are_cosigned() -> None:
    for kind in TYPES:
        with pytest.raises(ProofError):
            cosign("some text\n", make_witness(kind), AT)
        with pytest.raises(ProofError, match="out of range"):
            cosign(LOG.checkpoint_text(), make_witness(kind), 2**63)


def test_the_key_of_a_log_does_not_cosign() -> None:
    note = parse_note(LOG.checkpoint_note())
    with pytest.raises(ProofError, match="type for cosignatures"):
        verify_cosignatures(note, [SIGNER.verifier])


def test_an_older_library_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is None where the import fails: so it is with cryptography 46."""
    witness = make_witness(SignatureType.COSIGNATURE_ML_DSA_44)
    note = parse_note(LOG.checkpoint_note())
    note = note.merge([cosign(note.text, witness, AT)])
    verifier = witness.verifier
    monkeypatch.setattr(keys, "mldsa", None)
    assert VerifierKey.parse(str(verifier)) == verifier
    for refused in (
        lambda: verify_cosignatures(note, [verifier]),
        lambda: cosign(note.text, witness, AT),
    ):
        with pytest.raises(ProofError, match="install 47 or newer"):
            refused()
