"""Answers from the Merkle tree: proofs, the verification of the log, and witnesses."""
