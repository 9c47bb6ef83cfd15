"""The parameters of the operations on thin events (contract §10.4)."""

from __future__ import annotations

from ledger.wire.event_types import EVENT_TYPES_DESCRIBED_IN
from ledger.wire.parameters import Array, ParameterTable
from ledger.wire.rfc3339 import make_time_filter
from ledger.wire.scalars import Choice, Text
from ledger.wire.tables.v2_pages import V2_PAGINATION
from ledger.wire.thin_events import ORDERED_THIN_TYPES

TYPES_MAX = 20

RETRIEVE = ParameterTable({})

LIST = ParameterTable(
    {
        **V2_PAGINATION,
        "created": make_time_filter("Only events created within these bounds (RFC 3339)."),
        "object_id": Text(description="Only events of the object with this id."),
        "types": Array(
            Choice(ORDERED_THIN_TYPES, described_in=EVENT_TYPES_DESCRIBED_IN),
            items_max=TYPES_MAX,
            description=f"Only events of these types, such as `v1.charge.captured`; at most {TYPES_MAX}.",
        ),
    }
)
