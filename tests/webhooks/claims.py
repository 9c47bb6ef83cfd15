"""Deliveries in a database without a service: claimed and recorded as the sender does, at times of the test's
own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ledger.postgres.connections import Conn, open_connection
from ledger.webhooks import deliveries
from ledger.webhooks.deliveries import Attempt, ClaimedDelivery, DeliveryState
from ledger.webhooks.schedule import order
from ledger.webhooks.schedule.breaker import Breaker, read_breaker

Result = TypeVar("Result")

_INSERT = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, object, due_at)
VALUES (%(id)s, %(id)s, %(endpoint)s, 'acct_1', false, 0, %(position)s, 0, 'customer.updated', %(object)s,
        to_timestamp(%(now)s))
"""
_PENDING = """
SELECT id, object, position, due_at = 'infinity' FROM webhooks.deliveries
WHERE state = 'pending' ORDER BY position
"""


class Claims:
    """One process that claims from a database of its own. `now` is the time, in unix seconds."""

    def __init__(self, conn: Conn, runner: asyncio.Runner) -> None:
        self._conn = conn
        self._runner = runner
        self._positions = 0
        self.now = 1_000_000.0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def execute(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            cur = await self._conn.execute(query.encode(), values)
            return await cur.fetchall() if cur.description else []

        return self.run(run())

    def clear(self) -> None:
        self.execute("DELETE FROM webhooks.deliveries")
        self.execute("DELETE FROM webhooks.endpoint_health")
        self.now, self._positions = 1_000_000.0, 0

    def add(self, endpoint: str = "we_1", object_id: str | None = None) -> str:
        """One more delivery, as the fan-out inserts it; returns its id."""
        self._positions += 1
        row = {"id": f"dlv_{self._positions:06}", "endpoint": endpoint, "position": self._positions}

        async def insert() -> None:
            async with self._conn.transaction():
                await self._conn.execute(_INSERT, row | {"object": object_id, "now": self.now})
                await order.hold(self._conn, [str(row["id"])])

        self.run(insert())
        return str(row["id"])

    def claim(self, limit: int = 1000) -> list[ClaimedDelivery]:
        return self.run(
            deliveries.claim(
                self._conn,
                now=self.now,
                limit=limit,
                endpoint_limit_default=limit,
                endpoint_limits={},
                lease_seconds=60,
            )
        )

    def record(
        self,
        delivery: str,
        state: DeliveryState,
        *,
        retry_seconds: float = 0,
        status: int | None = None,
        **given: Any,
    ) -> None:
        """The outcome of an attempt that is made now and ends at once."""
        status = status or (200 if state == "delivered" else 500)
        attempt = Attempt(self.now, 0, status, b"", None, **given)
        due_at = self.now + retry_seconds if state == "pending" else None

        async def run() -> None:
            async with self._conn.transaction():
                await deliveries.record_outcome(
                    self._conn, delivery, state, account="acct_1", due_at=due_at, attempt=attempt
                )
                if state != "pending":
                    await order.release_next(self._conn, delivery, self.now)

        self.run(run())

    def read_breaker(self, endpoint: str = "we_1") -> Breaker:
        return self.run(read_breaker(self._conn, endpoint, self.now))

    def list_pending(self) -> list[tuple[Any, ...]]:
        """(id, object, position, whether it is on hold) of each, in order."""
        return self.execute(_PENDING)


@contextmanager
def open_claims(dsn: str) -> Iterator[Claims]:
    """A connection to the database for as long as the test needs it."""
    with asyncio.Runner() as runner:
        context = open_connection(dsn, "ledger_api", name="test")
        conn = runner.run(context.__aenter__())
        try:
            yield Claims(conn, runner)
        finally:
            runner.run(context.__aexit__(None, None, None))
