"""Postgres arrays in the binary format, as parameters of a statement that runs for every batch.

psycopg's own adaptation looks up a dumper for each element, which costs more than everything else in sending
a batch. Here the caller knows the type of each column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, NamedTuple

# Dimensions, whether there may be NULLs, type of the elements, number of elements, index of the first.
_HEADER = Struct(">iiiii")
_NULL = b"\xff\xff\xff\xff"


class ElementType(NamedTuple):
    """The type of an array's elements: its oid, and what encodes one. That raises ValueError, TypeError or
    struct.error."""

    oid: int
    encode: Callable[[Any], bytes]


BOOLEAN = ElementType(16, Struct(">?").pack)
BYTEA = ElementType(17, bytes)
SMALLINT = ElementType(21, Struct(">h").pack)
BIGINT = ElementType(20, Struct(">q").pack)
INTEGER = ElementType(23, Struct(">i").pack)
TEXT = ElementType(25, str.encode)


def encode_array(values: Sequence[Any], element_type: ElementType) -> bytes | None:
    """An array of one or more values, None for NULL. None instead of an array of nothing but NULLs."""
    oid, encode = element_type
    count, first = len(values), values[0]
    if values.count(first) == count:  # as most columns of a batch: encode the value once
        if first is None:
            return None
        data = encode(first)
        return _HEADER.pack(1, 0, oid, count, 1) + (len(data).to_bytes(4) + data) * count
    parts = [_HEADER.pack(1, 1, oid, count, 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = encode(value)
            parts.append(len(data).to_bytes(4))
            parts.append(data)
    return b"".join(parts)


def decode_integers(array: bytes) -> list[int]:
    """The elements of an integer[] without NULLs."""
    return [value for (value,) in Struct(">4xi").iter_unpack(array[_HEADER.size :])]


def decode_record(record: bytes) -> list[bytes | None]:
    """The fields of a composite value, None for NULL."""
    fields: list[bytes | None] = []
    start = 4  # after the number of fields
    while start < len(record):
        start += 8  # the field's type and length
        length = int.from_bytes(record[start - 4 : start], signed=True)
        fields.append(record[start : start + length] if length >= 0 else None)
        start += max(length, 0)
    return fields
