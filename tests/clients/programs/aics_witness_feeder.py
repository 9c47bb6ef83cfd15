"""Has a log of aics-tlog cosigned by a witness that is not aics-witness, and then tries to fork it.

Arguments: the witness's URL, its verifier key, and the log's private key: 64 hexadecimal digits. Writes one
JSON document: the sizes that were cosigned, and how the fork was refused.
"""

import json
import sys

import aics_tlog as tlog
from aics_witness import WitnessClient, WitnessRejected
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "feeder.example"
url, witness_key, seed = sys.argv[1:]
key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def sign(tree):
    return tlog.sign_checkpoint(tlog.Checkpoint(ORIGIN, tree.size, tree.root()), key, ORIGIN).serialise()


tree, cosigned = tlog.MerkleTree(), []
with WitnessClient(url, witness_key, max_attempts=1) as client:
    for size in (1, 2, 3, 7, 64, 64, 300):
        tree.extend(b"entry %d" % number for number in range(tree.size, size))
        client.submit(sign(tree), tree.consistency_proof)  # verifies the cosignature
        cosigned.append(client.known_sizes[ORIGIN])
    fork, refused = tlog.MerkleTree([b"another"] * 400), None
    try:
        client.submit(sign(fork), fork.consistency_proof)
    except WitnessRejected as error:
        refused = error.status
json.dump({"cosigned": cosigned, "refused": refused}, sys.stdout)
