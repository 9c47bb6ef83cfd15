"""Whose an endpoint is: what its deliveries, attempts and health are bound to.

A delivery belongs to the account and mode of its endpoint, not to those of the Event: a platform sees what
went to its own endpoints, also of Events of connected accounts. One to a listener of the Stripe CLI has no
endpoint, and belongs to the account of the Event. The command line has no owner: it sees all.
"""

from __future__ import annotations

from ledger.domain import webhook_endpoint
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.postgres.connections import Conn, fetch_one
from ledger.store.codec import Codec
from ledger.store.log import read_states_at
from ledger.webhooks.schedule.breaker import read_breaker
from ledger.webhooks.subscriptions import Owner
from ledger.webhooks.switch import read_switch

_POSITION_MAX = 2**63 - 1
_ENDPOINT_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]

# From the log, not from the projection: a new endpoint is known at once, and so is one that cannot be read.
_SELECT_OWNER = """
SELECT account, livemode FROM ledger.events
WHERE originator_id = %(endpoint)s AND originator_version = 1 AND topic = ANY (%(topics)s::text[])
"""
_SELECT_OWNER_OF_REPLAY = """
SELECT account, livemode FROM webhooks.replays WHERE id = %(replay)s
UNION ALL SELECT account, livemode FROM webhooks.retries WHERE id = %(replay)s
"""
LISTENER_PREFIX = "wsl_"
"""Begins the public id of a listener of the Stripe CLI."""
# Not EXISTS: for many rows, the planner would collect the streams of all objects first.
OF_OWNER = """
(%(account)s::text IS NULL
 OR (SELECT true FROM ledger.events first
     WHERE first.originator_id = d.endpoint AND first.originator_version = 1
     AND first.account = %(account)s AND first.livemode = %(livemode)s)
 OR d.state = 'forwarded' AND d.account = %(account)s AND d.livemode = %(livemode)s)
"""
"""Whether the delivery `d` belongs to the owner of `bind_owner`."""


def bind_owner(owner: Owner | None) -> dict[str, object]:
    """The parameters of OF_OWNER; None: everybody's."""
    account, livemode = owner or (None, None)
    return {"account": account, "livemode": livemode}


async def has_endpoint(conn: Conn, endpoint_id: str, owner: Owner | None) -> bool:
    """Whether there is such an endpoint, perhaps deleted, for `owner`."""
    row = await fetch_one(conn, _SELECT_OWNER, {"endpoint": endpoint_id, "topics": _ENDPOINT_TOPICS})
    return row is not None and owner in (None, tuple(row))


async def has_replay(conn: Conn, replay_id: str, owner: Owner | None) -> bool:
    """Whether there is such a replay, or retry of many, for `owner`."""
    row = await fetch_one(conn, _SELECT_OWNER_OF_REPLAY, {"replay": replay_id})
    return row is not None and owner in (None, tuple(row))


async def read_endpoint(conn: Conn, codec: Codec, endpoint_id: str) -> WebhookEndpoint | None:
    """The endpoint as it is now, perhaps deleted; None if there is none. Raises UnreadableRecord."""
    states, failures = await read_states_at(conn, codec, [endpoint_id], _POSITION_MAX)
    if endpoint_id in failures:
        raise failures[endpoint_id]
    state = states.get(endpoint_id)
    return state if isinstance(state, WebhookEndpoint) else None


async def find_endpoint_obstacles(conn: Conn, endpoint: WebhookEndpoint | None, now: float) -> list[str]:
    """Codes of why nothing is sent to the endpoint at `now` (unix seconds): `paused` and `copy` (webhooks are
    off, see `switch`), `endpoint_disabled`, `endpoint_deleted`, `breaker_open`, `retry_after`."""
    switch = await read_switch(conn)
    obstacles = [reason.value for reason in switch.list_off_reasons("on")]
    if endpoint is not None and endpoint.deleted:
        obstacles.append("endpoint_deleted")
    elif endpoint is not None and endpoint.disabled:
        obstacles.append("endpoint_disabled")
    if endpoint is not None:
        breaker = await read_breaker(conn, endpoint.id, now)
        obstacles += ["breaker_open"] if breaker.state == "open" else []
        obstacles += ["retry_after"] if breaker.asked_until is not None else []
    return obstacles
