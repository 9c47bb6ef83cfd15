"""What a process remembers of the balances that it has read, so that it adds up each change only once.

A total is the sum of all changes up to one position, by currency. It stays right: changes never change, and
those of later events are at later positions. It must come from a read of a projection without parked
streams, because `retry` adds their changes at positions before the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.lru import LruCache

ACCOUNTS_MAX = 10_000


class BalanceTotal(NamedTuple):
    """The sums by currency, in minor units, of a generation's rows up to `position`."""

    generation: int
    position: int
    amounts: Mapping[str, int]


BalanceTotals = LruCache[tuple[str, bool], BalanceTotal]
"""By account and mode."""


def new_balance_totals() -> BalanceTotals:
    """No total yet."""
    return LruCache(ACCOUNTS_MAX)
