"""Exports made in memory from made-up records, without a database and signed with a key of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger.audit.exports.content import (
    ExportHeader,
    ExportLine,
    ExportTrailer,
    cover_gap,
    make_line,
)
from ledger.audit.exports.ndjson import NdjsonEncoder
from ledger.audit.exports.parquet import ParquetEncoder
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SignerKey
from ledger.tlog.merkle import Frontier, Node
from ledger.tlog.notes import sign_note
from ledger.tree.records import Record, derive_leaf_hash

KEY = SignerKey.make("ledger/test", bytes(range(32)))
OTHER_KEY = SignerKey.make("ledger/test", bytes(range(1, 33)))
ACCOUNT = "acct_1"

Keep = Callable[[Record], bool]


def make_records(count: int) -> list[Record]:
    """A log of two accounts, with every kind of column value."""
    return [
        Record(
            position=position,
            stream=f"cus_{position % 5}",
            version=1 + position // 5,
            topic=("customer.created", "customer.updated")[position % 2],
            account=ACCOUNT if position % 3 else "acct_2",
            livemode=False,
            actor="key_1" if position % 2 else None,
            request_id=f"req_{position}",
            idempotency_key="Schlüssel \u2028 \x01" if position % 4 == 0 else None,
            causation=None,
            customer=f"cus_{position % 5}",
            charge=None,
            payment_intent="" if position % 7 == 0 else None,
            recorded_at=1_790_000_000_000_000 + position,
            state=b"\xff\xfe" if position % 6 == 0 else f'{{"name": "é", "n": {position}}}'.encode(),
        )
        for position in range(1, count + 1)
    ]


class ExportParts(NamedTuple):
    """An export that is not encoded yet."""

    header: ExportHeader
    lines: list[ExportLine]
    trailer: ExportTrailer


class Log:
    """Records and their tree."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self._hashes = [derive_leaf_hash(record) for record in records]

    def hash_node(self, node: Node) -> bytes:
        frontier = Frontier()
        for leaf_hash in self._hashes[node.number << node.level : (node.number + 1) << node.level]:
            frontier.append(leaf_hash)
        return frontier.root

    def sign(self, size: int | None = None, key: SignerKey = KEY) -> str:
        """The checkpoint of the first `size` records."""
        frontier = Frontier()
        for leaf_hash in self._hashes[:size]:
            frontier.append(leaf_hash)
        return sign_note(Checkpoint(key.name, frontier.size, frontier.root).to_text(), [key])

    def hash_gap(self, position: int, next_position: int) -> list[bytes]:
        return [self.hash_node(node) for node in cover_gap(position, next_position)]

    def export(self, keep: Keep = lambda _: True, *, after: int = 0, size: int | None = None) -> ExportParts:
        """The records of ACCOUNT that `keep` keeps, after the position `after`."""
        size = len(self.records) if size is None else size
        lines: list[ExportLine] = []
        last = after
        for record in self.records[after:size]:
            if record.account == ACCOUNT and keep(record):
                lines.append(
                    make_line(record, derive_leaf_hash(record), self.hash_gap(last, record.position))
                )
                last = record.position
        header = ExportHeader(
            account=ACCOUNT,
            livemode=False,
            filters={},
            after=after,
            upto=size,
            skipped=self.hash_gap(0, after + 1),
            checkpoint=self.sign(size),
        )
        return ExportParts(
            header, lines, ExportTrailer(records=len(lines), skipped=self.hash_gap(last, size + 1))
        )


def encode(parts: ExportParts, encoder_class: type[NdjsonEncoder | ParquetEncoder] = NdjsonEncoder) -> bytes:
    """The file."""

    async def run() -> bytes:
        encoder = encoder_class()
        begin = await encoder.begin(parts.header)
        middle = await encoder.add(parts.lines)
        return begin + middle + await encoder.end(parts.trailer)

    return asyncio.run(run())
