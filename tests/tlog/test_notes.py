"""Signed notes and their keys: the specification's examples, what is refused, and what is ignored."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    NoteSignature,
    parse_note,
    sign_note,
    sign_text,
    verify_note,
)
from ledger.tlog.signed_messages import SignatureType

# The example of C2SP signed-note.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
SIGNER = SignerKey.make("log.example", bytes(32))
OTHER = SignerKey.make("other.example", bytes(range(32)))
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=60)
NAMES = st.text(string.ascii_letters + "./-é", min_size=1, max_size=20)


def test_the_note_of_the_specification_is_verified() -> None:
    key = VerifierKey.parse(EXAMPLE_KEY)
    assert verify_note(parse_note(EXAMPLE_NOTE), [key]) == [key]
    assert str(key) == EXAMPLE_KEY
    assert parse_note(EXAMPLE_NOTE).to_text() == EXAMPLE_NOTE
    assert parse_note(EXAMPLE_NOTE.encode()) == parse_note(EXAMPLE_NOTE)


@given(TEXTS, NAMES, st.binary(min_size=32, max_size=32))
def test_a_signed_note_is_verified_and_a_changed_one_is_not(text: str, name: str, seed: bytes) -> None:
    signer = SignerKey.make(name, seed)
    note = parse_note(sign_note(f"{text}\n", [OTHER, signer]))
    assert note.text == f"{text}\n"
    assert verify_note(note, [signer.verifier]) == [signer.verifier]
    assert verify_note(note, [signer.verifier, OTHER.verifier]) == [signer.verifier, OTHER.verifier]
    with pytest.raises(ProofError, match="wrong"):
        verify_note(note._replace(text=f"{text}.\n"), [signer.verifier])


@given(NAMES, st.binary(min_size=32, max_size=32), st.sampled_from(SignatureType))
def test_keys_are_read_as_they_were_written(name: str, seed: bytes, kind: SignatureType) -> None:
    signer = SignerKey.make(name, seed, kind)
    assert SignerKey.parse(signer.to_text()) == signer
    assert VerifierKey.parse(str(signer.verifier)) == signer.verifier


def test_unknown_signatures_are_ignored_even_with_a_known_name_or_id() -> None:
    note = parse_note(sign_note("text\n", [SIGNER]))
    (good,) = note.signatures
    lines = (
        NoteSignature(good.name, b"abcd", b"not of the known key"),
        NoteSignature("another.example", good.key_id, b"not of the known key"),
    )
    assert verify_note(note.merge(lines), [SIGNER.verifier]) == [SIGNER.verifier]


def test_a_wrong_signature_of_a_known_key_fails_even_next_to_a_good_one() -> None:
    note = parse_note(sign_note("text\n", [SIGNER, OTHER]))
    wrong = note.signatures[0]._replace(signature=bytes(64))
    with pytest.raises(ProofError, match=r"signature of 'log\.example' is wrong"):
        verify_note(note.merge([wrong]), [OTHER.verifier, SIGNER.verifier])
    both = Note(note.text, (*note.signatures, wrong))
    with pytest.raises(ProofError, match="wrong"):
        verify_note(both, [SIGNER.verifier])


def test_a_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(ProofError, match="not signed by a known key"):
        verify_note(parse_note(sign_note("text\n", [SIGNER])), [OTHER.verifier])
    with pytest.raises(ProofError, match="not signed by a known key"):
        verify_note(parse_note(sign_note("text\n", [SIGNER])), [])


def test_a_newer_signature_takes_the_place_of_the_keys_older_one() -> None:
    note = parse_note(sign_note("text\n", [SIGNER, OTHER]))
    again = sign_text("text\n", SIGNER)
    assert note.merge([again]) == note


LINE = sign_note("x\n", [SIGNER]).split("\n\n")[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text\n",
        f"text\n{LINE}",
        f"text\n\n{LINE[:-1]}",
        f"text\n\n{LINE.replace('—', '-')}",
        f"text\n\n{LINE.replace(' ', '  ')}",
        f"text\n\n{LINE.replace('log.example', 'log+example')}",
        "text\n\n" + LINE.replace("log.example", "log\u00a0example"),
        f"text\n\n{LINE.replace('log.example', '')}",
        f"text\n\n{LINE.replace('=', '')}",
        f"text\n\n{LINE[:-1]} \n",
        f"text\n\n{LINE[:-1]}\r\n",
        f"text\r\n\n{LINE}",
        f"te\tt\n\n{LINE}",
        f"te\x00t\n\n{LINE}",
        f"te\ud800t\n\n{LINE}",
        f"text\n\n{LINE}more\n",
        f"text\n\n{LINE}\n",
        "text\n\n— log.example AAAAAA==\n",
        "text\n\n— log.example AAAAAAB=\n",
        f"text\n\n{LINE * (SIGNATURES_MAX + 1)}",
        f"{'x' * NOTE_BYTES_MAX}\n\n{LINE}",
        b"te\xfft\n\n" + LINE.encode(),
    ],
)
def test_a_malformed_note_is_refused(text: Any) -> None:
    with pytest.raises(ProofError) as error:
        parse_note(text)
    assert "\n" not in str(error.value)


def test_an_error_cannot_steer_a_terminal() -> None:
    """A name may hold control characters beyond ASCII; what is printed of it does not."""
    for line in (LINE.replace("log.example ", "log\x9b2J =")[:-1], "— log\x9b2J AAAA"):
        with pytest.raises(ProofError) as error:
            parse_note(f"text\n\n{line}\n")
        assert str(error.value).isprintable()
    for key in ("log\x9b2J", "log\x9b2J+00000000+AQ==", f"log\x9b2J{EXAMPLE_KEY}"):
        with pytest.raises(ProofError) as error:
            VerifierKey.parse(key)
        assert str(error.value).isprintable()


def test_any_cut_of_a_note_is_refused() -> None:
    for end in range(len(EXAMPLE_NOTE)):
        with pytest.raises(ProofError):
            parse_note(EXAMPLE_NOTE[:end])


@pytest.mark.parametrize(
    "text",
    [
        "", "name", "name+530d903a", "+530d903a+AQ==", "na me+530d903a+AQ==",
        EXAMPLE_KEY.replace("530d903a", "530d903b"),
        EXAMPLE_KEY.replace("530d903a", "530D903A"),
        EXAMPLE_KEY.replace("foo", "fool"),
        EXAMPLE_KEY[:-4],
        f"{EXAMPLE_KEY}AAAA",
        EXAMPLE_KEY.replace("+Ae", "+A4"),
        f"{EXAMPLE_KEY}\n",
    ],
)  # fmt: skip
def test_a_malformed_key_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        VerifierKey.parse(text)


def test_a_private_key_is_never_quoted() -> None:
    text = SIGNER.to_text()
    for damaged in (text[:-6], text.replace("log.example", "loq.example"), text.removeprefix("PRIVATE+")):
        with pytest.raises(ProofError) as error:
            SignerKey.parse(damaged)
        assert text[-20:-6] not in str(error.value)
    assert SIGNER.seed.hex() not in repr(SIGNER)
    assert repr(SIGNER.seed) not in repr(SIGNER)
