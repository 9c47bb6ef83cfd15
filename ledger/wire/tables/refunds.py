"""What the operations on refunds accept (contract §2.7).

How much is left to refund is for the command: only the charge knows.
"""

from __future__ import annotations

from ledger.domain.refund_decisions import REASONS
from ledger.wire.parameters import EXPAND, PAGINATION, Metadata, ParameterTable, TimestampFilter, Unsupported
from ledger.wire.scalars import Choice, Integer, Text

_NO_CONNECT = "moving money between connected accounts is not served"
_NO_CASH_BALANCE = "customers' cash balances are not served"

CREATE = ParameterTable(
    {
        "amount": Integer(minimum=1, description="In minor units; all that is left when absent."),
        "charge": Text(description="Id of the charge to refund."),
        "currency": Unsupported(_NO_CASH_BALANCE),
        "customer": Unsupported(_NO_CASH_BALANCE),
        "expand": EXPAND,
        "instructions_email": Unsupported("only cards are refunded, which needs no instructions"),
        "metadata": Metadata(),
        "origin": Unsupported(_NO_CASH_BALANCE),
        "payment_intent": Text(description="The payment intent whose newest charge to refund."),
        "reason": Choice(REASONS, description="Why the money goes back."),
        "refund_application_fee": Unsupported(_NO_CONNECT),
        "reverse_transfer": Unsupported(_NO_CONNECT),
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
