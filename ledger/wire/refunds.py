"""The JSON of a refund (contract §2.7); like those of `render`, complete, unused fields null."""

from __future__ import annotations

from typing import Any

from ledger.domain.refund import Refund

Json = dict[str, Any]

# Banks give the number by which a refund can be traced days later, if at all.
_CARD_DESTINATION: Json = {
    "reference": None,
    "reference_status": "pending",
    "reference_type": "acquirer_reference_number",
    "type": "refund",
}


def render_refund(state: Refund) -> Json:
    """Replace members to expand; nested constants are shared."""
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
