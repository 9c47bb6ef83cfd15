"""Stored documents are sealed for one data subject, and read in every form that a release has written."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.compression.documents import compress, compress_as_text
from ledger.keys.blind_index import BlindIndex, is_hash
from ledger.keys.data_keys import NO_KEYS, DataKey, Keyring
from ledger.keys.documents import find_subject, open_document, seal_document, seal_text_document
from ledger.keys.service_keys import ServiceKeys

JENNY = b'{"id":"cus_jenny","name":"Jenny Quistorpz","email":"jenny@example.com"}'
OWNER = ("acct_1", False)

subjects = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255)


def make_keyring(*names: str) -> Keyring:
    return Keyring(1, {name: DataKey(secrets.token_bytes(32)) for name in names}, {})


@given(subjects, st.binary(max_size=2_000))
def test_what_was_sealed_opens_again_and_names_its_subject(subject: str, document: bytes) -> None:
    keyring = make_keyring(subject)
    for stored in (
        seal_document(keyring, subject, document),
        seal_text_document(keyring, subject, document).decode(),
    ):
        assert find_subject(stored) == subject
        assert open_document(keyring, stored) == document


@given(subjects, st.binary(min_size=1, max_size=200), st.data())
def test_a_changed_document_does_not_open(subject: str, document: bytes, data: st.DataObject) -> None:
    keyring = make_keyring(subject)
    stored = bytearray(seal_document(keyring, subject, document))
    place = data.draw(st.integers(2 + len(subject), len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    assert open_document(keyring, bytes(stored)) is None


def test_the_same_document_has_the_same_bytes_for_one_subject_only() -> None:
    keyring = make_keyring("cus_jenny", "cus_other")
    assert seal_document(keyring, "cus_jenny", JENNY) == seal_document(keyring, "cus_jenny", JENNY)
    assert seal_document(keyring, "cus_jenny", JENNY)[20:] != seal_document(keyring, "cus_other", JENNY)[20:]


def test_documents_that_differ_have_nonces_that_differ() -> None:
    keyring = make_keyring("cus_jenny")
    documents = [b'{"id":"cus_jenny","version":%d}' % version for version in range(1_000)]
    start = 2 + len("cus_jenny")
    nonces = {seal_document(keyring, "cus_jenny", each)[start : start + 12] for each in documents}
    assert len(nonces) == len(documents)


def test_without_the_key_of_its_subject_a_document_does_not_open() -> None:
    stored = seal_document(make_keyring("cus_jenny"), "cus_jenny", JENNY)
    for keyring in (NO_KEYS, Keyring(2, {}, {"cus_jenny": True}), make_keyring("cus_other", "cus_jenny")):
        assert open_document(keyring, stored) is None


@pytest.mark.parametrize("stored", [JENNY, compress(JENNY), JENNY.decode(), compress_as_text(JENNY).decode()])
def test_documents_of_earlier_releases_open_without_a_key(stored: bytes | str) -> None:
    assert find_subject(stored) is None
    assert open_document(NO_KEYS, stored) == JENNY


@pytest.mark.parametrize(
    "keyring",
    [make_keyring("cus_other"), Keyring(0, {"cus_jenny": DataKey(b"k" * 32)}, {})],
    ids=["a subject without a key", "while earlier releases may run"],
)
def test_a_document_is_sealed_only_if_all_that_may_read_it_can(keyring: Keyring) -> None:
    assert seal_document(keyring, "cus_jenny", JENNY) == compress(JENNY)
    assert seal_text_document(keyring, "cus_jenny", JENNY) == compress_as_text(JENNY)


def test_a_keyed_hash_tells_values_of_one_owner_apart_and_nobody_else() -> None:
    index = BlindIndex(ServiceKeys(b"k" * 32))
    hashed = index.hash_as_text(*OWNER, "email", "jenny@example.com")
    assert is_hash(hashed)
    assert not is_hash("jenny@example.com")
    assert hashed == index.hash_as_text(*OWNER, "email", "jenny@example.com")
    others = {
        index.hash_as_text(*OWNER, "email", "Jenny@example.com"),
        index.hash_as_text(*OWNER, "members", "jenny@example.com"),
        index.hash_as_text("acct_1", True, "email", "jenny@example.com"),
        index.hash_as_text("acct_2", False, "email", "jenny@example.com"),
        BlindIndex(ServiceKeys(b"l" * 32)).hash_as_text(*OWNER, "email", "jenny@example.com"),
    }
    assert len(others) == 5
    assert hashed not in others
