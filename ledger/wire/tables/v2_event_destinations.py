"""The parameters of the reads of event destinations (contract §10.5). Their bodies are models of
`ledger/commands/event_destination_models`."""

from __future__ import annotations

from ledger.wire.event_destinations import INCLUDE_URL
from ledger.wire.parameters import Array, ParameterTable
from ledger.wire.scalars import Choice
from ledger.wire.tables.v2_pages import V2_PAGINATION

_INCLUDE = Array(Choice((INCLUDE_URL,)), items_max=1, description="Members to show that are null otherwise.")

RETRIEVE = ParameterTable({"include": _INCLUDE})

LIST = ParameterTable({**V2_PAGINATION, "include": _INCLUDE})

DELETE = ParameterTable({})
