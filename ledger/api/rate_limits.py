"""Rate limits of one process: a token bucket for each key and each account acted on.

In memory, so nothing is asked on the way of a request; with several processes each allows its own share.
A rate of 0 is no limit. A bucket that would be full again is not kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger.errors import RateLimited

BURST_SECONDS = 2
BUCKETS_MAX = 10_000


class Buckets:
    """One bucket for each name, refilled at `per_second`, holding what comes in `BURST_SECONDS`."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._full = float(per_second * BURST_SECONDS)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> bool:
        """Whether there was a token left for `name`."""
        if not self._per_second:
            return True
        now = self._clock()
        tokens, at = self._buckets.get(name, (self._full, now))
        tokens = min(self._full, tokens + (now - at) * self._per_second)
        if name not in self._buckets and len(self._buckets) >= BUCKETS_MAX:
            self._forget(now)
        self._buckets[name] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again; all of them, if that makes no room."""
        filling = {
            name: (tokens, at)
            for name, (tokens, at) in self._buckets.items()
            if tokens + (now - at) * self._per_second < self._full
        }
        self._buckets = filling if len(filling) < BUCKETS_MAX else {}


class Limits:
    """What one key, and one account, may ask of this process in a second."""

    def __init__(self, *, key_per_second: int, account_per_second: int) -> None:
        self._keys = Buckets(key_per_second)
        self._accounts = Buckets(account_per_second)

    def check(self, key_id: str, account: str) -> None:
        """Raises RateLimited (CONTRACT 1.6)."""
        if not (self._keys.take(key_id) and self._accounts.take(account)):
            raise RateLimited("Request rate limit exceeded.", code="rate_limit")
