"""What the operations on events accept (contract §4.3)."""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, Array, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Text

TYPES_MAX = 20

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "delivery_success": Boolean(
            description="True: every webhook due has succeeded. False: one is pending or has given up."
        ),
        "type": Text(description="A type, or a group such as `charge.*`."),
        "types": Array(Text(), items_max=TYPES_MAX, description="Types; not together with `type`."),
    },
    exclusive=("type", "types"),
)
