"""The formats of exports, by name."""

from __future__ import annotations

from typing import Literal

from ledger.audit.exports.ndjson import NdjsonEncoder
from ledger.audit.exports.parquet import ParquetEncoder
from ledger.audit.exports.source import Encoder

Format = Literal["ndjson", "parquet"]


def make_encoder(name: Format) -> Encoder:
    """An encoder for one export. Raises InvalidParameter for a format that is not installed."""
    return NdjsonEncoder() if name == "ndjson" else ParquetEncoder()
