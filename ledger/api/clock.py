"""The time at which a request is checked and decided, shared by all processes of a deployment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ledger.clock import Clock
from ledger.postgres.connections import ReconnectingConnection

RefreshClock = Callable[[], Awaitable[float]]
"""Returns the current time, unix seconds. Raises Unavailable."""


class ClockReader:
    """Reads the deployment's clock once per request: the database holds it if tests can move it, and it is
    the machine's own otherwise."""

    def __init__(self, clock: Clock, dsn: str, *, movable: bool) -> None:
        self._clock = clock
        self._connection = ReconnectingConnection(dsn, "ledger_api", name="clock") if movable else None

    async def refresh(self) -> float:
        """The current time in unix seconds, after an update of `clock`. Raises Unavailable."""
        if self._connection is not None:
            await self._connection.run_idempotent(self._clock.refresh)
        return self._clock.now()

    async def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            await self._connection.drop()
