"""Proof files: as written so read, verified with a policy alone, and refused when anything is changed."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import ProofError, hash_leaf
from ledger.tlog.notes import sign_note
from ledger.tlog.policies import parse_policy
from ledger.tlog.proof_files import ProofFile, parse_proof_file, verify_proof_file
from tests.tlog.logs import SIGNER, MadeUpLog

LOG = MadeUpLog(21)
POLICY = parse_policy(f"log {SIGNER.verifier}\nquorum none\n")


def make_proof(index: int, size: int = LOG.size, extra: bytes | None = None) -> ProofFile:
    return ProofFile(index, tuple(LOG.prove_inclusion(index, size)), LOG.checkpoint_note(size), extra)


def leaf(index: int) -> bytes:
    return hash_leaf(LOG.entries[index])


@given(st.data(), st.none() | st.binary(max_size=200))
def test_a_proof_file_is_read_as_it_was_written_and_proves_its_leaf(
    data: st.DataObject, extra: bytes | None
) -> None:
    size = data.draw(st.integers(1, LOG.size))
    index = data.draw(st.integers(0, size - 1))
    proof = make_proof(index, size, extra)
    assert parse_proof_file(proof.encode()) == parse_proof_file(proof.encode().encode()) == proof
    trusted = verify_proof_file(proof, leaf(index), POLICY)
    assert (trusted.checkpoint.size, trusted.checkpoint.root) == (size, LOG.root(size))


def test_the_extra_data_is_the_record_whose_hash_is_the_entry() -> None:
    record = b"a record"
    root = hash_leaf(sha256(record).digest())
    note = sign_note(Checkpoint(SIGNER.name, 1, root).to_text(), [SIGNER])
    proof = ProofFile(0, (), note, record)
    assert verify_proof_file(proof, None, POLICY).checkpoint.size == 1
    with pytest.raises(ProofError, match="leaf 0 is not in the tree"):
        verify_proof_file(replace(proof, extra=b"another record"), None, POLICY)
    with pytest.raises(ProofError, match="no extra data"):
        verify_proof_file(replace(proof, extra=None), None, POLICY)


@settings(max_examples=200)
@given(st.data())
def test_no_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    """Except in the checkpoint's signatures of unknown keys, of which this one has none."""
    text = make_proof(11).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.sampled_from("AZaz09+/= \n—x"))
    changed = text[:place] + char + text[place + 1 :]
    if changed != text:
        with pytest.raises(ProofError) as error:
            verify_proof_file(parse_proof_file(changed), leaf(11), POLICY)
        assert "\n" not in str(error.value)


def test_no_cut_goes_unnoticed() -> None:
    text = make_proof(11, extra=b"something").encode()
    for end in range(len(text)):
        with pytest.raises(ProofError):
            parse_proof_file(text[:end])


def test_a_proof_of_another_key_or_leaf_is_refused() -> None:
    proof = make_proof(11)
    stranger = SignerKey.make(SIGNER.name, b"8" * 32)
    with pytest.raises(ProofError, match="not signed by a known key"):
        verify_proof_file(proof, leaf(11), parse_policy(f"log {stranger.verifier}\nquorum none\n"))
    with pytest.raises(ProofError, match="leaf 11 is not in the tree"):
        verify_proof_file(proof, leaf(12), POLICY)
    with pytest.raises(ProofError, match="has no leaf 21"):
        verify_proof_file(replace(proof, index=21), leaf(11), POLICY)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tlog-proof@v1", "tlog-proof@v2", "does not begin with"),
        ("index 11", "index 011", "the index is not a decimal number"),
        ("index 11\n", "", "no line with the index"),
        ("index 11\n", "extra AA==\nextra AA==\nindex 11\n", "no line with the index"),
        ("index 11\n", "extra A\nindex 11\n", "the extra data is not base64"),
        ("index 11\n", "index 11\nAAAA\n", "hash 1 of the proof has 3 bytes"),
        ("index 11\n", "index 11\n" + "A" * 43 + "=\n", "has 6 hashes instead of 5"),
        ("index 11\n", "index 11\n" * 70, "more than 63 hashes"),
        ("\n\n", "\n", "truncated"),
    ],
)
def test_a_malformed_proof_file_is_refused(old: str, new: str, message: str) -> None:
    text = make_proof(11).encode()
    assert old in text
    with pytest.raises(ProofError, match=message):
        verify_proof_file(parse_proof_file(text.replace(old, new, 1)), leaf(11), POLICY)


def test_an_index_beyond_the_tree_is_refused() -> None:
    with pytest.raises(ProofError, match="has no leaf"):
        verify_proof_file(replace(make_proof(0, 1), index=2**63 - 1), leaf(0), POLICY)
