"""Checkpoints: their text, who may sign one, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tlog.checkpoints import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import EMPTY_ROOT, ProofError, hash_leaf
from ledger.tlog.notes import sign_note

SIGNER = SignerKey.make("log.example/1", bytes(32))
ROOT = hash_leaf(b"entry")
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@given(
    LINES,
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(LINES, max_size=2).map(tuple),
)
def test_a_checkpoint_is_read_as_it_was_written(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    checkpoint = Checkpoint(origin, size, root, extensions)
    assert parse_checkpoint(checkpoint.to_text()) == checkpoint


def test_a_signed_checkpoint_is_opened_with_the_key_of_its_log() -> None:
    checkpoint = Checkpoint(SIGNER.name, 7, ROOT)
    assert open_checkpoint(sign_note(checkpoint.to_text(), [SIGNER]), SIGNER.verifier) == checkpoint
    newer = SignerKey.make(SIGNER.name, bytes(range(32)))
    note = sign_note(checkpoint.to_text(), [newer])
    assert open_checkpoint(note, SIGNER.verifier, newer.verifier) == checkpoint
    with pytest.raises(ProofError, match="not signed by a known key"):
        open_checkpoint(note, SIGNER.verifier)


def test_a_known_key_cannot_sign_for_a_log_of_another_name() -> None:
    note = sign_note(Checkpoint("log.example/2", 7, ROOT).to_text(), [SIGNER])
    with pytest.raises(ProofError, match=r"log\.example/2"):
        open_checkpoint(note, SIGNER.verifier)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("log.example/1\n", ""),
        ("log.example/1\n", "\n"),
        ("\n7\n", "\n07\n"),
        ("\n7\n", "\n+7\n"),
        ("\n7\n", "\n-7\n"),
        ("\n7\n", "\n7 \n"),
        ("\n7\n", "\n\u0667\n"),
        ("\n7\n", "\n7.0\n"),
        ("\n7\n", f"\n{2**63}\n"),
        ("\n7\n", "\n0\n"),
        ("=\n", "\n"),
        ("=\n", ""),
        ("=\n", "=\n\nextension\n"),
        ("=\n", "="),
    ],
)
def test_a_malformed_checkpoint_is_refused(old: str, new: str) -> None:
    text = Checkpoint(SIGNER.name, 7, ROOT).to_text()
    assert old in text
    with pytest.raises(ProofError):
        parse_checkpoint(text.replace(old, new))


def test_the_empty_tree_has_one_root() -> None:
    assert parse_checkpoint(Checkpoint("log", 0, EMPTY_ROOT).to_text()).size == 0
