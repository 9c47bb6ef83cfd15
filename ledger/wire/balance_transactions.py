"""The JSON of balance transactions (contract §2.8)."""

from __future__ import annotations

from typing import Any

from ledger.domain.money import BalanceTransaction
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"fee_details": {}, "source": "source"}


def render_balance_transaction(transaction: BalanceTransaction, now: int) -> Json:
    """A balance transaction. It is pending until `available_on`, compared with `now` (unix seconds).

    `net` is always `amount - fee`, and the amounts of `fee_details` sum to `fee`.
    """
    amount, fee, currency = transaction["amount"], transaction["fee"], transaction["currency"]
    fee_detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": transaction["fee_description"],
        "type": "stripe_fee",
    }
    return {
        "id": transaction["id"],
        "object": "balance_transaction",
        "amount": amount,
        "available_on": transaction["available_on"],
        "balance_type": "payments",
        "created": transaction["created"],
        "currency": currency,
        "description": transaction["description"],
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [fee_detail] if fee else [],
        "net": amount - fee,
        "reporting_category": transaction["reporting_category"],
        "source": transaction["source"],
        "status": "available" if transaction["available_on"] <= now else "pending",
        "type": transaction["type"],
    }
