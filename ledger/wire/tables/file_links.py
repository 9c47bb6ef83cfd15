"""What the operations on file links accept (contract §2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.wire.parameters import EXPAND, PAGINATION, Metadata, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Parser, Text, Timestamp


@dataclass(frozen=True, kw_only=True)
class TimestampOrNow(Timestamp):
    """Unix seconds, or the word `now`; unsettable."""

    def compile(self, name: str) -> Parser:
        parse_timestamp = super().compile(name)
        return lambda raw: raw if raw == "now" else parse_timestamp(raw)

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "string", "enum": ["now"]}]}


CREATE = ParameterTable(
    {
        "expand": EXPAND,
        "expires_at": Timestamp(description="When the link ends, in unix seconds; never when absent."),
        "file": Text(required=True, description="Id of the file; its purpose must be one that has links."),
        "metadata": Metadata(),
    }
)

UPDATE = ParameterTable(
    {
        "expand": EXPAND,
        "expires_at": TimestampOrNow(
            unsettable=True, description="When the link ends, in unix seconds, or `now`."
        ),
        "metadata": Metadata(),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "expired": Boolean(description="Only links that have, or have not, expired."),
        "file": Text(description="Only links to this file."),
    }
)
