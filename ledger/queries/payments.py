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
from ledger.objects import (
    Kind,
    expand,
    get_filter,
    get_target,
    other_mode_hint,
    render_object,
    target_newest_dispute,
)
from ledger.queries.pages import ListQuery, Pages, QueryResult, render_list
from ledger.store.store import Store
from ledger.wire import events
from ledger.wire.event_types import EVENT_TYPES, matches

CUSTOMERS = ListQuery(
    projection="customers",
    noun="customer",
    url="/v1/customers",
    select="""
SELECT state, created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND account = %(account)s AND livemode = %(livemode)s AND NOT deleted
""",
    cursor_select="""
SELECT created, position FROM projections.customers
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'customers')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={"email": "AND email = %(email)s"},
)
CHARGES = ListQuery(
    projection="charges",
    noun="charge",
    url="/v1/charges",
    select="""
SELECT state, created, position FROM projections.charges
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'charges')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
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
DISPUTES = ListQuery(
    projection="disputes",
    noun="dispute",
    url="/v1/disputes",
    select="""
SELECT state, created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
SELECT created, position FROM projections.disputes
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'disputes')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "charge": "AND charge = %(charge)s",
        "payment_intent": "AND payment_intent = %(payment_intent)s",
    },
)
REFUNDS = ListQuery(
    projection="refunds",
    noun="refund",
    url="/v1/refunds",
    select="""
SELECT state, created, position FROM projections.refunds
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'refunds')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
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
_FANNED_OUT_POSITION = """
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
EVENTS = ListQuery(
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
    cursor_select="""
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
    partitioned_by_day=True,
    recorded_at_select="""
SELECT extract(epoch FROM recorded_at)::float8 FROM ledger.events
WHERE originator_id = %(id)s AND originator_version = 1
""",
    applied_position=_FANNED_OUT_POSITION,
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


class FeedEvent(NamedTuple):
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


class PaymentQueries:
    """Reads against one store and its read models."""

    def __init__(self, store: Store, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def retrieve_customer(self, call: Call) -> QueryResult:
        """`GET /v1/customers/{id}`; a deleted one is a stub."""
        return await self._retrieve(call, Customer)

    async def retrieve_charge(self, call: Call) -> QueryResult:
        """`GET /v1/charges/{id}`"""
        return await self._retrieve(call, Charge)

    async def retrieve_dispute(self, call: Call) -> QueryResult:
        """`GET /v1/disputes/{id}`"""
        return await self._retrieve(call, Dispute)

    async def retrieve_dispute_of_charge(self, call: Call) -> QueryResult:
        """`GET /v1/charges/{id}/dispute`, its newest."""
        return await self._retrieve(await target_newest_dispute(call, self._store.streams.read), Dispute)

    async def retrieve_refund(self, call: Call) -> QueryResult:
        """`GET /v1/refunds/{id}`"""
        return await self._retrieve(call, Refund)

    async def retrieve_event(self, call: Call) -> QueryResult:
        """`GET /v1/events/{id}`, for 30 days from `created` (contract §4.4)."""
        row = await self._pages.fetch_by_id(call, EVENTS, call.target)
        if row is None:
            other_mode_call = replace(call, cause=call.cause._replace(livemode=not call.livemode))
            other_mode_row = await self._pages.fetch_by_id(other_mode_call, EVENTS, call.target)
            raise UnknownObject(
                "event", call.target, hint="" if other_mode_row is None else other_mode_hint(call)
            )
        return QueryResult(_render_row(row, call))

    async def list_customers(self, call: Call) -> QueryResult:
        """`GET /v1/customers`"""
        return await self._list(call, CUSTOMERS, Customer)

    async def list_charges(self, call: Call) -> QueryResult:
        """`GET /v1/charges`"""
        if "customer" in call.parameters:
            await get_filter(
                call, Customer, "customer", call.parameters["customer"], self._store.streams.read
            )
        return await self._list(call, CHARGES, Charge)

    async def list_disputes(self, call: Call) -> QueryResult:
        """`GET /v1/disputes`"""
        await self._check_payment_filters(call)
        return await self._list(call, DISPUTES, Dispute)

    async def list_refunds(self, call: Call) -> QueryResult:
        """`GET /v1/refunds`"""
        await self._check_payment_filters(call)
        return await self._list(call, REFUNDS, Refund)

    async def list_refunds_of_charge(self, call: Call) -> QueryResult:
        """`GET /v1/charges/{id}/refunds`"""
        state = await get_target(call, Charge, self._store.streams.read)
        charge_call = replace(call, parameters={**call.parameters, "charge": state.id})
        return await self._list(charge_call, REFUNDS, Refund, url=f"/v1/charges/{state.id}/refunds")

    async def list_payment_methods(self, call: Call) -> QueryResult:
        """`GET /v1/customers/{id}/payment_methods`: none are kept here, so a cursor is unknown."""
        state = await get_target(call, Customer, self._store.streams.read)
        if state.deleted:
            raise UnknownObject("customer", state.id)
        for param in ("starting_after", "ending_before"):
            if param in call.parameters:
                raise UnknownReference("payment_method", call.parameters[param], param=param)
        url = f"/v1/customers/{state.id}/payment_methods"
        return QueryResult({"object": "list", "data": [], "has_more": False, "url": url})

    async def find_charge_id(self, call: Call, payment_intent: str) -> str:
        """The id of the newest charge of a payment intent.

        Payment intents are not kept here; one is known when a charge names it. Raises UnknownReference.
        """
        row = await self._pages.fetch_newest(call, CHARGES, {"payment_intent": payment_intent})
        if row is None:
            raise UnknownReference("payment_intent", payment_intent, param="payment_intent")
        return msgspec.json.decode(row[0], type=Charge).id

    async def list_events(self, call: Call) -> QueryResult:
        """`GET /v1/events`, newest first by creation sequence."""
        params = call.parameters
        filters: dict[str, Any] = {name: params[name] for name in ("type", "types") if name in params}
        if filters.get("type", "").endswith("*"):
            pattern = filters.pop("type")
            filters["types"] = [name for name in EVENT_TYPES if matches(pattern, name)]
        success = params.get("delivery_success")
        if success:
            filters["delivered"] = True
        page = await self._pages.fetch_page(call, UNDELIVERED_EVENTS if success is False else EVENTS, filters)
        return render_list(EVENTS, [_render_row(row, call) for row in page.rows], page)

    async def _check_payment_filters(self, call: Call) -> None:
        """The charge and the payment intent that a list is filtered by are there. Raises UnknownReference."""
        if "charge" in call.parameters:
            await get_filter(call, Charge, "charge", call.parameters["charge"], self._store.streams.read)
        if "payment_intent" in call.parameters:
            await self.find_charge_id(call, call.parameters["payment_intent"])

    async def _retrieve(self, call: Call, kind: type[Kind]) -> QueryResult:
        fetch = self._store.streams.read
        state = await get_target(call, kind, fetch)
        now = int(self._store.clock.now())
        rendered = render_object(state, now)
        if call.expand:
            await expand(state, rendered, call.expand, now, fetch)
        return QueryResult(rendered)

    async def _list(
        self, call: Call, list_query: ListQuery, kind: type[Kind], *, url: str | None = None
    ) -> QueryResult:
        """`url` is told in place of the view's: the list may be a part of it."""
        page = await self._pages.fetch_page(call, list_query)
        now = int(self._store.clock.now())
        data = []
        for row in page.rows:
            state = msgspec.json.decode(row[0], type=kind)
            rendered = render_object(state, now)
            if call.expand:
                await expand(state, rendered, call.expand, now, self._store.streams.read)
            data.append(rendered)
        return render_list(list_query if url is None else replace(list_query, url=url), data, page)


def render_event(event: FeedEvent, *, account: str | None, api_version: str | None = None) -> dict[str, Any]:
    """An Event as the API and webhooks show it. `account` is told only to a platform; `api_version`, if one
    is given, is the reader's."""
    return events.render_event(
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


def _render_row(row: TupleRow, call: Call) -> dict[str, Any]:
    *columns, _, _ = row
    return render_event(FeedEvent(*columns), account=call.account if call.as_platform else None)
