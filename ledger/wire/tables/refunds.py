"""The parameters of the operations on refunds (contract §2.7).

The decision checks how much can still be refunded: that depends on the charge.
"""

from __future__ import annotations

from ledger.domain.refund_decisions import REASONS
from ledger.wire.parameters import EXPAND, PAGINATION, Metadata, ParameterTable, TimestampFilter, Unsupported
from ledger.wire.scalars import Choice, Integer, Text
from ledger.wire.tables.unsupported import NO_CONNECT

_NO_CASH_BALANCE = "cash balances of customers are not supported"

CREATE = ParameterTable(
    {
        "amount": Integer(minimum=1, description="In minor units. Default: the remaining amount."),
        "charge": Text(description="Id of the charge to refund."),
        "currency": Unsupported(_NO_CASH_BALANCE),
        "customer": Unsupported(_NO_CASH_BALANCE),
        "expand": EXPAND,
        "instructions_email": Unsupported("refunds to cards need no instructions"),
        "metadata": Metadata(),
        "origin": Unsupported(_NO_CASH_BALANCE),
        "payment_intent": Text(description="Id of the payment intent whose newest charge to refund."),
        "reason": Choice(REASONS, description="The reason for the refund."),
        "refund_application_fee": Unsupported(NO_CONNECT),
        "reverse_transfer": Unsupported(NO_CONNECT),
    },
    exclusive=("payment_intent", "charge"),
    one_required=True,
)

UPDATE = ParameterTable({"expand": EXPAND, "metadata": Metadata()})

RETRIEVE = ParameterTable({"expand": EXPAND})

CANCEL = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "charge": Text(description="Only refunds of this charge."),
        "created": TimestampFilter(),
        "payment_intent": Text(description="Only refunds of this payment intent."),
    }
)
