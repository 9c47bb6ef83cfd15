"""The JSON of the balance (contract §2.14)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"available": {}, "pending": {}}


class Funds(NamedTuple):
    """The funds of an account in one currency, in minor units; negative if the account owes them."""

    available: int
    pending: int


def render_balance(funds: Mapping[str, Funds], default_currency: str, *, livemode: bool) -> Json:
    """The balance with `funds` by currency; zero in the default currency if there are none."""
    by_currency = sorted(funds.items()) or [(default_currency, Funds(0, 0))]
    return {
        "object": "balance",
        "available": [_render_amount(currency, amounts.available) for currency, amounts in by_currency],
        "livemode": livemode,
        "pending": [_render_amount(currency, amounts.pending) for currency, amounts in by_currency],
    }


def _render_amount(currency: str, amount: int) -> Json:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}
