"""The memory that exports need does not grow with their length: encoding and checking, both formats."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow
import pytest

from ledger.audit.exports import ndjson, parquet
from ledger.audit.exports.content import ExportHeader, ExportTrailer, make_line
from ledger.audit.exports.ndjson import NdjsonEncoder
from ledger.audit.exports.parquet import ROW_GROUP_ROWS_MAX, ParquetEncoder
from ledger.audit.exports.verification import verify_export
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.merkle import Frontier
from ledger.tree.records import Record, derive_leaf_hash

PAGE_RECORDS = 250
STATE = b'{"n": %d, "text": "' + b"x" * 200 + b'"}'


def make_record(position: int) -> Record:
    return Record(
        position, f"cus_{position}", 1, "customer.created", "acct_1", False, "key_1", f"req_{position}", None,
        None, None, None, None, 1_790_000_000_000_000 + position, STATE % position,
    )  # fmt: skip


class Probe:
    """The most memory in use at any call of `look`, of Python and of Arrow, in bytes above the beginning."""

    def __init__(self) -> None:
        tracemalloc.start()
        self._begin = pyarrow.total_allocated_bytes()
        self.arrow = 0

    def look(self) -> None:
        self.arrow = max(self.arrow, pyarrow.total_allocated_bytes() - self._begin)

    def stop(self) -> int:
        self.look()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak + self.arrow


async def write(file: Path, encoder: NdjsonEncoder | ParquetEncoder, count: int, probe: Probe) -> Checkpoint:
    """A complete export of `count` records, written page by page as the service sends it."""
    frontier = Frontier()
    header = ExportHeader(
        account="acct_1", livemode=False, filters={}, after=0, upto=count, skipped=[], checkpoint=""
    )
    with file.open("wb") as target:
        target.write(await encoder.begin(header))
        for begin in range(0, count, PAGE_RECORDS):
            positions = range(begin + 1, min(begin + PAGE_RECORDS, count) + 1)
            records = [make_record(position) for position in positions]
            lines = [make_line(record, derive_leaf_hash(record), ()) for record in records]
            for line in lines:
                frontier.append(line.leaf_hash)
            target.write(await encoder.add(lines))
            probe.look()
        target.write(await encoder.end(ExportTrailer(records=count, skipped=[])))
    return Checkpoint("log", count, frontier.root)


def watch(parts: Iterator[tuple[str, ndjson.Part]], probe: Probe) -> Iterator[tuple[str, ndjson.Part]]:
    for number, part in enumerate(parts):
        if number % PAGE_RECORDS == 0:
            probe.look()
        yield part


def get_checkpoint(checkpoint: Checkpoint, _: str) -> Checkpoint:
    return checkpoint


def read_ndjson(file: Path) -> Iterator[tuple[str, ndjson.Part]]:
    with file.open("rb") as source:
        yield from ndjson.read_parts(source)


@pytest.mark.parametrize(
    ("encoder_class", "read_parts", "counts"),
    [
        (NdjsonEncoder, read_ndjson, (2_000, 20_000)),
        # A group of rows is held in memory, so the smaller file has one whole group.
        (ParquetEncoder, parquet.read_parts, (ROW_GROUP_ROWS_MAX, 20_000)),
    ],
)
def test_memory_does_not_grow_with_the_length(
    encoder_class: type[NdjsonEncoder | ParquetEncoder],
    read_parts: Callable[[Path], Iterator[tuple[str, ndjson.Part]]],
    counts: tuple[int, int],
    tmp_path: Path,
) -> None:
    written: list[int] = []
    verified: list[int] = []
    for count in (100, *counts):  # the first one loads what is loaded once
        file = tmp_path / str(count)
        probe = Probe()
        checkpoint = asyncio.run(write(file, encoder_class(), count, probe))
        written.append(probe.stop())
        probe = Probe()
        result = verify_export(watch(read_parts(file), probe), partial(get_checkpoint, checkpoint))
        verified.append(probe.stop())
        assert result.records == count
    assert written[2] < 1.5 * written[1] < 100_000_000, written
    assert verified[2] < 1.5 * verified[1] < 100_000_000, verified
