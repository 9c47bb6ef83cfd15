"""A customer's sessions and what became of each, newest first.

There is no read model of them: the log is indexed by customer, a session's whole history is two events
at most, and few ever ask. So the answer is exact, and there is nothing to build, to switch or to wait for.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.errors import InvalidParameter, Unavailable
from ledger.postgres.connections import Pool, fetch_all, fetch_one, first_line
from ledger.store.store import Store
from ledger.wire.elements import render_session_record

URL = "/internal/v1/customer_sessions"

# By the index events_customer, which is in position order; a stream's account and mode are its events'.
_SELECT_SESSION_IDS = """
SELECT originator_id FROM ledger.events
WHERE customer = %(customer)s AND topic = 'customer_session.created' AND notification_id < %(before)s
ORDER BY notification_id DESC LIMIT %(limit)s
"""
_SELECT_CURSOR_POSITION = """
SELECT notification_id FROM ledger.events
WHERE originator_id = %(cursor)s AND originator_version = 1 AND customer = %(customer)s
AND topic = 'customer_session.created'
"""
_POSITION_MAX = 2**62


class CustomerSessionQueries:
    """Customer sessions by customer, without their secrets."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self._store = store
        self._pool = pool

    async def list_by_customer(
        self, account: str, livemode: bool, customer: str, *, limit: int, starting_after: str | None
    ) -> dict[str, Any]:
        """A page of the sessions of `customer`, who may be deleted. Raises InvalidParameter, Unavailable."""
        state = await self._store.streams.read(customer)
        if not isinstance(state, Customer) or (state.account, state.livemode) != (account, livemode):
            raise _missing_error("customer", customer, param="customer")
        ids = await self._fetch_ids(customer, limit + 1, starting_after)
        states = await asyncio.gather(*map(self._store.streams.read, ids[:limit]))
        now = int(self._store.clock.now())
        data = [render_session_record(state, now) for state in states if isinstance(state, CustomerSession)]
        return {"object": "list", "data": data, "has_more": len(ids) > limit, "url": URL}

    async def _fetch_ids(self, customer: str, limit: int, starting_after: str | None) -> list[str]:
        parameters = {"customer": customer, "limit": limit, "before": _POSITION_MAX, "cursor": starting_after}
        try:
            async with self._pool.connection() as conn:
                if starting_after is not None:
                    row = await fetch_one(conn, _SELECT_CURSOR_POSITION, parameters)
                    if row is None:
                        raise _missing_error("customer session", starting_after, param="starting_after")
                    parameters["before"] = row[0]
                return [row[0] for row in await fetch_all(conn, _SELECT_SESSION_IDS, parameters)]
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise Unavailable(first_line(error)) from error


def _missing_error(noun: str, object_id: str, *, param: str) -> InvalidParameter:
    return InvalidParameter(f"No such {noun}: '{object_id}'", code="resource_missing", param=param)
