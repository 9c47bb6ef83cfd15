"""The JSON of refunds (contract §2.7)."""

from __future__ import annotations

from typing import Any

from ledger.domain.refund import Refund
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {
    "balance_transaction": "balance_transaction",
    "charge": "charge",
    "customer": "customer",
    "destination_details": {},
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "source_transfer_reversal": "transfer_reversal",
    "transfer_reversal": "transfer_reversal",
}
# A bank reports the reference number that traces a refund days later, or never.
_CARD_DESTINATION: Json = {
    "reference": None,
    "reference_status": "pending",
    "reference_type": "acquirer_reference_number",
    "type": "refund",
}


def render_refund(state: Refund) -> Json:
    """A refund. Nested members are shared between results: replace them, never change them in place."""
    return {
        "id": state.id,
        "object": "refund",
        "amount": state.amount,
        "balance_transaction": state.balance_transaction["id"],
        "charge": state.charge,
        "created": state.created,
        "currency": state.currency,
        "customer": state.customer,
        "customer_account": None,
        "destination_details": _render_destination_details(state.method),
        "metadata": state.metadata,
        "payment_intent": state.payment_intent,
        "payment_method": state.payment_method,
        "reason": state.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": state.status,
        "transfer_reversal": None,
    }


def _render_destination_details(method: str | None) -> Json | None:
    if method is None:
        return None
    return {method: _CARD_DESTINATION if method == "card" else {}, "type": method}
