"""The parameters of the operations on file links (contract §2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.wire.parameters import EXPAND, PAGINATION, Metadata, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Parser, Text, Timestamp


@dataclass(frozen=True, kw_only=True)
class TimestampOrNow(Timestamp):
    """A time in unix seconds, or the word `now`; it must be unsettable."""

    def compile(self, name: str) -> Parser:
        parse_timestamp = super().compile(name)
        return lambda raw: raw if raw == "now" else parse_timestamp(raw)

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "string", "enum": ["now"]}]}


CREATE = ParameterTable(
    {
        "expand": EXPAND,
        "expires_at": Timestamp(description="When the link expires, in unix seconds. Default: never."),
        "file": Text(required=True, description="Id of the file; its purpose must allow file links."),
        "metadata": Metadata(),
    }
)

UPDATE = ParameterTable(
    {
        "expand": EXPAND,
        "expires_at": TimestampOrNow(
            unsettable=True, description="When the link expires, in unix seconds, or `now`."
        ),
        "metadata": Metadata(),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "expired": Boolean(description="True: only expired links. False: only links that have not expired."),
        "file": Text(description="Only links to this file."),
    }
)
