"""aics-tlog, another implementation of the formats of transparency logs: it accepts what ours makes and
refuses it when it is changed, and the other way round."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode, b64encode
from typing import Any

import pytest

from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import ProofError, hash_leaf
from ledger.tlog.notes import parse_note
from ledger.tlog.policies import parse_policy
from ledger.tlog.proof_files import ProofFile, verify_proof_file
from ledger.tlog.signed_messages import SignatureType
from tests.clients.program import RUN_SECONDS, SCRIPTS, find_python, needs
from tests.tlog.logs import SIGNER, MadeUpLog

PROGRAM = "aics-witness"
pytestmark = needs(PROGRAM)

SIZE = 600
WITNESS = SignerKey.make("witness.example/w1", b"w" * 32, SignatureType.COSIGNATURE_ED25519)
PLACES = (0, 255, 256, 511, 512, SIZE - 1)


def describe_log() -> dict[str, Any]:
    log = MadeUpLog(SIZE)

    def prove(index: int) -> list[str]:
        return [encode(each) for each in log.prove_inclusion(index)]

    note = parse_note(log.checkpoint_note())
    note = note.merge([cosign(note.text, WITNESS, 1_796_000_000)])
    return {
        "note": note.to_text(),
        "log_key": str(SIGNER.verifier),
        "witness_key": str(WITNESS.verifier),
        "tiles": {path: encode(hashes) for path, hashes in log.list_tiles().items()},
        "inclusion": [
            [
                index,
                encode(hash_leaf(log.entries[index])),
                [encode(each) for each in log.prove_inclusion(index)],
            ]
            for index in PLACES
        ],
        "consistency": [
            [old, encode(log.root(old)), [encode(each) for each in log.prove_consistency(old)]]
            for old in (1, 255, 256, 300, 512, SIZE)
        ],
    }


def tamper(log: dict[str, Any]) -> dict[str, Any]:
    """Another root below the signatures, proofs of other leaves and roots, a tile with one other hash."""
    tiles = log["tiles"] | {"tile/0/001": encode(b"x" * 32 + b64decode(log["tiles"]["tile/0/001"])[32:])}
    return log | {
        "note": log["note"].replace(encode(MadeUpLog(SIZE).root()), encode(hash_leaf(b"x"))),
        "tiles": tiles,
        "inclusion": [[index, encode(hash_leaf(b"x")), proof] for index, _, proof in log["inclusion"]],
        "consistency": [[old, encode(hash_leaf(b"y")), proof] for old, _, proof in log["consistency"]],
    }


def encode(content: bytes) -> str:
    return b64encode(content).decode()


def run_program(logs: list[dict[str, Any]]) -> dict[str, Any]:
    done = subprocess.run(
        [find_python(PROGRAM), SCRIPTS / "aics_tlog_checks.py"],
        input=json.dumps(logs), capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_verifies_the_others_log_and_refuses_a_changed_one() -> None:
    log = describe_log()
    answer = run_program([log, tamper(log)])
    good, changed = answer["checks"]
    assert (good["checkpoint"], good["root"]) == (True, True), good["error"]
    assert good["inclusion"] == [True] * len(PLACES)
    assert good["consistency"] == [True] * 6
    assert good["proofs"] == [proof for _, _, proof in log["inclusion"]]
    assert (changed["checkpoint"], changed["root"]) == (False, False)
    assert changed["inclusion"] == [False] * len(PLACES)
    assert changed["consistency"] == [False] * 6

    made = answer["made"]
    policy = parse_policy(f"log {made['log_key']}\nwitness w {made['witness_key']}\nquorum w\n")
    proof = ProofFile(1, tuple(map(b64decode, made["proof"])), made["note"])
    trusted = verify_proof_file(proof, hash_leaf(b"two"), policy)
    assert (trusted.checkpoint.size, trusted.witnesses) == (3, {"w": 1_796_000_000})
    with pytest.raises(ProofError):
        verify_proof_file(proof, hash_leaf(b"other"), policy)
