"""Random bytes from the operating system, drawn in blocks.

A request needs a few of them, for ids and nonces, and each draw of its own is a system call: 4 µs of 113 in a
POST. No piece is handed out twice: not to two threads, and not to a process and its child, because a child
that was forked discards what its parent has drawn.
"""

from __future__ import annotations

import os
import struct

BLOCK_BYTES = 4096


class RandomPieces:
    """Random pieces of `piece_bytes` each, as unpredictable as those of `secrets`."""

    def __init__(self, piece_bytes: int) -> None:
        self._block = struct.Struct(f"{piece_bytes}s" * (BLOCK_BYTES // piece_bytes))
        self._pieces: list[bytes] = []
        os.register_at_fork(after_in_child=self._pieces.clear)

    def draw(self) -> bytes:
        """The next piece."""
        while True:
            try:
                return self._pieces.pop()  # one step, also among threads
            except IndexError:
                self._pieces += self._block.unpack(os.urandom(self._block.size))
