"""Exports as Apache Parquet, for analysts: the lines as rows, the header and the trailer as JSON in the
file's metadata, which stands at its end. So a file that was cut off cannot be read, nor continued.

Needs pyarrow, which is optional (the extra `parquet`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ledger.audit.exports.content import ExportError, ExportHeader, ExportLine, ExportTrailer
from ledger.audit.exports.ndjson import Part, decode_part
from ledger.errors import InvalidParameter

MEDIA_TYPE = "application/vnd.apache.parquet"
MAGIC = b"PAR1"
ROW_GROUP_ROWS_MAX = 4096
ROW_GROUP_BYTES_MAX = 16 * 1024 * 1024
BATCH_ROWS = 1024
HEADER_KEY = "ledger.header"
TRAILER_KEY = "ledger.trailer"


def require_pyarrow() -> Any:
    """The modules of pyarrow. Raises InvalidParameter, which names `format`, where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InvalidParameter(
            "Parquet needs the package pyarrow, which is not installed here: pip install pyarrow. Exports "
            "can also be had as ndjson, without it.",
            param="format",
        ) from None
    return pyarrow


def make_schema() -> Any:
    """The columns: those of `ExportLine`; `recorded_at` as a time in UTC."""
    pa = require_pyarrow()
    special = {
        "position": pa.int64(),
        "version": pa.int32(),
        "livemode": pa.bool_(),
        "recorded_at": pa.timestamp("us", tz="UTC"),
        "leaf_hash": pa.binary(),
        "skipped": pa.list_(pa.binary()),
        "state_base64": pa.binary(),
    }
    return pa.schema([(name, special.get(name, pa.string())) for name in ExportLine.__struct_fields__])


class ParquetEncoder:
    """Encodes an export, one group of rows after another."""

    media_type = MEDIA_TYPE

    def __init__(self) -> None:
        self._pyarrow = require_pyarrow()
        self._schema = make_schema()
        self._sink = _Sink()
        self._rows: list[ExportLine] = []
        self._rows_bytes = 0
        self._writer = self._pyarrow.parquet.ParquetWriter(
            self._sink, self._schema, compression="zstd", write_statistics=["position", "recorded_at"]
        )

    async def begin(self, header: ExportHeader) -> bytes:
        """The first bytes of the file."""
        self._writer.add_key_value_metadata({HEADER_KEY: msgspec.json.encode(header).decode()})
        return self._sink.take()

    async def add(self, lines: Iterable[ExportLine]) -> bytes:
        """The bytes of the groups of rows that these lines complete."""
        for line in lines:
            self._rows.append(line)
            self._rows_bytes += len(line.state or line.state_base64 or ())
            if len(self._rows) >= ROW_GROUP_ROWS_MAX or self._rows_bytes >= ROW_GROUP_BYTES_MAX:
                await self._write_rows()
        return self._sink.take()

    async def end(self, trailer: ExportTrailer) -> bytes:
        """The last bytes of the file."""
        if self._rows:
            await self._write_rows()
        self._writer.add_key_value_metadata({TRAILER_KEY: msgspec.json.encode(trailer).decode()})
        await asyncio.to_thread(self._writer.close)
        return self._sink.take()

    async def _write_rows(self) -> None:
        rows, self._rows, self._rows_bytes = self._rows, [], 0
        await asyncio.to_thread(self._write_group, rows)

    def _write_group(self, rows: list[ExportLine]) -> None:
        pa = self._pyarrow
        columns = [
            pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in self._schema
        ]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(rows))


def read_parts(path: Path) -> Iterator[tuple[str, Part]]:
    """The parts of a file, each with its place. Raises ExportError, and InvalidParameter without pyarrow."""
    pa = require_pyarrow()
    try:
        with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
            header, trailer = _read_metadata(file)
            yield "the header", header
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                for line in _read_lines(batch):
                    row += 1
                    yield f"row {row}", line
            yield "the trailer", trailer
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ExportError(f"the file cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from None


def _read_metadata(file: Any) -> tuple[Part, Part]:
    """The header and the trailer. Raises ExportError."""
    if not file.schema_arrow.equals(make_schema(), check_metadata=False):
        raise ExportError("the columns are not those of an export")
    metadata = file.metadata.metadata or {}
    parts = []
    for name, key, part_type in (
        ("header", HEADER_KEY, ExportHeader),
        ("trailer", TRAILER_KEY, ExportTrailer),
    ):
        try:
            part = decode_part(metadata[key.encode()] + b"\n")
        except KeyError:
            raise ExportError(f"the file has no {name}") from None
        except ExportError as error:
            raise ExportError(f"the {name}: {error}") from None
        if not isinstance(part, part_type):
            raise ExportError(f"the {name} is something else")
        parts.append(part)
    return parts[0], parts[1]


def _read_lines(batch: Any) -> Iterator[ExportLine]:
    pa = require_pyarrow()
    columns = [
        (column.cast(pa.int64()) if name == "recorded_at" else column).to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    for values in zip(*columns, strict=True):
        try:
            yield msgspec.convert(dict(zip(batch.schema.names, values, strict=True)), ExportLine)
        except msgspec.ValidationError as error:
            raise ExportError(f"a row cannot be read: {error}") from None


class _Sink:
    """A file to write to, whose bytes are taken from it as they come."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.closed = False

    def take(self) -> bytes:
        """The bytes since the last call."""
        content, self._chunks = b"".join(self._chunks), []
        return content

    def write(self, data: Any) -> int:
        """As of a file."""
        content = bytes(data)
        self._chunks.append(content)
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        """As of a file."""
        return self._size

    def flush(self) -> None:
        """As of a file."""

    def close(self) -> None:
        """As of a file."""
        self.closed = True
