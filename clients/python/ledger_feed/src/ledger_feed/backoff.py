"""How long to wait before another try."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Waits that double from the first to the longest. Each is a random part of its length, so that consumers
    that lost the same service do not come back at the same moment."""

    def __init__(self, seconds_first: float = 0.1, seconds_max: float = 30.0) -> None:
        self._seconds_first = seconds_first
        self._seconds_max = seconds_max
        self._failures = 0

    def reset(self) -> None:
        """Begin again with the first wait, after a success."""
        self._failures = 0

    def next_wait_seconds(self) -> float:
        """The wait after one more failure."""
        longest = min(self._seconds_max, self._seconds_first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return random.uniform(0, longest)  # noqa: S311  # no secret

    async def wait(self, seconds_min: float = 0.0) -> None:
        """Wait after one more failure, at least `seconds_min`."""
        await asyncio.sleep(max(seconds_min, self.next_wait_seconds()))
