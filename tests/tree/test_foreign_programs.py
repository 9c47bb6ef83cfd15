"""Notes, proofs and tiles of ours, verified by programs of others: Go's own packages for its checksum
database, and pymerkle. aics-tlog is tried in tests/clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymerkle import InmemoryTree  # type: ignore[import-untyped]

from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import Leaves, ProofError, hash_leaf
from ledger.tlog.notes import parse_note, verify_note
from ledger.tlog.tiles import list_tiles, tile_path
from tests.tlog.logs import SIGNER, MadeUpLog

GO_PATH = Path("/usr/share/gocode")
GO_PACKAGE = GO_PATH / "src/golang.org/x/mod/sumdb"
SOURCE = Path(__file__).parent / "go" / "check.go"
BUILD_SECONDS = 200
LOG = MadeUpLog(600)
Checks = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def check_in_go(tmp_path_factory: pytest.TempPathFactory) -> Checks:
    """Build the program from Debian's packages, without the network, and return what runs it."""
    go = shutil.which("go")
    if go is None or not GO_PACKAGE.exists():
        pytest.skip("no Go, or not its package x/mod: apt-get install golang-go golang-golang-x-mod-dev")
    place = tmp_path_factory.mktemp("go")
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "GOCACHE": str(place / "cache")} | {
        "GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOPROXY": "off", "CGO_ENABLED": "0", "GOFLAGS": ""
    }  # fmt: skip
    program = place / "check"
    command = [go, "build", "-o", str(program), str(SOURCE)]
    subprocess.run(command, env=environment, timeout=BUILD_SECONDS, check=True)

    def check(**document: Any) -> dict[str, Any]:
        fields = {"Key": str(SIGNER.verifier), "SecretKey": SIGNER.to_text(), "Text": "text\n"} | document
        done = subprocess.run([program], input=json.dumps(fields), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return check


def encode(content: bytes) -> str:
    return b64encode(content).decode()


def describe_inclusion(index: int, size: int, leaf: bytes | None = None) -> dict[str, Any]:
    return {
        "Index": index,
        "Size": size,
        "Leaf": encode(leaf or hash_leaf(LOG.entries[index])),
        "Root": encode(LOG.root(size)),
        "Hashes": [encode(each) for each in LOG.prove_inclusion(index, size)],
    }


def describe_consistency(old_size: int, size: int, old_root: bytes | None = None) -> dict[str, Any]:
    return {
        "OldSize": old_size,
        "Size": size,
        "OldRoot": encode(old_root or LOG.root(old_size)),
        "Root": encode(LOG.root(size)),
        "Hashes": [encode(each) for each in LOG.prove_consistency(old_size, size)],
    }


def test_go_verifies_our_notes_and_we_verify_its_own(check_in_go: Checks) -> None:
    note = LOG.checkpoint_note()
    stranger = SignerKey.make(SIGNER.name, b"s" * 32)
    notes = [note, note.replace("\n600\n", "\n601\n"), LOG.checkpoint_note(signer=stranger), note[:-1], "x"]
    answer = check_in_go(Notes=notes, Text=LOG.checkpoint_text())
    assert answer["Notes"][0] == ""
    assert all(answer["Notes"][1:])
    assert answer["Signed"] == note, "Ed25519 signatures are the same whoever makes them"
    key = VerifierKey.parse(str(SIGNER.verifier))
    assert verify_note(parse_note(answer["Signed"]), [key]) == [key]
    with pytest.raises(ProofError):
        verify_note(parse_note(answer["Signed"].replace("\n600\n", "\n601\n")), [key])


def test_go_verifies_our_proofs_and_refuses_changed_ones(check_in_go: Checks) -> None:
    sizes = [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 600]
    inclusion = [
        describe_inclusion(index, size) for size in sizes for index in sorted({0, size // 3, size - 1})
    ]
    consistency = [describe_consistency(old, new) for new in sizes for old in sizes if old <= new]
    wrong = [describe_inclusion(index, 600, hash_leaf(b"x")) for index in (0, 300, 599)]
    broken = [describe_consistency(old, 600, hash_leaf(b"x")) for old in (1, 300, 599)]
    answer = check_in_go(Inclusion=inclusion + wrong, Consistency=consistency + broken)
    assert answer["Inclusion"][: len(inclusion)] == [""] * len(inclusion)
    assert all(answer["Inclusion"][len(inclusion) :])
    assert answer["Consistency"][: len(consistency)] == [""] * len(consistency)
    assert all(answer["Consistency"][len(consistency) :])


def test_go_reads_our_tiles_and_finds_our_proofs_in_them(check_in_go: Checks) -> None:
    tree = {"N": LOG.size, "Hash": encode(LOG.root())}
    # Go's paths also have the tiles' height.
    tiles = {path.replace("tile/", "tile/8/"): encode(hashes) for path, hashes in LOG.list_tiles().items()}
    answer = check_in_go(Tree=tree, Tiles=tiles)
    assert answer["Tiles"] == ""
    assert answer["Leaves"] == [encode(hash_leaf(entry)) for entry in LOG.entries]
    assert answer["Proofs"] == [
        [encode(each) for each in LOG.prove_inclusion(index)] for index in range(LOG.size)
    ]
    for path in ("tile/8/0/000", "tile/8/0/001", "tile/8/0/002.p/88", "tile/8/1/000.p/2"):
        changed = tiles | {path: encode(b"x" * 32 + LOG.list_tiles()[path.replace("/8/", "/", 1)][32:])}
        assert check_in_go(Tree=tree, Tiles=changed)["Tiles"]


def test_go_finds_the_proofs_of_a_range_in_the_tiles_of_its_archive(check_in_go: Checks) -> None:
    tree = {"N": LOG.size, "Hash": encode(LOG.root())}
    for begin, end in ((0, 10), (100, 300), (256, 512), (511, 513), (590, 600)):
        tiles = list_tiles(Leaves(begin, end), LOG.size)
        files = {tile_path(*tile).replace("tile/", "tile/8/"): encode(LOG.read_tile(tile)) for tile in tiles}
        answer = check_in_go(Tree=tree, Tiles=files, From=begin, Upto=end)
        assert answer["Tiles"] == ""
        assert answer["Leaves"] == [encode(hash_leaf(entry)) for entry in LOG.entries[begin:end]]


def test_pymerkle_finds_our_roots_and_proofs() -> None:
    tree = InmemoryTree(algorithm="sha256")
    for entry in LOG.entries[:70]:
        tree.append_entry(entry)
    for size in range(1, 71):
        assert tree.get_root(size) == LOG.root(size)
        for index in range(size):
            proof = tree.prove_inclusion(index + 1, size)  # it numbers leaves from 1
            assert proof.path == [hash_leaf(LOG.entries[index]), *LOG.prove_inclusion(index, size)]
