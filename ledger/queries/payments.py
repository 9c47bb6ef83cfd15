"""Answers to GET: one object folded from its stream, exact; many from the read models, as new as `pages`
makes them. Both are rendered by one function from one folded aggregate, so they are the same bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.refund import Refund
from ledger.errors import UnknownObject, UnknownReference
from ledger.objects import Kind, addressed, expanded, newest_dispute, other_mode, shown, sought
from ledger.queries.pages import Found, Pages, View, listed
from ledger.store.store import Store
from ledger.wire import render
from ledger.wire.event_types import EVENT_TYPES, matches

CUSTOMERS = View(
    projection="customers",
    noun="customer",
    url="/v1/customers",
    select="""
SELECT state, created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND account = %(account)s AND livemode = %(livemode)s AND NOT deleted
""",
    place="""
SELECT created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={"email": "AND email = %(email)s"},
)
CHARGES = View(
    projection="charges",
    noun="charge",
    url="/v1/charges",
    select="""
SELECT state, created, position FROM projections.charges
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'charges')
AND account = %(account)s AND livemode = %(livemode)s
""",
    place="""
SELECT created, position FROM projections.charges
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'charges')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "customer": "AND customer = %(customer)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
        "transfer_group": "AND transfer_group = %(transfer_group)s",
    },
)
DISPUTES = View(
    projection="disputes",
    noun="dispute",
    url="/v1/disputes",
    select="""
SELECT state, created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND account = %(account)s AND livemode = %(livemode)s
""",
    place="""
SELECT created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "charge": "AND charge = %(charge)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
    },
)
REFUNDS = View(
    projection="refunds",
    noun="refund",
    url="/v1/refunds",
    select="""
SELECT state, created, position FROM projections.refunds
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'refunds')
AND account = %(account)s AND livemode = %(livemode)s
""",
    place="""
SELECT created, position FROM projections.refunds
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'refunds')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "charge": "AND charge = %(charge)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
    },
)
# Who has, or had, endpoints waits until what is owed to them is known of every event, too. Others are owed
# nothing; that they have none is known as far as the list of endpoints is made.
_FANNED_OUT = """
least(c.position, (
    SELECT CASE WHEN EXISTS (
        SELECT FROM projections.webhook_endpoints w
        WHERE w.generation = e.generation AND w.livemode = %(livemode)s AND w.account = ANY (ARRAY[
            %(account)s, (SELECT a.platform FROM ledger.accounts a WHERE a.id = %(account)s)])
    ) THEN k.position ELSE e.position END
    FROM webhooks.checkpoint k, projections.live le
    JOIN projections.checkpoints e ON e.projection = le.projection AND e.generation = le.generation
    WHERE le.projection = 'webhook_endpoints'))
"""
EVENTS = View(
    projection="feed",
    noun="event",
    url="/v1/events",
    select="""
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data,
       (SELECT count(*) FROM webhooks.deliveries d
        WHERE d.event = feed.id AND d.state IN ('pending', 'failed')) AS pending_webhooks,
       position, ordinal
FROM projections.feed
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND account = %(account)s AND livemode = %(livemode)s AND created > %(since)s AND created <= %(until)s
""",
    place="""
SELECT created, position, ordinal FROM projections.feed
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
AND created > %(since)s AND created <= %(until)s
""",
    filters={
        "id": "AND id = %(id)s",
        "type": "AND type = %(type)s",
        "types": "AND type = ANY(%(types)s)",
        "delivered": """
AND NOT EXISTS (SELECT FROM webhooks.deliveries d
                WHERE d.event = feed.id AND d.state IN ('pending', 'failed'))
""",
    },
    by_ordinal=True,
    by_day=True,
    told="""
SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.events
WHERE originator_id = %(id)s AND originator_version = 1
""",
    reached=_FANNED_OUT,
)
# By way of what is owed, of which there is little: through the feed it could be a long search for the next.
# An Event owed to several endpoints is there once.
UNDELIVERED_EVENTS = replace(
    EVENTS,
    select="""
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data, pending_webhooks,
       position, ordinal
FROM (
    SELECT d.event AS id, d.livemode, d.created, d.type, f.api_version, f.request_id, f.idempotency_key,
           f.data, (SELECT count(*) FROM webhooks.deliveries o
                    WHERE o.event = d.event AND o.state IN ('pending', 'failed')) AS pending_webhooks,
           d.position, d.ordinal
    FROM webhooks.deliveries d
    JOIN projections.feed f
        ON f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
        AND f.id = d.event AND f.created = d.created
    WHERE d.account = %(account)s AND d.livemode = %(livemode)s AND d.state IN ('pending', 'failed')
    AND d.created > %(since)s AND d.created <= %(until)s
    AND NOT EXISTS (SELECT FROM webhooks.deliveries o
                    WHERE o.event = d.event AND o.state IN ('pending', 'failed') AND o.endpoint < d.endpoint)
) AS undelivered WHERE true
""",
)


class PublishedEvent(NamedTuple):
    """A row of the feed, as it is shown. `data` is JSON; `pending_webhooks` as of the reading."""

    id: str
    livemode: bool
    created: int
    type: str
    api_version: str
    request_id: str | None
    idempotency_key: str | None
    data: str
    pending_webhooks: int


class Reads:
    """Reads against one store and its read models."""

    def __init__(self, store: Store, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def retrieve_customer(self, call: Call) -> Found:
        """`GET /v1/customers/{id}`; a deleted one is a stub."""
        return await self._retrieve(call, Customer)

    async def retrieve_charge(self, call: Call) -> Found:
        """`GET /v1/charges/{id}`"""
        return await self._retrieve(call, Charge)

    async def retrieve_dispute(self, call: Call) -> Found:
        """`GET /v1/disputes/{id}`"""
        return await self._retrieve(call, Dispute)

    async def retrieve_dispute_of_charge(self, call: Call) -> Found:
        """`GET /v1/charges/{id}/dispute`, its newest."""
        return await self._retrieve(await newest_dispute(call, self._store.streams.read), Dispute)

    async def retrieve_refund(self, call: Call) -> Found:
        """`GET /v1/refunds/{id}`"""
        return await self._retrieve(call, Refund)

    async def retrieve_event(self, call: Call) -> Found:
        """`GET /v1/events/{id}`, for 30 days from `created` (seed)."""
        row = await self._pages.one(call, EVENTS, call.target)
        if row is None:
            other = replace(call, livemode=not call.livemode)
            there = await self._pages.one(other, EVENTS, call.target)
            raise UnknownObject("event", call.target, hint="" if there is None else other_mode(call))
        return Found(_event(row, call))

    async def list_customers(self, call: Call) -> Found:
        """`GET /v1/customers`"""
        return await self._list(call, CUSTOMERS, Customer)

    async def list_charges(self, call: Call) -> Found:
        """`GET /v1/charges`"""
        if "customer" in call.parameters:
            await sought(call, Customer, "customer", call.parameters["customer"], self._store.streams.read)
        return await self._list(call, CHARGES, Charge)

    async def list_disputes(self, call: Call) -> Found:
        """`GET /v1/disputes`"""
        await self._check_what_was_paid(call)
        return await self._list(call, DISPUTES, Dispute)

    async def list_refunds(self, call: Call) -> Found:
        """`GET /v1/refunds`"""
        await self._check_what_was_paid(call)
        return await self._list(call, REFUNDS, Refund)

    async def list_refunds_of_charge(self, call: Call) -> Found:
        """`GET /v1/charges/{id}/refunds`"""
        state = await addressed(call, Charge, self._store.streams.read)
        of_charge = replace(call, parameters={**call.parameters, "charge": state.id})
        return await self._list(of_charge, REFUNDS, Refund, url=f"/v1/charges/{state.id}/refunds")

    async def list_payment_methods(self, call: Call) -> Found:
        """`GET /v1/customers/{id}/payment_methods`: none are kept here, so a cursor is unknown."""
        state = await addressed(call, Customer, self._store.streams.read)
        if state.deleted:
            raise UnknownObject("customer", state.id)
        for param in ("starting_after", "ending_before"):
            if param in call.parameters:
                raise UnknownReference("payment_method", call.parameters[param], param=param)
        url = f"/v1/customers/{state.id}/payment_methods"
        return Found({"object": "list", "data": [], "has_more": False, "url": url})

    async def charge_of(self, call: Call, payment_intent: str) -> str:
        """The id of the newest charge of a payment intent.

        Payment intents are not kept here; one is known when a charge names it. Raises UnknownReference.
        """
        row = await self._pages.first(call, CHARGES, {"payment_intent": payment_intent})
        if row is None:
            raise UnknownReference("payment_intent", payment_intent, param="payment_intent")
        return msgspec.json.decode(row[0], type=Charge).id

    async def list_events(self, call: Call) -> Found:
        """`GET /v1/events`, newest first by creation sequence."""
        given = call.parameters
        filters: dict[str, Any] = {name: given[name] for name in ("type", "types") if name in given}
        if filters.get("type", "").endswith("*"):
            pattern = filters.pop("type")
            filters["types"] = [name for name in EVENT_TYPES if matches(pattern, name)]
        success = given.get("delivery_success")
        if success:
            filters["delivered"] = True
        page = await self._pages.page(call, UNDELIVERED_EVENTS if success is False else EVENTS, filters)
        return listed(EVENTS, [_event(row, call) for row in page.rows], page)

    async def _check_what_was_paid(self, call: Call) -> None:
        """The charge and the payment intent that a list is filtered by are there. Raises UnknownReference."""
        if "charge" in call.parameters:
            await sought(call, Charge, "charge", call.parameters["charge"], self._store.streams.read)
        if "payment_intent" in call.parameters:
            await self.charge_of(call, call.parameters["payment_intent"])

    async def _retrieve(self, call: Call, kind: type[Kind]) -> Found:
        fetch = self._store.streams.read
        state = await addressed(call, kind, fetch)
        now = int(self._store.clock.now())
        answer = shown(state, now)
        if call.expand:
            await expanded(state, answer, call.expand, now, fetch)
        return Found(answer)

    async def _list(self, call: Call, view: View, kind: type[Kind], *, url: str | None = None) -> Found:
        """`url` is told in place of the view's: the list may be a part of it."""
        page = await self._pages.page(call, view)
        now = int(self._store.clock.now())
        data = []
        for row in page.rows:
            state = msgspec.json.decode(row[0], type=kind)
            answer = shown(state, now)
            if call.expand:
                await expanded(state, answer, call.expand, now, self._store.streams.read)
            data.append(answer)
        return listed(view if url is None else replace(view, url=url), data, page)


def event_of(event: PublishedEvent, *, account: str | None, api_version: str | None = None) -> dict[str, Any]:
    """An Event as the API and webhooks show it. `account` is told only to a platform; `api_version`, if one
    is given, is the reader's."""
    return render.event(
        event_id=event.id,
        event_type=event.type,
        created=event.created,
        livemode=event.livemode,
        api_version=api_version or event.api_version,
        data=msgspec.Raw(event.data.encode()),
        request_id=event.request_id,
        idempotency_key=event.idempotency_key,
        pending_webhooks=event.pending_webhooks,
        account=account,
    )


def _event(row: TupleRow, call: Call) -> dict[str, Any]:
    *shown, _, _ = row
    return event_of(PublishedEvent(*shown), account=call.account if call.as_platform else None)
