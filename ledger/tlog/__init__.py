"""Transparency log formats, without I/O: Merkle tree, tiles, signed notes, checkpoints, proof files."""
