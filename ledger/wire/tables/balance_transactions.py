"""What the operations on balance transactions accept (contract §2.8).

`type` and `currency` are any text: one that is unknown leaves nothing, and is no error.
"""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, ParameterTable, TimestampFilter
from ledger.wire.scalars import Text

RETRIEVE = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "created": TimestampFilter(),
        "currency": Text(description="Only transactions in this currency: a three-letter code, lower case."),
        "payout": Text(description="Only transactions paid out by this payout: none are, here."),
        "source": Text(description="Only transactions of this charge, refund or dispute."),
        "type": Text(description="Only transactions of this type: charge, refund or adjustment."),
    }
)
