"""How many deliveries the sender of a process may hold: in all, and of each endpoint by how fast it answers.

unknown  START_DELIVERIES, so that one which hangs takes few places
slow     a single one, until an attempt takes less than SLOW_ATTEMPT_SECONDS again
others   ENDPOINT_CONCURRENCY_MAX, which are attempted at once; and of one that accepts what it gets, those
         that it will accept within AHEAD_SECONDS, ENDPOINT_DELIVERIES_MAX in all: they are claimed ahead,
         and given back after a failure: whether it is tried again is for the next claim to say (`breaker`)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from ledger.lru import LruCache

ENDPOINT_CONCURRENCY_MAX = 8
ENDPOINT_DELIVERIES_MAX = 96
START_DELIVERIES = 2
SLOW_ATTEMPT_SECONDS = 3.0
AHEAD_SECONDS = 1.0
AHEAD_SECONDS_MAX = 2.0
"""How long a delivery that was claimed ahead waits for its attempt. Then it is given back."""
KNOWN_ENDPOINTS_MAX = 512


class Room(NamedTuple):
    """How many more deliveries may be held: in all and of each endpoint; START_DELIVERIES of any other."""

    in_all: int
    of_endpoints: dict[str, int]


class AttemptLimits:
    """Counts the deliveries that are held. `deliveries_max`: of all endpoints together."""

    def __init__(self, deliveries_max: int) -> None:
        self._deliveries_max = deliveries_max
        self._held_count = 0
        self._held: dict[str, int] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._failed: set[str] = set()
        self._limits: LruCache[str, int] = LruCache(KNOWN_ENDPOINTS_MAX)
        self._waiting: set[str] = set()
        self._any_waiting = False

    def get_room(self) -> Room:
        """What the next claim may bring."""
        limits = dict(self._limits.items())
        of_endpoints = {
            endpoint: max(0, limits.get(endpoint, START_DELIVERIES) - self._held.get(endpoint, 0))
            for endpoint in limits.keys() | self._held.keys()
        }
        return Room(self._deliveries_max - self._held_count, of_endpoints)

    def hold(self, room: Room, endpoints: Sequence[str]) -> None:
        """Count the deliveries that a claim has brought into `room`, by their endpoints."""
        counts = Counter(endpoints)
        for endpoint, count in counts.items():
            self._held_count += count
            self._held[endpoint] = self._held.get(endpoint, 0) + count
            self._failed.discard(endpoint)
            if endpoint not in self._slots:
                self._slots[endpoint] = asyncio.Semaphore(ENDPOINT_CONCURRENCY_MAX)
        self._any_waiting = len(endpoints) >= room.in_all
        self._waiting = {
            endpoint
            for endpoint in counts.keys() | self._held.keys()
            if counts[endpoint] >= room.of_endpoints.get(endpoint, START_DELIVERIES)
        }

    def release(self, endpoint: str) -> bool:
        """Count it no more. Returns whether to claim again: when a limit may have kept back others in the
        last claim, and half of the endpoint's places are free, so that a claim brings many."""
        self._held_count -= 1
        self._held[endpoint] -= 1
        held, limit = self._held[endpoint], self._limits.get(endpoint) or START_DELIVERIES
        if not held:
            del self._held[endpoint], self._slots[endpoint]
            self._failed.discard(endpoint)
        return held <= limit // 2 and (self._any_waiting or endpoint in self._waiting)

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
        if seconds >= SLOW_ATTEMPT_SECONDS:
            limit = 1
        elif succeeded:
            ahead = ENDPOINT_CONCURRENCY_MAX * AHEAD_SECONDS / max(seconds, 0.001)
            limit = min(ENDPOINT_DELIVERIES_MAX, limit + round(ahead))
        if not succeeded:
            self._failed.add(endpoint)
        self._limits.put(endpoint, limit)
