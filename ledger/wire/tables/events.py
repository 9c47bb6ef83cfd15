"""The parameters of the operations on Events (contract §4.3)."""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, Array, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Text

TYPES_MAX = 20

RETRIEVE = ParameterTable({"expand": EXPAND})

RETRY = ParameterTable(
    {
        "expand": EXPAND,
        "account": Text(description="The connected account whose Event it is; as the header Stripe-Account."),
        "for_stripecli": Boolean(description="Whether to send it to the listeners of the Stripe CLI."),
        "webhook_endpoint": Text(description="The endpoint to send it to, whatever its types are."),
    }
)

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "delivery_success": Boolean(
            description="True: every delivery of the Event succeeded. False: one is pending or abandoned."
        ),
        "type": Text(description="A type, or a pattern such as `charge.*`."),
        "types": Array(Text(), items_max=TYPES_MAX, description="Types; cannot be combined with `type`."),
    },
    exclusive=("type", "types"),
)
