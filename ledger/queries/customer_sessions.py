"""The sessions of a customer with their states, newest first, for the internal API.

There is no projection for this list: the log is indexed by customer, a session has at most two events, and
the list is rarely used. So the result is exact, and there is nothing to rebuild or to wait for.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.errors import InvalidParameter
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.context import QueryContext
from ledger.wire.elements import render_session_record
from ledger.wire.json_values import make_list_object

URL = "/internal/v1/customer_sessions"

# By the index events_customer, in the order of positions. All events of a stream have one account and mode.
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


async def list_by_customer(
    context: QueryContext,
    account: str,
    livemode: bool,
    customer: str,
    *,
    limit: int,
    starting_after: str | None,
) -> dict[str, Any]:
    """A page of the sessions of `customer`, who may be deleted, without their client secrets. A session that
    cannot be read is left out. Raises InvalidParameter, Unavailable."""
    state = await context.get(customer)
    if not isinstance(state, Customer) or (state.account, state.livemode) != (account, livemode):
        raise _missing_error("customer", customer, param="customer")
    ids = await _fetch_ids(context, customer, limit + 1, starting_after)
    states = await asyncio.gather(*map(context.get_expanded, ids[:limit]))
    now = context.now()
    data = [render_session_record(state, now) for state in states if isinstance(state, CustomerSession)]
    return make_list_object(data, URL, has_more=len(ids) > limit)


async def _fetch_ids(
    context: QueryContext, customer: str, limit: int, starting_after: str | None
) -> list[str]:
    parameters = {"customer": customer, "limit": limit, "before": _POSITION_MAX, "cursor": starting_after}

    async def fetch(conn: Conn) -> list[str]:
        if starting_after is not None:
            row = await fetch_one(conn, _SELECT_CURSOR_POSITION, parameters)
            if row is None:
                raise _missing_error("customer session", starting_after, param="starting_after")
            parameters["before"] = row[0]
        return [row[0] for row in await fetch_all(conn, _SELECT_SESSION_IDS, parameters)]

    return await context.pool.run_idempotent(fetch)


def _missing_error(noun: str, object_id: str, *, param: str) -> InvalidParameter:
    return InvalidParameter(f"No such {noun}: '{object_id}'", code="resource_missing", param=param)
