"""Answers to GET: one object folded from its stream, exact; many from the read models.

A list waits, bounded, until its projection has applied everything that was in the log when the request
came, so a client sees its own writes. A projection that is stuck never blocks: after the bound the answer
is what is there, and says how far behind it is. Pages are by key, so depth costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ledger.call import Call
from ledger.database import first_line
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.errors import InvalidParameter, Unavailable, UnknownObject
from ledger.ids import id_time
from ledger.objects import Kind, addressed, expanded, named, shown
from ledger.store.store import Store
from ledger.wire import render
from ledger.wire.event_types import EVENT_TYPES, matches

DAY_SECONDS = 86_400
EVENT_LIFE_SECONDS = 30 * DAY_SECONDS
END_OF_TIME = 2**62
LIST_POLL_SECONDS = 0.003
LIST_POLL_SECONDS_MAX = 0.05

# One statement, one snapshot: what the checkpoint tells to be applied is in the page.
_STANDING = """
SELECT standing.*, page.* FROM (
    SELECT h.position AS head, c.position AS checkpoint,
           EXISTS (SELECT FROM projections.parked p
                   WHERE p.projection = c.projection AND p.generation = c.generation) AS incomplete
    FROM ledger.head h, projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    WHERE l.projection = %(projection)s
) AS standing LEFT JOIN (
"""
_OF_PAGE = ") AS page ON true\n"
_PROGRESS = """
SELECT c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = %(projection)s
"""

_CUSTOMERS = """
SELECT state, created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND account = %(account)s AND livemode = %(livemode)s AND NOT deleted
"""
_CHARGES = """
SELECT state, created, position FROM projections.charges
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'charges')
AND account = %(account)s AND livemode = %(livemode)s
"""
_DISPUTES = """
SELECT state, created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND account = %(account)s AND livemode = %(livemode)s
"""
_EVENTS = """
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data, position, ordinal
FROM projections.feed
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND account = %(account)s AND livemode = %(livemode)s AND created > %(since)s AND created <= %(until)s
"""
_EVENT = _EVENTS + "AND id = %(id)s"

# Where an id stands in its collection, for a cursor.
_PLACES = {
    "customers": """
SELECT created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    "charges": """
SELECT created, position FROM projections.charges
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'charges')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    "disputes": """
SELECT created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    "feed": """
SELECT created, position, ordinal FROM projections.feed
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
AND created > %(since)s AND created <= %(until)s
""",
}

_FILTERS = {
    "email": "AND email = %(email)s",
    "customer": "AND customer = %(customer)s",
    "charge": "AND charge = %(charge)s",
    "payment_intent": "AND payment_intent = %(payment_intent)s",
    "transfer_group": "AND transfer_group = %(transfer_group)s",
    "type": "AND type = %(type)s",
    "types": "AND type = ANY(%(types)s)",
    "undelivered": "AND false",  # no endpoint is owed anything yet
    "eq": "AND created = %(eq)s",
    "gt": "AND created > %(gt)s",
    "gte": "AND created >= %(gte)s",
    "lt": "AND created < %(lt)s",
    "lte": "AND created <= %(lte)s",
}
_KEYS = {True: "(created, position, ordinal)", False: "(created, position)"}
_CURSORS = {True: "(%(created)s, %(position)s, %(ordinal)s)", False: "(%(created)s, %(position)s)"}
_ORDERS = {
    (True, False): "ORDER BY created DESC, position DESC, ordinal DESC",
    (True, True): "ORDER BY created, position, ordinal",
    (False, False): "ORDER BY created DESC, position DESC",
    (False, True): "ORDER BY created, position",
}


class Standing(NamedTuple):
    """Where a projection stood against the log when a list was read; `behind` after waiting for it."""

    head: int
    checkpoint: int
    incomplete: bool
    behind: int = 0


class Found(NamedTuple):
    """An answer. For a list, `behind` is how many events its projection had not applied when the wait was
    over, and `incomplete` whether it leaves streams out."""

    body: Mapping[str, Any]
    behind: int = 0
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    projection: str
    noun: str
    url: str
    select: str
    by_ordinal: bool = False


_CUSTOMER_VIEW = _View("customers", "customer", "/v1/customers", _CUSTOMERS)
_CHARGE_VIEW = _View("charges", "charge", "/v1/charges", _CHARGES)
_DISPUTE_VIEW = _View("disputes", "dispute", "/v1/disputes", _DISPUTES)
_EVENT_VIEW = _View("feed", "event", "/v1/events", _EVENTS, by_ordinal=True)


class Reads:
    """Reads against one store. `wait_ms` bounds how long a list waits for its projection."""

    def __init__(
        self, store: Store, pool: AsyncConnectionPool[AsyncConnection[TupleRow]], *, wait_ms: int
    ) -> None:
        self._store = store
        self._pool = pool
        self._wait_seconds = wait_ms / 1000

    async def retrieve_customer(self, call: Call) -> Found:
        """`GET /v1/customers/{id}`; a deleted one is a stub."""
        return await self._retrieve(call, Customer)

    async def retrieve_charge(self, call: Call) -> Found:
        """`GET /v1/charges/{id}`"""
        return await self._retrieve(call, Charge)

    async def retrieve_dispute(self, call: Call) -> Found:
        """`GET /v1/disputes/{id}`"""
        return await self._retrieve(call, Dispute)

    async def retrieve_event(self, call: Call) -> Found:
        """`GET /v1/events/{id}`, for 30 days from `created` (seed)."""
        parameters = self._near(self._scope(call), call.target) | {"id": call.target}
        _, rows = await self._page(_EVENT_VIEW, _STANDING + _EVENT + _OF_PAGE, parameters)
        if not rows:
            raise UnknownObject("event", call.target)
        return Found(_event(rows[0], call))

    async def list_customers(self, call: Call) -> Found:
        """`GET /v1/customers`"""
        return await self._list(call, _CUSTOMER_VIEW, Customer)

    async def list_charges(self, call: Call) -> Found:
        """`GET /v1/charges`"""
        if "customer" in call.parameters:
            await named(call, Customer, "customer", call.parameters["customer"], self._store.streams.read)
        return await self._list(call, _CHARGE_VIEW, Charge)

    async def list_disputes(self, call: Call) -> Found:
        """`GET /v1/disputes`"""
        if "charge" in call.parameters:
            await named(call, Charge, "charge", call.parameters["charge"], self._store.streams.read)
        if "payment_intent" in call.parameters:
            await self._check_payment_intent(call, call.parameters["payment_intent"])
        return await self._list(call, _DISPUTE_VIEW, Dispute)

    async def list_events(self, call: Call) -> Found:
        """`GET /v1/events`, newest first by creation sequence."""
        given = call.parameters
        filters: dict[str, Any] = {name: given[name] for name in ("type", "types") if name in given}
        if filters.get("type", "").endswith("*"):
            pattern = filters.pop("type")
            filters["types"] = [name for name in EVENT_TYPES if matches(pattern, name)]
        if given.get("delivery_success") is False:
            filters["undelivered"] = True
        standing, rows, has_more = await self._rows(call, _EVENT_VIEW, filters)
        return _listed(_EVENT_VIEW, [_event(row, call) for row in rows], has_more, standing)

    async def _check_payment_intent(self, call: Call, payment_intent: str) -> None:
        """Payment intents are not kept here; one is known when a charge names it."""
        query = _page_query(_CHARGE_VIEW, ("payment_intent",), None)
        parameters = self._scope(call) | {"payment_intent": payment_intent, "limit": 1}
        _, rows = await self._page(_CHARGE_VIEW, query, parameters)
        if not rows:
            raise InvalidParameter(
                f"No such payment_intent: '{payment_intent}'", code="resource_missing", param="payment_intent"
            )

    async def _retrieve(self, call: Call, kind: type[Kind]) -> Found:
        fetch = self._store.streams.read
        state = await addressed(call, kind, fetch)
        now = int(self._store.clock.now())
        answer = shown(state, now)
        if call.expand:
            await expanded(state, answer, call.expand, now, fetch)
        return Found(answer)

    async def _list(self, call: Call, view: _View, kind: type[Kind]) -> Found:
        filters = {
            name: call.parameters[name]
            for name in ("email", "customer", "charge", "payment_intent", "transfer_group")
            if name in call.parameters
        }
        standing, rows, has_more = await self._rows(call, view, filters)
        now = int(self._store.clock.now())
        data = []
        for row in rows:
            state = msgspec.json.decode(row[0], type=kind)
            answer = shown(state, now)
            if call.expand:
                await expanded(state, answer, call.expand, now, self._store.streams.read)
            data.append(answer)
        return _listed(view, data, has_more, standing)

    async def _rows(
        self, call: Call, view: _View, filters: dict[str, Any]
    ) -> tuple[Standing, list[TupleRow], bool]:
        """The page's rows, newest first, and whether there are more in the direction travelled."""
        given = call.parameters
        filters = filters | given.get("created", {})
        after, before = given.get("starting_after"), given.get("ending_before")
        parameters = self._scope(call) | filters | {"limit": given["limit"] + 1}
        place = None
        for param, cursor in (("starting_after", after), ("ending_before", before)):
            if cursor is not None:
                place = await self._place(view, param, parameters | {"cursor": cursor})
        if after is not None and before is not None:
            raise InvalidParameter(
                "Received both starting_after and ending_before parameters. Please pass in only one."
            )
        if place is not None:
            parameters |= dict(zip(("created", "position", "ordinal"), place, strict=False))
        older = None if place is None else before is None
        query = _page_query(view, tuple(filters), older)
        rows: list[TupleRow] = []
        if view is _EVENT_VIEW:
            standing, rows = await self._page(view, query, self._around(parameters, place, older))
        if len(rows) <= given["limit"]:
            standing, rows = await self._page(view, query, parameters)
        has_more = len(rows) > given["limit"]
        rows = rows[: given["limit"]]
        return standing, rows if before is None else rows[::-1], has_more

    def _scope(self, call: Call) -> dict[str, Any]:
        """Whose objects, and for Events between which times, in unix seconds."""
        since = int(self._store.clock.now()) - EVENT_LIFE_SECONDS
        return {"account": call.account, "livemode": call.livemode, "since": since, "until": END_OF_TIME}

    def _near(self, parameters: Mapping[str, Any], event_id: str) -> dict[str, Any]:
        """`parameters` for the moment that an event's id carries: one or two partitions in place of all."""
        made = int(id_time(event_id) or 0)
        return {**parameters, "since": max(parameters["since"], made - 2), "until": made + 1}

    def _around(
        self, parameters: dict[str, Any], place: TupleRow | None, older: bool | None
    ) -> dict[str, Any]:
        """`parameters` for the day where a page of Events most likely lies whole, in one partition or two."""
        start = int(self._store.clock.now()) if place is None else place[0]
        if older is False:
            return {**parameters, "until": start + DAY_SECONDS}
        until = END_OF_TIME if place is None else start
        return {**parameters, "since": max(parameters["since"], start - DAY_SECONDS), "until": until}

    async def _place(self, view: _View, param: str, parameters: Mapping[str, Any]) -> TupleRow:
        near = self._near(parameters, parameters["cursor"])
        _, rows = await self._page(view, _STANDING + _PLACES[view.projection] + _OF_PAGE, near)
        if not rows:
            raise InvalidParameter(
                f"No such {view.noun}: '{parameters['cursor']}'", code="resource_missing", param=param
            )
        return rows[0]

    async def _page(
        self, view: _View, query: str, parameters: Mapping[str, Any]
    ) -> tuple[Standing, list[TupleRow]]:
        """The projection's standing, and rows at least as new as that tells."""
        parameters = {**parameters, "projection": view.projection}
        try:
            standing, rows = await self._look(query, parameters)
            behind = 0
            if standing.checkpoint < standing.head:
                behind = await self._caught_up(view, standing.head)
                standing, rows = await self._look(query, parameters)
            return standing._replace(behind=behind), rows
        except psycopg.OperationalError as error:
            raise Unavailable(first_line(error)) from error

    async def _look(self, query: str, parameters: Mapping[str, Any]) -> tuple[Standing, list[TupleRow]]:
        try:
            rows = await self._fetch(query, parameters)
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            # After a restart of the database every pooled connection is dead, each one a failed list.
            await self._pool.check()
            rows = await self._fetch(query, parameters)
        if not rows:
            raise Unavailable(f"the projection {parameters['projection']} is not built yet")
        page = [row[3:] for row in rows]
        return Standing(*rows[0][:3]), page if page[0][0] is not None else []

    async def _fetch(self, query: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
        async with self._pool.connection() as conn:
            return await (await conn.cursor(binary=True).execute(query.encode(), parameters)).fetchall()

    async def _caught_up(self, view: _View, head: int) -> int:
        """Wait until the projection has applied the log up to `head`, at most `wait_seconds`; what it then
        lacks of it, in events. Holds no connection between looks: with eight of these waiting for a stuck
        projection the pool would be empty, for all that reads."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_seconds
        pause = LIST_POLL_SECONDS
        while True:
            async with self._pool.connection() as conn:
                row = await (await conn.execute(_PROGRESS, {"projection": view.projection})).fetchone()
            behind = head - (row[0] if row is not None else 0)
            if behind <= 0 or loop.time() >= deadline:
                return max(behind, 0)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LIST_POLL_SECONDS_MAX)


@lru_cache(maxsize=1024)
def _page_query(view: _View, filters: Sequence[str], older: bool | None) -> str:
    """The view's SELECT with the texts of the filters given, the cursor's side, and the order."""
    parts = [_STANDING, view.select, *(_FILTERS[name] for name in filters)]
    if older is not None:
        side = "<" if older else ">"
        parts.append(f"AND {_KEYS[view.by_ordinal]} {side} {_CURSORS[view.by_ordinal]}")
    order = _ORDERS[view.by_ordinal, older is False]
    return "\n".join([*parts, order, "LIMIT %(limit)s", _OF_PAGE, order])


def _listed(view: _View, data: list[Any], has_more: bool, standing: Standing) -> Found:
    body = {"object": "list", "data": data, "has_more": has_more, "url": view.url}
    return Found(body, standing.behind, standing.incomplete)


def _event(row: TupleRow, call: Call) -> dict[str, Any]:
    event_id, livemode, created, kind, api_version, request_id, key, data, *_ = row
    return render.event(
        event_id=event_id,
        event_type=kind,
        created=created,
        livemode=livemode,
        api_version=api_version,
        data=msgspec.Raw(data.encode()),
        request_id=request_id,
        idempotency_key=key,
        pending_webhooks=0,
        account=call.account if call.as_platform else None,
    )
