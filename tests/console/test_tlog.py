"""The console's own checks of checkpoints and proofs, run by Node: what the service proves verifies, and no
changed bit does. Notes and proofs are those of `ledger.tlog`, which Go's packages check (tests/tree)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import (
    EMPTY_ROOT,
    Leaves,
    cover,
    hash_leaf,
    hash_range,
    plan_consistency,
    plan_inclusion,
)
from ledger.tlog.notes import parse_note
from ledger.tlog.proof_files import ProofFile
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.records import Record, encode_record
from tests.tlog.logs import SIGNER, MadeUpLog
from tests.tree.test_records import EXAMPLE, EXAMPLE_ENTRY, EXAMPLE_LEAF, RECORDS

PROGRAM = Path(__file__).parent / "tlog_checks.mjs"
LOG = MadeUpLog(600)
WITNESS = SignerKey.make("witness.example/w1", b"w" * 32, SignatureType.COSIGNATURE_ED25519)
KEYS, WITNESSES = [str(SIGNER.verifier)], [str(WITNESS.verifier)]
Check = Callable[..., dict[str, Any]]


@contextmanager
def run_node(*arguments: str) -> Iterator[Check]:
    """A process of Node that makes one check after another."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node: apt-get install nodejs")
    command = [node, str(PROGRAM), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def check(kind: str, **document: Any) -> dict[str, Any]:
            stdin.write(json.dumps({"check": kind, **document}) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            return answer

        yield check
        stdin.close()


@pytest.fixture(scope="module")
def check() -> Iterator[Check]:
    with run_node() as run:
        yield run


def encode(content: bytes) -> str:
    return b64encode(content).decode()


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8 % len(content)] ^= 1 << bit % 8
    return bytes(changed)


def describe_inclusion(index: int, size: int) -> dict[str, Any]:
    return {
        "index": index,
        "size": size,
        "leaf": encode(hash_leaf(LOG.entries[index])),
        "root": encode(LOG.root(size)),
        "hashes": [encode(each) for each in LOG.prove_inclusion(index, size)],
    }


def describe_consistency(old_size: int, size: int) -> dict[str, Any]:
    return {
        "old_size": old_size,
        "size": size,
        "old_root": encode(LOG.root(old_size)),
        "root": encode(LOG.root(size)),
        "hashes": [encode(each) for each in LOG.prove_consistency(old_size, size)],
    }


def cosigned_note(size: int | None = None, at: int = 1_796_000_000) -> str:
    note = parse_note(LOG.checkpoint_note(size))
    return note.merge([cosign(note.text, WITNESS, at)]).to_text()


def change_proof(proof: dict[str, Any], data: st.DataObject, names: tuple[str, ...]) -> dict[str, Any]:
    """The proof with one flipped bit in a hash of it, or with one hash less or more."""
    ways = [*names, "more", *(["hash", "less"] if proof["hashes"] else [])]
    way, bit = data.draw(st.sampled_from(ways)), data.draw(st.integers(0, 255))
    hashes: list[str] = list(proof["hashes"])
    if way in names:
        return proof | {way: encode(flip(b64decode(proof[way]), bit))}
    if way == "more":
        hashes.append(encode(bytes(32)))
    elif way == "less":
        hashes.pop(data.draw(st.integers(0, len(hashes) - 1)))
    else:
        place = data.draw(st.integers(0, len(hashes) - 1))
        hashes[place] = encode(flip(b64decode(hashes[place]), bit))
    return proof | {"hashes": hashes}


@settings(max_examples=150)
@given(st.data())
def test_every_inclusion_proof_verifies_and_no_changed_one(check: Check, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LOG.size))
    proof = describe_inclusion(data.draw(st.integers(0, size - 1)), size)
    assert check("inclusion", **proof) == {"result": None}
    changed = change_proof(proof, data, ("leaf", "root"))
    assert check("inclusion", **changed)["kind"] == "ProofError"
    other = data.draw(st.integers(0, size + 3).filter(lambda index: index != proof["index"]))
    assert check("inclusion", **proof | {"index": other})["kind"] == "ProofError"


@settings(max_examples=150)
@given(st.data())
def test_every_consistency_proof_verifies_and_no_changed_one(check: Check, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, LOG.size))
    proof = describe_consistency(data.draw(st.integers(0, size)), size)
    assert check("consistency", **proof) == {"result": None}
    # From the empty tree nothing needs proof, so there the new root is whatever the checkpoint says.
    names = ("old_root", "root") if proof["old_size"] else ("old_root",)
    assert check("consistency", **change_proof(proof, data, names))["kind"] == "ProofError"


def test_a_log_that_shrank_or_was_made_anew_is_refused(check: Check) -> None:
    shrunk = describe_consistency(300, 600) | {"old_size": 600, "size": 300}
    assert check("consistency", **shrunk)["error"] == "the tree shrank from 600 to 300 leaves"
    anew = describe_consistency(300, 300) | {"root": encode(EMPTY_ROOT)}
    assert check("consistency", **anew)["error"].startswith("the tree of 300 leaves does not begin with")


def test_sizes_beyond_32_bits_are_counted_right(check: Check) -> None:
    """A tree of 2^40 + 300 leaves, all alike, so that its nodes are known by their level."""
    size, levels = 2**40 + 300, [hash_leaf(b"same")]
    for _ in range(41):
        levels.append(sha256(b"\x01" + levels[-1] * 2).digest())

    def hash_alike(begin: int, end: int) -> bytes:
        leaves = Leaves(begin, end)
        return hash_range(leaves, {node: levels[node.level] for node in cover(leaves)})

    for index in (0, 2**33 + 1, size - 1):
        hashes = [encode(hash_alike(*leaves)) for leaves in plan_inclusion(index, size)]
        root = encode(hash_alike(0, size))
        proof = {"index": index, "size": size, "leaf": encode(levels[0]), "root": root, "hashes": hashes}
        assert check("inclusion", **proof) == {"result": None}
    old = 2**35 + 7
    hashes = [encode(hash_alike(*leaves)) for leaves in plan_consistency(old, size)]
    roots = {"old_root": encode(hash_alike(0, old)), "root": encode(hash_alike(0, size))}
    assert check("consistency", old_size=old, size=size, hashes=hashes, **roots) == {"result": None}


def test_a_checkpoint_names_its_signer_and_its_witnesses(check: Check) -> None:
    answer = check("checkpoint", note=cosigned_note(), keys=KEYS, witnesses=WITNESSES)["result"]
    assert answer == {
        "origin": SIGNER.name,
        "size": LOG.size,
        "root": LOG.root().hex(),
        "signers": KEYS,
        "cosigners": [{"name": WITNESS.name, "time": 1_796_000_000}],
        "unchecked": [],
    }
    without = check("checkpoint", note=cosigned_note(), keys=KEYS, witnesses=[])["result"]
    assert without["cosigners"] == []
    assert without["unchecked"] == [{"name": WITNESS.name, "why": "its key is not known here"}]


@settings(max_examples=150)
@given(st.data())
def test_no_changed_bit_of_a_signed_checkpoint_verifies(check: Check, data: st.DataObject) -> None:
    content = cosigned_note().encode()
    changed = flip(content, data.draw(st.integers(0, 8 * len(content) - 1)))
    try:
        note = changed.decode()
    except UnicodeDecodeError:
        return
    answer = check("checkpoint", note=note, keys=KEYS, witnesses=WITNESSES)
    # A signature whose name or key id is another one is that of an unknown key: it counts for nothing.
    counted = answer.get("result", {"signers": [], "cosigners": []})
    assert not (counted["signers"] and counted["cosigners"])


@pytest.mark.parametrize(
    ("note", "keys", "message"),
    [
        (LOG.checkpoint_note(signer=SignerKey.make(SIGNER.name, b"s" * 32)), KEYS, "none of its known keys"),
        (LOG.checkpoint_note(), [], "no key of this log is known"),
        (LOG.checkpoint_note()[:-1], KEYS, "truncated"),
        (LOG.checkpoint_note().replace("\n600\n", "\n601\n"), KEYS, "the signature of .* is wrong"),
        (LOG.checkpoint_note().replace("\n600\n", "\n0600\n"), KEYS, "decimal number"),
        ("x", KEYS, "truncated"),
        ("", KEYS, "truncated"),
        (LOG.checkpoint_note() + "\0", KEYS, "control character"),
        (LOG.checkpoint_note(), ["log+1+x"], "is not base64"),
        (LOG.checkpoint_note(), [KEYS[0].replace("+", "+0", 1)], "is not that of its public key"),
    ],
)
def test_a_checkpoint_that_proves_nothing_says_why(
    check: Check, note: str, keys: list[str], message: str
) -> None:
    answer = check("checkpoint", note=note, keys=keys)
    assert answer["kind"] == "ProofError"
    assert re.search(message, answer["error"])


def test_the_record_of_the_documentation_has_its_hashes(check: Check) -> None:
    answer = check("record", content=encode(encode_record(EXAMPLE)))["result"]
    assert (answer["entry"], answer["leaf"]) == (EXAMPLE_ENTRY, EXAMPLE_LEAF)


@settings(max_examples=100)
@given(RECORDS, st.data())
def test_a_proof_file_shows_its_record_and_no_changed_one(
    check: Check, record: Record, data: st.DataObject
) -> None:
    decoded = check("record", content=encode(encode_record(record)))["result"]["row"]
    assert (decoded["stream"], bytes.fromhex(decoded["state"])) == (record.stream, record.state)
    own = encode_record(msgspec.structs.replace(record, position=5))
    log = MadeUpLog(5, last=sha256(own).digest())

    def make_file(index: int, extra: bytes) -> str:
        return ProofFile(index, tuple(log.prove_inclusion(4)), log.checkpoint_note(), extra).encode()

    answer = check("file", text=make_file(4, own), keys=KEYS)["result"]
    assert (answer["size"], answer["record"]["topic"]) == (5, record.topic)
    bit = data.draw(st.integers(0, 8 * len(own) - 1))
    assert check("file", text=make_file(4, flip(own, bit)), keys=KEYS)["kind"] == "ProofError"
    assert check("file", text=make_file(3, own), keys=KEYS)["kind"] == "ProofError"


def test_a_proof_of_another_position_than_the_record_says_is_refused(check: Check) -> None:
    row = encode_record(EXAMPLE)
    log = MadeUpLog(5, last=sha256(row).digest())
    text = ProofFile(4, tuple(log.prove_inclusion(4)), log.checkpoint_note(), row).encode()
    answer = check("file", text=text, keys=KEYS)
    assert answer["error"] == "the record says position 7, and the proof leaf 4"


def test_a_browser_that_cannot_check_says_so_and_counts_nothing() -> None:
    for way, message in (("none", "no cryptography"), ("old", "does not know Ed25519")):
        with run_node(way) as check:
            answer = check("checkpoint", note=LOG.checkpoint_note(), keys=KEYS)
            assert answer["kind"] == "CannotCheck"
            assert message in answer["error"]
