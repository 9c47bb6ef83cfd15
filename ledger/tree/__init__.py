"""The Merkle tree over the log: built behind its end, signed, proven, witnessed, verified."""
