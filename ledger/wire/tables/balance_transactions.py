"""The parameters of the operations on balance transactions (contract §2.8).

An unknown `type` or `currency` is not an error: it matches nothing.
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
        "payout": Text(
            description="Only transactions of this payout. Always empty: payouts are not supported."
        ),
        "source": Text(description="Only transactions of this charge, refund or dispute."),
        "type": Text(description="Only transactions of this type: charge, refund or adjustment."),
    }
)
