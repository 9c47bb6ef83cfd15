"""`ledger verify`: proves a record with two files alone, and says in one line why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.cli.proof_verification import verify as check_file
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import Frontier, ProofError, hash_children
from ledger.tlog.notes import parse_note, sign_note
from ledger.tlog.proof_files import ProofFile
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.records import Record, derive_entry, derive_leaf_hash, encode_record
from tests.serving.process import run_ledger
from tests.tlog.logs import SIGNER

WITNESS = SignerKey.make("witness.example/w1", b"1" * 32, SignatureType.COSIGNATURE_ML_DSA_44)
STRANGER = SignerKey.make(SIGNER.name, b"2" * 32)
RECORDS = [
    Record(
        position, "du_1", position, "dispute.closed", "acct_1", False, "sk_1", f"req_{position}", None, None,
        None, "ch_1", None, 1_796_000_000_000_000 + position, b'{"email":"sealed:AAAA"}',
    )
    for position in (1, 2, 3)
]  # fmt: skip
LEAVES = [derive_leaf_hash(record) for record in RECORDS]


def make_proof(at: int = 1_796_000_100) -> ProofFile:
    """The proof of position 2, cosigned at a time."""
    frontier = Frontier()
    for leaf in LEAVES:
        frontier.append(leaf)
    note = parse_note(sign_note(Checkpoint(SIGNER.name, 3, frontier.root).to_text(), [SIGNER]))
    note = note.merge([cosign(note.text, WITNESS, at)])
    return ProofFile(1, (LEAVES[0], LEAVES[2]), note.to_text(), encode_record(RECORDS[1]))


PROOF = make_proof().encode()
POLICY = f"log {SIGNER.verifier}\nwitness w1 {WITNESS.verifier}\nquorum w1\n"


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run the command on these two files, with no other setting than a folder that does not exist."""

    def run(proof: str, policy: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "event.tlog-proof").write_text(proof)
        (tmp_path / "policy").write_text(policy)
        (tmp_path / "record").write_bytes(encode_record(RECORDS[1]))
        done = run_ledger(tmp_path / "none", "verify", "event.tlog-proof", "--policy", "policy", *options)
        assert not (tmp_path / "none").exists()
        return done.returncode, done.stdout, done.stderr

    return run


def test_what_is_proven_is_printed(verify: Callable[..., tuple[int, str, str]]) -> None:
    status, text, errors = verify(PROOF, POLICY)
    assert (status, errors) == (0, "")
    assert text.startswith(f"Proven: position 2 is in the log {SIGNER.name}, whose tree had 3 events.\n")
    for shown in ("du_1", "dispute.closed", "req_2", "2026-11-30", "w1, 2026-11-30"):
        assert shown in text
    status, text, _ = verify(PROOF, POLICY, "--json")
    facts = json.loads(text)
    assert status == 0
    assert (facts["position"], facts["stream"], facts["version"]) == (2, "du_1", 2)
    assert facts["state"] == '{"email":"sealed:AAAA"}'
    assert facts["checkpoint"]["cosignatures"] == {"w1": 1_796_000_100}


def test_without_the_record_the_entry_is_given(verify: Callable[..., tuple[int, str, str]]) -> None:
    bare = PROOF.replace(PROOF.split("\n")[1] + "\n", "")
    entry = derive_entry(RECORDS[1]).hex()
    assert verify(bare, POLICY, "--entry", entry)[0] == 0
    assert "du_1" in verify(bare, POLICY, "--record", "record")[1]
    assert_refused(verify(bare, POLICY), "give --entry or --record")
    assert_refused(verify(bare, POLICY, "--entry", entry[:-1]), "64 hexadecimal digits")
    assert_refused(verify(bare, POLICY, "--entry", "0" * 64), "leaf 1 is not in the tree")
    assert_refused(verify(bare, POLICY, "--entry", entry, "--record", "record"), "exclude each other")


@pytest.mark.parametrize(
    ("proof", "policy", "message"),
    [
        (PROOF, POLICY.replace(str(SIGNER.verifier), str(STRANGER.verifier)), "not signed by a known key"),
        (PROOF.replace("— witness", "— another"), POLICY, "the quorum 'w1' is missing"),
        (PROOF.replace("index 1", "index 0"), POLICY, "leaf 0 is not in the tree"),
        (PROOF[:200], POLICY, "truncated"),
        (PROOF[:-10], POLICY, "truncated"),
        ("", POLICY, "does not begin with"),
        (PROOF, "nonsense\n", "policy, line 1"),
        (PROOF, "", "no quorum line"),
    ],
)
def test_what_is_not_proven_is_one_line(tmp_path: Path, proof: str, policy: str, message: str) -> None:
    (tmp_path / "proof").write_text(proof)
    (tmp_path / "policy").write_text(policy)
    with pytest.raises(ProofError) as error:
        check_file(tmp_path / "proof", tmp_path / "policy", None, None, as_json=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_time_beyond_all_dates_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "proof").write_text(make_proof(2**63 - 1).encode())
    (tmp_path / "policy").write_text(POLICY)
    text = check_file(tmp_path / "proof", tmp_path / "policy", None, None, as_json=False)
    assert f"w1, {2**63 - 1}" in text


def test_a_file_that_is_missing_is_one_line(tmp_path: Path) -> None:
    done = run_ledger(tmp_path / "none", "verify", "missing", "--policy", "missing")
    assert_refused((done.returncode, done.stdout, done.stderr), "cannot read missing")


def test_a_wrong_hash_is_refused(verify: Callable[..., tuple[int, str, str]]) -> None:
    proof = make_proof()
    wrong = ProofFile(1, (LEAVES[0], hash_children(*LEAVES[:2])), proof.checkpoint_note, proof.extra)
    assert_refused(verify(wrong.encode(), POLICY), "leaf 1 is not in the tree of 3 leaves with this root")


def assert_refused(outcome: tuple[int, str, str], message: str) -> None:
    status, text, errors = outcome
    assert (status, text) == (1, "")
    assert errors.startswith("ledger: ")
    assert errors.count("\n") == 1
    assert message in errors
