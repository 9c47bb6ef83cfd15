"""The canonical form of a recorded event: the bytes that the tree commits to.

Its form is fixed for good: `ledger/record/1` and a newline, then each column of `ledger.events` in the order
of `Record` as its length (4 bytes, big-endian) and its UTF-8 text; a null column is the length `ffffffff`
alone. The SHA-256 hash of these bytes is the log entry that the tree holds: so the tree can be published
without what is recorded, however long that is. The SQL function `ledger.record_digest` computes the same.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from ledger.tlog.merkle import ProofError, hash_leaf

PREFIX = b"ledger/record/1\n"
_NULL = b"\xff\xff\xff\xff"


class Record(msgspec.Struct, frozen=True):
    """One row of `ledger.events`, as it is stored.

    position      1, 2, 3 … without holes; its number in the tree is one less
    state         the stored bytes: JSON, in which personal data is sealed
    recorded_at   microseconds since 1970-01-01 UTC
    """

    position: int
    stream: str
    version: int
    topic: str
    account: str
    livemode: bool
    actor: str | None
    request_id: str | None
    idempotency_key: str | None
    causation: str | None
    customer: str | None
    charge: str | None
    payment_intent: str | None
    recorded_at: int
    state: bytes


def encode_record(record: Record) -> bytes:
    """The canonical form."""
    parts = [PREFIX]
    for value in msgspec.structs.astuple(record):
        if value is None:
            parts.append(_NULL)
            continue
        content = value if isinstance(value, bytes) else _format(value).encode()
        parts.append(len(content).to_bytes(4, "big"))
        parts.append(content)
    return b"".join(parts)


def decode_record(content: bytes) -> Record:
    """The record of a canonical form. Raises ProofError for bytes that `encode_record` does not make."""
    try:
        *texts, state = _split(content)
        fields = dict(zip(Record.__struct_fields__, [*map(_decode, texts), state], strict=True))
        record = msgspec.convert(fields, Record, strict=False)
    except (ValueError, msgspec.ValidationError):
        record = None
    if record is None or encode_record(record) != content:
        raise ProofError("these bytes are not the canonical form of a record")
    return record


def derive_entry(record: Record) -> bytes:
    """The entry of the log: the SHA-256 hash of the canonical form."""
    return sha256(encode_record(record)).digest()


def derive_leaf_hash(record: Record) -> bytes:
    """The hash of the record's leaf in the tree."""
    return hash_leaf(derive_entry(record))


def _format(value: str | int | bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _split(content: bytes) -> list[bytes | None]:
    """The columns of a canonical form. Raises ValueError."""
    columns: list[bytes | None] = []
    begin = len(PREFIX)
    while begin < len(content):
        length = content[begin : begin + 4]
        begin += 4
        if length == _NULL:
            columns.append(None)
            continue
        end = begin + int.from_bytes(length, "big")
        columns.append(content[begin:end])
        begin = end
    return columns


def _decode(column: bytes | None) -> str | None:
    return None if column is None else column.decode()
