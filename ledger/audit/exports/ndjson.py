"""Exports as NDJSON: one JSON object a line, in exactly one form, so that each byte of a line counts.

A file of which the end is missing can be continued: with an export that begins after its last whole line,
appended to it. The second header takes over where the lines before it end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

import msgspec

from ledger.audit.exports.content import ExportError, ExportHeader, ExportLine, ExportTrailer

MEDIA_TYPE = "application/x-ndjson"
LINE_BYTES_MAX = 64 * 1024 * 1024
"""Longer ones are refused unread; the records of the ledger are far shorter."""

Part = ExportHeader | ExportLine | ExportTrailer
PartType = TypeVar("PartType", ExportHeader, ExportLine, ExportTrailer)
_TYPES: dict[bytes, type[Part]] = {
    b'{"format"': ExportHeader,
    b'{"positio': ExportLine,
    b'{"records': ExportTrailer,
}
_PREFIX_BYTES = 9
_ENCODER = msgspec.json.Encoder()
_DECODERS = {part_type: msgspec.json.Decoder(part_type) for part_type in _TYPES.values()}


class NdjsonEncoder:
    """Encodes an export, part by part."""

    media_type = MEDIA_TYPE

    async def begin(self, header: ExportHeader) -> bytes:
        """The first bytes of the file."""
        return _ENCODER.encode(header) + b"\n"

    async def add(self, lines: Iterable[ExportLine]) -> bytes:
        """The bytes of these lines."""
        return _ENCODER.encode_lines(lines)

    async def end(self, trailer: ExportTrailer) -> bytes:
        """The last bytes of the file."""
        return _ENCODER.encode(trailer) + b"\n"


def decode_part(line: bytes) -> Part:
    """What a line is, with its line feed. Raises ExportError, also for what is not written as the ledger does
    (spaces, other escapes, a name twice): readers could understand that in different ways."""
    if len(line) > LINE_BYTES_MAX:
        raise ExportError(f"it is longer than {LINE_BYTES_MAX} bytes")
    if not line.endswith(b"\n"):
        raise ExportError("the file ends within it: it is truncated")
    part_type = _TYPES.get(line[:_PREFIX_BYTES])
    if part_type is None:
        raise ExportError("it is neither a header, nor a record, nor a trailer")
    try:
        part: Part = _DECODERS[part_type].decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ExportError(f"it cannot be read: {error}") from None
    if _ENCODER.encode(part) + b"\n" != line:
        raise ExportError("it is not written as the ledger writes it")
    return part


def read_parts(file: BinaryIO) -> Iterator[tuple[str, Part]]:
    """The parts of a file, each with its place. Raises ExportError."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        place = f"line {number}"
        try:
            part = decode_part(line)
        except ExportError as error:
            raise ExportError(f"{place}: {error}") from None
        yield place, part
