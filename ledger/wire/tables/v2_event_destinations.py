"""The parameters of the reads of event destinations (contract §10.5). Their bodies are models of
`ledger/commands/event_destination_models`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.wire.event_destinations import INCLUDE_URL
from ledger.wire.parameters import Array, ParameterTable
from ledger.wire.scalars import Choice, Parser
from ledger.wire.tables.v2_pages import V2_PAGINATION


@dataclass(frozen=True, kw_only=True)
class _Names(Array):
    """An array that may be one value without brackets, as Stripe's examples with curl have it."""

    def compile(self, name: str) -> Parser:
        parse_array = super().compile(name)

        def parse(raw: Any) -> Any:
            return parse_array({"0": raw} if type(raw) is str and raw else raw)

        return parse


_INCLUDE = _Names(
    item=Choice((INCLUDE_URL,)), items_max=1, description="Members to show that are null otherwise."
)

RETRIEVE = ParameterTable({"include": _INCLUDE})

LIST = ParameterTable({**V2_PAGINATION, "include": _INCLUDE})

DELETE = ParameterTable({})
