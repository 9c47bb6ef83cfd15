"""Deliveries as operators look them up: a page of them, newest first, or one with its attempts.

Nothing shows the URL of an endpoint, which often has a token in it. What a receiver answered is shown as
text: bytes that are no UTF-8 as `\\xNN`.
"""

from __future__ import annotations

import codecs
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.errors import UnknownObject, UnknownReference, UnreadableRecord
from ledger.ids import parse_id_time
from ledger.keys.documents import load_document_keys, open_document, run_on
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.webhooks.deliveries import DeliveryState
from ledger.webhooks.history.filters import (
    STATES,
    DeliveryFilters,
    bound_ids,
    check_states,
    list_delivery_types,
    list_event_ids,
)
from ledger.webhooks.history.owners import (
    LISTENER_PREFIX,
    OF_OWNER,
    bind_owner,
    find_endpoint_obstacles,
    has_endpoint,
    has_replay,
    read_endpoint,
)
from ledger.webhooks.http_client import RESPONSE_BYTES_MAX
from ledger.webhooks.subscriptions import Owner
from ledger.wire.event_destinations import PING_TYPE
from ledger.wire.thin_events import to_thin_id, to_thin_type

ATTEMPTS_SHOWN_MAX = 100
ATTEMPT_COLUMNS = 5

_SELECT = """
SELECT d.id, d.event, d.endpoint, d.account, d.livemode, d.created, d.type, d.state, d.tries,
       extract(epoch FROM nullif(d.due_at, 'infinity'))::float8, d.leased_until > now(),
       d.replay, (SELECT w.thin FROM projections.webhook_endpoints w WHERE w.id = d.endpoint AND w.generation
                  = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')),
       last.number, extract(epoch FROM last.at)::float8, last.duration_ms, last.status, last.error
"""
_LAST_ATTEMPT = """
LEFT JOIN LATERAL (SELECT a.number, a.at, a.duration_ms, a.status, a.error FROM webhooks.attempts a
                   WHERE a.delivery = d.id ORDER BY a.number DESC LIMIT 1) AS last ON true
"""
# The index has the ids of each endpoint and state in order: a page takes its first rows from each of them.
# Rows are compared, not columns: by equal ones Postgres may go through all ids instead, for a rare state.
_NEWEST_OF_ENDPOINTS = """
SELECT found.id FROM owned CROSS JOIN unnest(%(states)s::text[]) AS wanted(state)
CROSS JOIN LATERAL (
    SELECT d.id FROM webhooks.deliveries d
    WHERE (d.endpoint, d.state, d.id) >= (owned.endpoint COLLATE "default", wanted.state, %(first)s)
    AND (d.endpoint, d.state, d.id) < (owned.endpoint COLLATE "default", wanted.state, %(before)s)
    AND {of_owner}
    ORDER BY d.endpoint DESC, d.state DESC, d.id DESC LIMIT %(rows)s
) AS found
"""
# Another index has them of each type.
_NEWEST_OF_TYPES = """
SELECT found.id FROM owned CROSS JOIN unnest(%(states)s::text[]) AS wanted(state)
CROSS JOIN unnest(%(types)s::text[]) AS sent(type)
CROSS JOIN LATERAL (
    SELECT d.id FROM webhooks.deliveries d
    WHERE (d.endpoint, d.type, d.state, d.id)
        >= (owned.endpoint COLLATE "default", sent.type, wanted.state, %(first)s)
    AND (d.endpoint, d.type, d.state, d.id)
        < (owned.endpoint COLLATE "default", sent.type, wanted.state, %(before)s)
    AND {of_owner}
    ORDER BY d.endpoint DESC, d.type DESC, d.state DESC, d.id DESC LIMIT %(rows)s
) AS found
"""
_NEWEST_FORWARDED = """
UNION ALL (
    SELECT d.id FROM webhooks.deliveries d
    WHERE d.state = 'forwarded' AND 'forwarded' = ANY (%(states)s::text[])
    AND {of_owner} AND d.id >= %(first)s AND d.id < %(before)s
    AND (%(types)s::text[] IS NULL OR d.type = ANY (%(types)s::text[]))
    ORDER BY d.id DESC LIMIT %(rows)s)
"""
_LIVE_ENDPOINTS = """
SELECT w.id AS endpoint FROM projections.webhook_endpoints w
WHERE w.generation = (SELECT generation FROM projections.live WHERE projection = 'webhook_endpoints')
"""
_PAGE = """
WITH owned AS ({owned}), newest AS ({newest} ORDER BY 1 DESC LIMIT %(rows)s)
{select} FROM newest JOIN webhooks.deliveries d ON d.id = newest.id {last} ORDER BY d.id DESC
"""


def _build_page(owned: str, newest: str, forwarded: str = "") -> str:
    return _PAGE.format(owned=owned, newest=newest + forwarded, select=_SELECT, last=_LAST_ATTEMPT)


_FORWARDED_OF_ACCOUNT = _NEWEST_FORWARDED.format(
    of_owner="d.account = %(account)s AND d.livemode = %(livemode)s"
)
# All rows have the same endpoint: whether it is the owner's is asked once, not for each of them.
_OF_ENDPOINT, _OF_ENDPOINT_AND_TYPES = (
    _build_page(
        "SELECT %(endpoint)s::text AS endpoint",
        newest.format(of_owner=OF_OWNER.replace("d.endpoint", "%(endpoint)s::text")),
    )
    for newest in (_NEWEST_OF_ENDPOINTS, _NEWEST_OF_TYPES)
)
_OF_ACCOUNT, _OF_ACCOUNT_AND_TYPES = (
    _build_page(
        f"{_LIVE_ENDPOINTS} AND w.account = %(account)s AND w.livemode = %(livemode)s",
        newest.format(of_owner="true"),
        _FORWARDED_OF_ACCOUNT,
    )
    for newest in (_NEWEST_OF_ENDPOINTS, _NEWEST_OF_TYPES)
)
_OF_ALL, _OF_ALL_AND_TYPES = (
    _build_page(_LIVE_ENDPOINTS, newest.format(of_owner="true"), _NEWEST_FORWARDED.format(of_owner="true"))
    for newest in (_NEWEST_OF_ENDPOINTS, _NEWEST_OF_TYPES)
)
_NEWEST_OF_REPLAY = """
SELECT found.id FROM owned CROSS JOIN unnest(%(states)s::text[]) AS wanted(state)
CROSS JOIN LATERAL (
    SELECT d.id FROM webhooks.deliveries d
    WHERE d.replay IS NOT NULL AND (d.replay, d.state, d.id) >= (%(replay)s, wanted.state, %(first)s)
    AND (d.replay, d.state, d.id) < (%(replay)s, wanted.state, %(before)s)
    AND (owned.endpoint IS NULL OR d.endpoint = owned.endpoint)
    AND (%(types)s::text[] IS NULL OR d.type = ANY (%(types)s::text[]))
    ORDER BY d.replay DESC, d.state DESC, d.id DESC LIMIT %(rows)s
) AS found
"""
_OF_REPLAY = _build_page("SELECT %(endpoint)s::text AS endpoint", _NEWEST_OF_REPLAY)
# OFFSET 0: few deliveries are of some Events, and the planner may go through all ids to find them in order.
_OF_EVENT = f"""
{_SELECT}
FROM (SELECT * FROM webhooks.deliveries WHERE event = ANY (%(events)s::text[]) OFFSET 0) d {_LAST_ATTEMPT}
WHERE (%(endpoint)s::text IS NULL OR d.endpoint = %(endpoint)s)
AND (%(replay)s::text IS NULL OR d.replay = %(replay)s)
AND d.state = ANY (%(states)s::text[]) AND d.id >= %(first)s AND d.id < %(before)s
AND (%(types)s::text[] IS NULL OR d.type = ANY (%(types)s::text[])) AND {OF_OWNER}
ORDER BY d.id DESC LIMIT %(rows)s
"""  # noqa: S608 (constants)
# Also that of a connected account, whether there is an endpoint for it or not.
_HAS_EVENT = """
SELECT FROM projections.feed f JOIN ledger.accounts a ON a.id = f.account
WHERE f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND f.id = ANY (%(events)s::text[])
AND (%(account)s::text IS NULL OR f.livemode = %(livemode)s AND %(account)s IN (a.id, a.platform))
"""
_ONE = f"{_SELECT} FROM webhooks.deliveries d {_LAST_ATTEMPT} WHERE d.id = %(id)s AND {OF_OWNER}"
_ATTEMPTS = """
SELECT number, extract(epoch FROM at)::float8, duration_ms, status, error, answer, sealed_answer
FROM webhooks.attempts WHERE delivery = %(id)s ORDER BY number DESC LIMIT %(limit)s
"""
# What is retried or replayed may be made from the log, a ping from its row.
_HAS_CONTENT = """
SELECT FROM webhooks.deliveries d WHERE d.id = %(id)s AND (
    d.replay IS NOT NULL OR d.schedule_from > 0 OR d.type = %(ping)s OR EXISTS (
        SELECT FROM projections.feed f
        WHERE f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
        AND f.id = d.event AND f.created = d.created))
"""

_WAITS_IN_ORDER = """
SELECT FROM webhooks.deliveries d JOIN webhooks.deliveries p
    ON p.state = 'pending' AND p.endpoint = d.endpoint AND p.object = d.object
    AND (p.position, p.ordinal) < (d.position, d.ordinal)
WHERE d.id = %(id)s LIMIT 1
"""


class AttemptSummary(NamedTuple):
    """One attempt, without what the receiver answered. `at` is in unix seconds."""

    number: int
    at: float
    duration_ms: int
    status: int | None
    error: str | None


class Delivery(NamedTuple):
    """A delivery. `event` and `type` are what the receiver is sent: those of a thin event, if its endpoint
    gets such. `account` is the Event's, `event_created` its time; `attempt_count` counts the attempts
    that were due, also those missed while the endpoint was disabled; `due_at` is when the next one is due, if
    it is pending, None if it waits for an earlier Event of the object; `in_flight`: whether one is under
    way; `replay` the one that has made it, or made it pending again last."""

    id: str
    event: str
    endpoint: str
    account: str
    livemode: bool
    event_created: int
    type: str
    state: DeliveryState
    attempt_count: int
    due_at: float | None
    in_flight: bool
    replay: str | None
    last_attempt: AttemptSummary | None

    @property
    def created(self) -> float | None:
        """When the delivery was made, in unix seconds."""
        return parse_id_time(self.id)

    def to_json(self) -> dict[str, Any]:
        """The delivery as the internal API shows it."""
        return {
            "id": self.id,
            "object": "webhook_delivery",
            "account": self.account,
            "attempt_count": self.attempt_count,
            "created": self.created,
            "endpoint": self.endpoint,
            "event": self.event,
            "event_created": self.event_created,
            "in_flight": self.in_flight,
            "last_attempt": None if self.last_attempt is None else self.last_attempt._asdict(),
            "livemode": self.livemode,
            "next_attempt_at": self.due_at if self.state == "pending" else None,
            "replay": self.replay,
            "state": self.state,
            "type": self.type,
        }


class DeliveryRecord(NamedTuple):
    """A delivery with its newest attempts, at most ATTEMPTS_SHOWN_MAX, the oldest first, each with what the
    receiver answered; and codes of what it waits for beside its time."""

    delivery: Delivery
    attempts: list[tuple[AttemptSummary, bytes | None]]
    waits_for: list[str]

    def to_json(self) -> dict[str, Any]:
        """The delivery as the internal API shows it."""
        attempts = [{**summary._asdict(), **show_answer(answer)} for summary, answer in self.attempts]
        return {**self.delivery.to_json(), "attempts": attempts, "waits_for": self.waits_for}


async def list_deliveries(
    conn: Conn, owner: Owner | None, filters: DeliveryFilters, *, limit: int, starting_after: str | None
) -> tuple[list[Delivery], bool]:
    """A page, newest first, and whether there are more. `starting_after`: the id of the last one of the page
    before. Of several Events, those that are unknown or older than the feed have none. Raises
    InvalidParameter, and UnknownReference for an endpoint, Event or replay that is not the owner's."""
    endpoint = filters.endpoint
    check_states(filters.states)
    is_listener = endpoint is None or endpoint.startswith(LISTENER_PREFIX)
    if endpoint is not None and not is_listener and not await has_endpoint(conn, endpoint, owner):
        raise UnknownReference("webhook endpoint", endpoint, param="endpoint")
    if filters.replay is not None and not await has_replay(conn, filters.replay, owner):
        raise UnknownReference("replay", filters.replay, param="replay")
    first, before = bound_ids(filters.created)
    if starting_after is not None:
        if await find_delivery(conn, starting_after, owner) is None:
            raise UnknownReference("delivery", starting_after, param="starting_after")
        before = min(before, starting_after)
    types = list_delivery_types(filters.types)
    if filters.events:
        query = _OF_EVENT
    elif filters.replay is not None:
        query = _OF_REPLAY
    elif endpoint is not None:
        query = _OF_ENDPOINT if types is None else _OF_ENDPOINT_AND_TYPES
    elif owner is not None:
        query = _OF_ACCOUNT if types is None else _OF_ACCOUNT_AND_TYPES
    else:
        query = _OF_ALL if types is None else _OF_ALL_AND_TYPES
    parameters = {
        **bind_owner(owner),
        "endpoint": endpoint, "events": list_event_ids(filters.events), "replay": filters.replay,
        "states": list(filters.states or STATES), "types": types,
        "first": first, "before": before, "rows": limit + 1,
    }  # fmt: skip
    rows = await fetch_all(conn, query, parameters)
    if not rows and len(filters.events) == 1 and await fetch_one(conn, _HAS_EVENT, parameters) is None:
        raise UnknownReference("event", filters.events[0], param="event")
    return [_to_delivery(row) for row in rows[:limit]], len(rows) > limit


async def find_delivery(conn: Conn, delivery_id: str, owner: Owner | None) -> Delivery | None:
    """The delivery, if it is the owner's."""
    row = await fetch_one(conn, _ONE, {"id": delivery_id, **bind_owner(owner)})
    return None if row is None else _to_delivery(row)


async def read_delivery(
    conn: Conn, codec: Codec, delivery_id: str, owner: Owner | None, now: float
) -> DeliveryRecord:
    """The delivery at `now` (unix seconds), with its attempts. Raises UnknownObject."""
    delivery = await find_delivery(conn, delivery_id, owner)
    if delivery is None:
        raise UnknownObject("delivery", delivery_id)
    rows = await fetch_all(conn, _ATTEMPTS, {"id": delivery_id, "limit": ATTEMPTS_SHOWN_MAX})
    sealed = [row[-1] for row in rows]
    keyring = await load_document_keys(run_on(conn), codec.data_keys, sealed)
    attempts = [
        (AttemptSummary(*columns), answer if sealed is None else open_document(keyring, sealed))
        for *columns, answer, sealed in reversed(rows)
    ]
    waits_for: list[str] = []
    if delivery.state == "pending":
        waits_for = await _find_obstacles(conn, codec, delivery, now)
    return DeliveryRecord(delivery, attempts, waits_for)


async def _find_obstacles(conn: Conn, codec: Codec, delivery: Delivery, now: float) -> list[str]:
    """Why a pending delivery may not be attempted when it is due."""
    try:
        endpoint = await read_endpoint(conn, codec, delivery.endpoint)
    except UnreadableRecord:  # the sender logs it, and sends once it can be read
        return ["endpoint_unreadable"]
    obstacles = await find_endpoint_obstacles(conn, endpoint, now)
    if await fetch_one(conn, _WAITS_IN_ORDER, {"id": delivery.id}) is not None:
        obstacles.append("earlier_event")
    row = await fetch_one(conn, _HAS_CONTENT, {"id": delivery.id, "ping": PING_TYPE})
    return obstacles if row is not None else [*obstacles, "event_not_in_feed"]


def _to_delivery(row: TupleRow) -> Delivery:
    *columns, thin = row[:-ATTEMPT_COLUMNS]
    last = row[-ATTEMPT_COLUMNS:]
    delivery = Delivery._make((*columns, None if last[0] is None else AttemptSummary(*last)))
    if not thin or delivery.type == PING_TYPE:
        return delivery
    return delivery._replace(event=to_thin_id(delivery.event), type=to_thin_type(delivery.type))


def show_answer(answer: bytes | None) -> dict[str, Any]:
    """The first bytes of an answer as text, and what that hides."""
    if answer is None:
        return {"answer": None, "answer_is_text": None, "answer_is_cut": None}
    is_cut = len(answer) >= RESPONSE_BYTES_MAX
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        # A character that is cut in the middle is left out.
        text, is_text = decoder.decode(answer, final=not is_cut), True
    except UnicodeDecodeError:
        text, is_text = answer.decode(errors="backslashreplace"), False
    return {"answer": text, "answer_is_text": is_text, "answer_is_cut": is_cut}
