"""What the operations on refunds accept (CONTRACT 2.7).

How much is left to refund is for the command: only the charge knows.
"""

from __future__ import annotations

from ledger.domain.refund_decisions import REASONS
from ledger.wire.parameters import EXPAND, PAGE, Created, Metadata, Table, Unserved
from ledger.wire.scalars import Choice, Integer, Text

_NO_CONNECT = "moving money between connected accounts is not served"
_NO_CASH_BALANCE = "customers' cash balances are not served"

CREATE = Table(
    {
        "amount": Integer(minimum=1, description="In minor units; all that is left when absent."),
        "charge": Text(description="Id of the charge to refund."),
        "currency": Unserved(_NO_CASH_BALANCE),
        "customer": Unserved(_NO_CASH_BALANCE),
        "expand": EXPAND,
        "instructions_email": Unserved("only cards are refunded, which needs no instructions"),
        "metadata": Metadata(),
        "origin": Unserved(_NO_CASH_BALANCE),
        "payment_intent": Text(description="The payment intent whose newest charge to refund."),
        "reason": Choice(REASONS, description="Why the money goes back."),
        "refund_application_fee": Unserved(_NO_CONNECT),
        "reverse_transfer": Unserved(_NO_CONNECT),
    },
    exclusive=("payment_intent", "charge"),
    one_needed=True,
)

UPDATE = Table({"expand": EXPAND, "metadata": Metadata()})

RETRIEVE = Table({"expand": EXPAND})

CANCEL = Table({"expand": EXPAND})

LIST = Table(
    {
        **PAGE,
        "charge": Text(description="Only refunds of this charge."),
        "created": Created(),
        "payment_intent": Text(description="Only refunds of this payment intent."),
    }
)
