"""Rate limits of one process: a token bucket for each API key and for each account acted on.

They are in memory, so that no request waits for a look-up; each process of a deployment has limits of its
own. A rate of 0 means no limit. Buckets that are full again may be dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger.errors import RateLimited

BURST_SECONDS = 2
BUCKETS_MAX = 10_000


class TokenBuckets:
    """One bucket for each name. It is refilled with `per_second` tokens and holds those of
    `BURST_SECONDS`."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._capacity = float(per_second * BURST_SECONDS)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> bool:
        """Take a token of `name`; False if there is none."""
        if not self._per_second:
            return True
        now = self._clock()
        tokens, updated_at = self._buckets.get(name, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - updated_at) * self._per_second)
        if name not in self._buckets and len(self._buckets) >= BUCKETS_MAX:
            self._evict_full(now)
        self._buckets[name] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _evict_full(self, now: float) -> None:
        """Drop the buckets that are full again; all of them, if none is."""
        partial_buckets = {
            name: (tokens, updated_at)
            for name, (tokens, updated_at) in self._buckets.items()
            if tokens + (now - updated_at) * self._per_second < self._capacity
        }
        self._buckets = partial_buckets if len(partial_buckets) < BUCKETS_MAX else {}


class RateLimits:
    """How many requests per second one key, and one account, may make to this process."""

    def __init__(self, *, key_per_second: int, account_per_second: int) -> None:
        self._has_limits = key_per_second > 0 or account_per_second > 0
        self._key_buckets = TokenBuckets(key_per_second)
        self._account_buckets = TokenBuckets(account_per_second)

    def check(self, key_id: str, account: str) -> None:
        """Count one request. Raises RateLimited (contract §1.6)."""
        if self._has_limits and not (self._key_buckets.take(key_id) and self._account_buckets.take(account)):
            raise RateLimited("Request rate limit exceeded.", code="rate_limit")
