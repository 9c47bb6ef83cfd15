"""Checks a log that is not aics-tlog's own with aics-tlog, and makes one for the other side to check.

Reads one JSON document from standard input, and writes one.
"""

import json
import sys
from base64 import b64decode, b64encode

import aics_tlog as tlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def check(log):
    """What aics-tlog finds about the log: the outcome of each check."""
    result = tlog.verify_checkpoint(
        tlog.parse_note(log["note"]),
        tlog.parse_vkey(log["log_key"]),
        [tlog.parse_vkey(log["witness_key"])],
        1,
    )
    checkpoint = tlog.parse_checkpoint(tlog.parse_note(log["note"]).text)
    size, root = checkpoint.size, checkpoint.root
    reader = tlog.MemoryTileReader({path: b64decode(content) for path, content in log["tiles"].items()})
    return {
        "checkpoint": result.ok,
        "error": result.error,
        "root": tlog.tree_root_from_tiles(reader, size) == root,
        "inclusion": [
            tlog.verify_inclusion(b64decode(leaf), index, size, [b64decode(each) for each in proof], root)
            for index, leaf, proof in log["inclusion"]
        ],
        "consistency": [
            tlog.verify_consistency(old, size, b64decode(old_root), root, [b64decode(each) for each in proof])
            for old, old_root, proof in log["consistency"]
        ],
        "proofs": [
            [b64encode(each).decode() for each in tlog.inclusion_proof_from_tiles(reader, index, size)]
            for index, _, _ in log["inclusion"]
        ],
    }


def make():
    """A log of three entries, signed and cosigned."""
    key, witness = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    tree = tlog.MerkleTree([b"one", b"two", b"three"])
    checkpoint = tlog.Checkpoint("made.example", 3, tree.root())
    note = tlog.sign_checkpoint(checkpoint, key, "made.example")
    _, line = tlog.sign_cosignature(witness, "witness.example", 1_796_000_000, "made.example", 3, tree.root())
    return {
        "note": tlog.Note(text=note.text, signatures=(*note.signatures, line)).serialise(),
        "log_key": tlog.format_vkey(tlog.vkey_from_ed25519("made.example", key.public_key())),
        "witness_key": tlog.format_vkey(tlog.cosignature_vkey("witness.example", witness.public_key())),
        "proof": [b64encode(each).decode() for each in tree.inclusion_proof(1)],
    }


json.dump({"checks": [check(log) for log in json.load(sys.stdin)], "made": make()}, sys.stdout)
