"""How many deliveries the sender of a process may hold: in all, and of each endpoint by how fast it answers.

An unknown one gets START_DELIVERIES, so that one that hangs takes few places; a fast one FAST_DELIVERIES, of
which ENDPOINT_CONCURRENCY_MAX are attempted at once, and the others are claimed ahead; any other as many as
are attempted at once; a slow one a single delivery, until it answers in less than SLOW_ATTEMPT_SECONDS again.
So slow endpoints delay no others. After a failure, those claimed ahead are given back: whether the endpoint
is tried again at once is for the next claim to say (`breaker`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.lru import LruCache

ENDPOINT_CONCURRENCY_MAX = 8
START_DELIVERIES = 2
FAST_DELIVERIES = 48
FAST_ATTEMPT_SECONDS = 0.25
SLOW_ATTEMPT_SECONDS = 3.0
KNOWN_ENDPOINTS_MAX = 512
AHEAD_SECONDS_MAX = 2.0
"""How long a delivery that was claimed ahead waits for its attempt."""


class AttemptLimits:
    """Counts the deliveries that are held. `deliveries_max`: of all endpoints together."""

    def __init__(self, deliveries_max: int) -> None:
        self._deliveries_max = deliveries_max
        self._held_count = 0
        self._held: dict[str, int] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._failed: set[str] = set()
        self._limits: LruCache[str, int] = LruCache(KNOWN_ENDPOINTS_MAX)

    @property
    def free(self) -> int:
        """How many more deliveries may be held."""
        return self._deliveries_max - self._held_count

    def list_free(self) -> dict[str, int]:
        """How many more deliveries of each endpoint may be held; START_DELIVERIES of any other."""
        known = {endpoint: limit for endpoint, limit in self._limits.items() if limit != START_DELIVERIES}
        return {
            endpoint: max(0, known.get(endpoint, START_DELIVERIES) - self._held.get(endpoint, 0))
            for endpoint in known.keys() | self._held.keys()
        }

    def hold(self, endpoint: str) -> None:
        """Count a delivery that was claimed."""
        self._held_count += 1
        self._held[endpoint] = self._held.get(endpoint, 0) + 1
        self._failed.discard(endpoint)
        if endpoint not in self._slots:
            self._slots[endpoint] = asyncio.Semaphore(ENDPOINT_CONCURRENCY_MAX)

    def release(self, endpoint: str) -> None:
        """Count it no more."""
        self._held_count -= 1
        self._held[endpoint] -= 1
        if not self._held[endpoint]:
            del self._held[endpoint], self._slots[endpoint]
            self._failed.discard(endpoint)

    @asynccontextmanager
    async def attempt(self, endpoint: str) -> AsyncIterator[bool]:
        """Wait until another attempt to the endpoint may begin. False when that takes too long, because it no
        longer answers fast, and when one has failed meanwhile: then none is made."""
        slots = self._slots[endpoint]
        waited = slots.locked()
        try:
            async with asyncio.timeout(AHEAD_SECONDS_MAX):
                await slots.acquire()
        except TimeoutError:
            self._limits.put(endpoint, ENDPOINT_CONCURRENCY_MAX)
            yield False
            return
        try:
            yield not (waited and endpoint in self._failed)
        finally:
            slots.release()

    def observe(self, endpoint: str, seconds: float, *, succeeded: bool) -> None:
        """Learn from how long an attempt took, and whether it was accepted."""
        limit = ENDPOINT_CONCURRENCY_MAX
        if seconds < FAST_ATTEMPT_SECONDS and succeeded:
            limit = FAST_DELIVERIES
        elif seconds >= SLOW_ATTEMPT_SECONDS:
            limit = 1
        if not succeeded:
            self._failed.add(endpoint)
        self._limits.put(endpoint, limit)
