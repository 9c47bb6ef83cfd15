"""Random pieces never repeat, also after a fork; keyed hashes are those of the standard library."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.crypto.entropy import BLOCK_BYTES, RandomPieces
from ledger.crypto.mac import Mac


def test_pieces_have_their_size_and_never_repeat() -> None:
    pieces = RandomPieces(12)
    drawn = [pieces.draw() for _ in range(10_000)]
    assert {len(piece) for piece in drawn} == {12}
    assert len(set(drawn)) == len(drawn)


def test_one_system_call_serves_a_block_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    urandom = os.urandom

    def count_and_draw(size: int) -> bytes:
        calls.append(size)
        return urandom(size)

    monkeypatch.setattr(os, "urandom", count_and_draw)
    pieces = RandomPieces(10)
    for _ in range(BLOCK_BYTES // 10):
        pieces.draw()
    assert calls == [BLOCK_BYTES // 10 * 10]
    pieces.draw()
    assert len(calls) == 2


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_forked_process_draws_other_pieces_than_its_parent(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    pieces = RandomPieces(16)
    pieces.draw()  # the parent holds a block now
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"".join(pieces.draw() for _ in range(100)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    drawn = os.read(reader, 1600)
    in_child = {drawn[start : start + 16] for start in range(0, 1600, 16)}
    assert len(in_child) == 100
    assert in_child.isdisjoint(pieces.draw() for _ in range(BLOCK_BYTES // 16))


@given(st.binary(max_size=200), st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_a_mac_is_hmac_sha256_of_each_message(key: bytes, messages: list[bytes]) -> None:
    mac = Mac(key)
    assert [mac.digest(each) for each in messages] == [hmac.digest(key, each, "sha256") for each in messages]
