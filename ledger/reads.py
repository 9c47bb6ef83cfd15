"""Answers to GET: one object folded from its stream, exact; many from the read models, as new as `pages`
makes them. Both are rendered by one function from one folded aggregate, so they are the same bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.refund import Refund
from ledger.errors import InvalidParameter, UnknownObject
from ledger.objects import Kind, addressed, expanded, named, shown
from ledger.pages import Found, Pages, View, listed
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
EVENTS = View(
    projection="feed",
    noun="event",
    url="/v1/events",
    select="""
SELECT id, livemode, created, type, api_version, request_id, idempotency_key, data, position, ordinal
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
        "undelivered": "AND false",  # no endpoint is owed anything yet
    },
    by_ordinal=True,
    by_day=True,
)


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

    async def retrieve_refund(self, call: Call) -> Found:
        """`GET /v1/refunds/{id}`"""
        return await self._retrieve(call, Refund)

    async def retrieve_event(self, call: Call) -> Found:
        """`GET /v1/events/{id}`, for 30 days from `created` (seed)."""
        row = await self._pages.one(call, EVENTS, call.target)
        if row is None:
            raise UnknownObject("event", call.target)
        return Found(_event(row, call))

    async def list_customers(self, call: Call) -> Found:
        """`GET /v1/customers`"""
        return await self._list(call, CUSTOMERS, Customer)

    async def list_charges(self, call: Call) -> Found:
        """`GET /v1/charges`"""
        if "customer" in call.parameters:
            await named(call, Customer, "customer", call.parameters["customer"], self._store.streams.read)
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
                raise InvalidParameter(
                    f"No such payment_method: '{call.parameters[param]}'",
                    code="resource_missing",
                    param=param,
                )
        url = f"/v1/customers/{state.id}/payment_methods"
        return Found({"object": "list", "data": [], "has_more": False, "url": url})

    async def charge_of(self, call: Call, payment_intent: str) -> str:
        """The id of the newest charge of a payment intent.

        Payment intents are not kept here; one is known when a charge names it. Raises InvalidParameter.
        """
        row = await self._pages.first(call, CHARGES, {"payment_intent": payment_intent})
        if row is None:
            raise InvalidParameter(
                f"No such payment_intent: '{payment_intent}'", code="resource_missing", param="payment_intent"
            )
        return msgspec.json.decode(row[0], type=Charge).id

    async def list_events(self, call: Call) -> Found:
        """`GET /v1/events`, newest first by creation sequence."""
        given = call.parameters
        filters: dict[str, Any] = {name: given[name] for name in ("type", "types") if name in given}
        if filters.get("type", "").endswith("*"):
            pattern = filters.pop("type")
            filters["types"] = [name for name in EVENT_TYPES if matches(pattern, name)]
        if given.get("delivery_success") is False:
            filters["undelivered"] = True
        page = await self._pages.page(call, EVENTS, filters)
        return listed(EVENTS, [_event(row, call) for row in page.rows], page)

    async def _check_what_was_paid(self, call: Call) -> None:
        """The charge and the payment intent that a list is filtered by are there. Raises InvalidParameter."""
        if "charge" in call.parameters:
            await named(call, Charge, "charge", call.parameters["charge"], self._store.streams.read)
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
