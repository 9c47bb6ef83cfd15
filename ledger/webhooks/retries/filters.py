"""Which deliveries a retry takes: the filters that a caller gives, checked, and as columns of a delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ledger.errors import InvalidParameter, UnknownReference
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.history.filters import (
    bound_ids,
    check_states,
    list_delivery_types,
    list_event_ids,
    make_first_id,
)
from ledger.webhooks.history.owners import has_endpoint
from ledger.webhooks.subscriptions import Owner

RETRIED_STATES = ("failed", "dropped", "delivered", "pending")
"""Not what went to listeners of the Stripe CLI: they are no endpoints."""
DEFAULT_STATES = ("failed", "dropped")
"""What was given up."""
ENDPOINTS_MAX = 1000
_MILLISECOND = 0.001

# Those with any delivery in one of the states, deleted ones too. Rows are compared as for a list of them.
_ENDPOINTS = """
SELECT DISTINCT w.id FROM projections.webhook_endpoints w
CROSS JOIN unnest(%(states)s::text[]) AS wanted(state)
CROSS JOIN LATERAL (
    SELECT FROM webhooks.deliveries d
    WHERE (d.endpoint, d.state, d.id) > (w.id COLLATE "default", wanted.state, '')
    AND (d.endpoint, d.state, d.id) < (w.id COLLATE "default", wanted.state, 'dlw')
    ORDER BY d.endpoint, d.state, d.id LIMIT 1) AS first
WHERE w.generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
AND w.account = %(account)s AND w.livemode = %(livemode)s
ORDER BY w.id LIMIT %(limit)s
"""
_HAS_DELIVERY = """
SELECT FROM webhooks.deliveries d WHERE d.event = ANY (%(events)s::text[])
AND d.endpoint = ANY (%(endpoints)s::text[]) LIMIT 1
"""


class RetryRequest(NamedTuple):
    """What a caller asks for.

    endpoint, event  only deliveries to it, of it; None: any of the account
    states           some of RETRIED_STATES; none: DEFAULT_STATES. Of the pending ones, those that wait for
                     the time of their next attempt
    types            event types, or patterns such as `charge.*`; none: all
    created          maps `gt`, `gte`, `lt` and `lte` to unix seconds: when the delivery was made
    status, error    what the last attempt resulted in; None: anything
    """

    endpoint: str | None = None
    event: str | None = None
    states: Sequence[str] = ()
    types: Sequence[str] = ()
    created: Mapping[str, int] = {}
    status: int | None = None
    error: str | None = None


class RetryFilter(NamedTuple):
    """A request as it selects deliveries: to these `endpoints` of the owner, with ids from `first_id` to
    before `before_id`. `events` are the ids that deliveries of the Event have, None for any; `types`
    likewise."""

    request: RetryRequest
    account: str
    livemode: bool
    endpoints: Sequence[str]
    events: Sequence[str] | None
    states: Sequence[str]
    types: Sequence[str] | None
    first_id: str
    before_id: str

    def bind(self, now: float) -> dict[str, Any]:
        """The parameters of a selection at `now` (unix seconds)."""
        return {
            "events": None if self.events is None else list(self.events),
            "states": list(self.states),
            "types": None if self.types is None else list(self.types),
            "first": self.first_id,
            "before": self.before_id,
            "status": self.request.status,
            "error": self.request.error,
            "now": now,
        }


async def resolve_retry(conn: Conn, request: RetryRequest, *, owner: Owner, now: float) -> RetryFilter:
    """The filter that the request asks for at `now` (unix seconds), for the owner's account and mode: what
    was made by then. Raises InvalidParameter and UnknownReference, which name the parameter."""
    states = tuple(dict.fromkeys(request.states or DEFAULT_STATES))
    check_states(states, RETRIED_STATES)
    types = list_delivery_types(request.types, "types")
    first, before = bound_ids(request.created)
    before = min(before, make_first_id(now + _MILLISECOND))
    if first >= before:
        raise InvalidParameter("No delivery can have been made in these times.", param="created")
    endpoints = await _list_endpoints(conn, request.endpoint, owner, states)
    events = None if request.event is None else list_event_ids([request.event])
    if (
        events is not None
        and await fetch_one(conn, _HAS_DELIVERY, {"events": events, "endpoints": endpoints}) is None
    ):
        raise UnknownReference("delivery of the event", str(request.event), param="event")
    return RetryFilter(request, *owner, endpoints, events, states, types, first, before)


async def _list_endpoints(conn: Conn, endpoint: str | None, owner: Owner, states: Sequence[str]) -> list[str]:
    if endpoint is not None:
        if not await has_endpoint(conn, endpoint, owner):
            raise UnknownReference("webhook endpoint", endpoint, param="endpoint")
        return [endpoint]
    account, livemode = owner
    parameters = {
        "account": account, "livemode": livemode, "states": list(states), "limit": ENDPOINTS_MAX + 1,
    }  # fmt: skip
    endpoints = [row[0] for row in await fetch_all(conn, _ENDPOINTS, parameters)]
    if len(endpoints) > ENDPOINTS_MAX:
        raise InvalidParameter(
            f"Deliveries to more than {ENDPOINTS_MAX:,} endpoints would match: name one.", param="endpoint"
        )
    return endpoints
