"""Queries on cards: as sources of a customer, and as payment methods (contract §2.5).

A customer's cards are part of its state, so the lists of one customer are exact. The id of a card names no
stream: its row in the projection `payment_methods` has the customer or the charge that holds it, and the card
is read from there. A customer that was deleted shows no card; the card of a charge is shown like the charge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeGuard

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource
from ledger.errors import Unavailable, UnknownObject
from ledger.objects import (
    fetch_own,
    get_param,
    is_visible,
    other_mode_hint,
    render_charged_card,
    render_saved_card,
    render_source,
    run_together,
    share_reads,
)
from ledger.queries.context import QueryContext, render
from ledger.queries.customers import get_customer
from ledger.queries.inner_lists import cut_page, make_list_result
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult, render_list

HOLDERS_MAX = 100
"""Among how many of the newest objects on the card of a deleted customer a charge is looked for."""
SOURCE_NOUN, PAYMENT_METHOD_NOUN = "source", "PaymentMethod"

_SAVED_CARDS = ListQuery.of(
    "payment_methods",
    noun=PAYMENT_METHOD_NOUN,
    column="card, customer",
    where="AND saved",
    filters={"no_card": "AND false"},
)
PAYMENT_METHODS = replace(
    _SAVED_CARDS, cursor_select=f"{_SAVED_CARDS.cursor_select} AND customer IS NOT NULL"
)
HOLDERS = ListQuery.of(
    "payment_methods",
    noun=PAYMENT_METHOD_NOUN,
    column="coalesce(customer, id)",
    filters={"card": "AND card = %(card)s"},
    hashed=("card",),
)


async def list_sources(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}/sources`"""
    customer = await get_customer(call, context)
    cards, has_more = cut_page(customer.sources[::-1], call.parameters, noun=SOURCE_NOUN)
    if call.parameters.get("object", "card") != "card":
        cards, has_more = [], False
    fetch, now = share_reads(context.get_expanded), context.now()
    steps = [render_source(card, customer, call.expand, now, fetch) for card in cards]
    url = f"/v1/customers/{customer.id}/sources"
    return make_list_result(await run_together(steps), url, has_more=has_more)


async def retrieve_source(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}/sources/{source}`"""
    customer, card = await _get_card(call, context, SOURCE_NOUN)
    fetch = share_reads(context.get_expanded)
    return QueryResult(await render_source(card, customer, call.expand, context.now(), fetch))


async def list_of_customer(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}/payment_methods`"""
    customer = await get_customer(call, context)
    return await _list_saved_cards(call, context, customer, f"/v1/customers/{customer.id}/payment_methods")


async def retrieve_of_customer(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/customers/{id}/payment_methods/{payment_method}`"""
    customer, card = await _get_card(call, context, PAYMENT_METHOD_NOUN)
    fetch = share_reads(context.get_expanded)
    return QueryResult(await render_saved_card(card, customer, call.expand, context.now(), fetch))


async def list_payment_methods(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/payment_methods`: the saved cards of one customer, or of all."""
    params = call.parameters
    if "customer" in params:
        customer = await get_param(call, Customer, "customer", params["customer"], context.get)
        return await _list_saved_cards(call, context, customer, PAYMENT_METHODS.url)
    filters = {} if _includes_cards(call) else {"no_card": True}
    page = await context.pages.fetch_page(call, PAYMENT_METHODS, filters)
    fetch, now = share_reads(context.get_expanded), context.now()

    async def render_row(card_id: str, customer_id: str) -> dict[str, Any] | None:
        customer = await fetch(customer_id)
        if not isinstance(customer, Customer) or customer.deleted:
            return None
        card = customer.find_source(card_id)
        return card and await render_saved_card(card, customer, call.expand, now, fetch)

    rendered = await run_together([render_row(*row[:2]) for row in page.rows])
    # Without those of a customer that cannot be read, or was deleted since the page was read.
    return render_list(PAYMENT_METHODS, [one for one in rendered if one is not None], page)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/payment_methods/{id}`: a card that a customer has saved or that was charged, or a payment
    method that another service has published."""
    published = await fetch_own(call, call.target, context.get)
    if _is_published_method(published) and is_visible(published, call) and not published.deleted:
        return QueryResult(await render(call, context, published, context.now()))
    holder = await _find_holder(call, context)
    now, fetch = context.now(), share_reads(context.get_expanded)
    charged = _get_charged_card(holder, call.target)
    if charged is not None:
        shown = await render_charged_card(*charged, call.expand, now, fetch)
        if shown is None and (earlier := await _find_charge(call, context)) is not None:
            shown = await render_charged_card(*earlier, call.expand, now, fetch)
        if shown is not None:
            return QueryResult(shown)
    if isinstance(holder, Customer) and not holder.deleted:
        card = holder.find_source(call.target)
        if card is not None:
            return QueryResult(await render_saved_card(card, holder, call.expand, now, fetch))
    other_mode_call = call.replace(cause=call.cause._replace(livemode=not call.livemode))
    other_holder = await _find_holder(other_mode_call, context) if holder is None else None
    hint = "" if other_holder is None else other_mode_hint(call)
    raise UnknownObject(PAYMENT_METHOD_NOUN, call.target, param="payment_method", hint=hint)


def _get_charged_card(holder: State | None, card_id: str) -> tuple[Charge | PaymentIntent, SourceCard] | None:
    """A charge or an intent with its card of this id; None for any other holder or card."""
    if not isinstance(holder, Charge | PaymentIntent):
        return None
    cards = [holder.card] if isinstance(holder, Charge) else [holder.card, holder.failed_card]
    return next(((holder, card) for card in cards if card is not None and card["id"] == card_id), None)


def _is_published_method(state: State | None) -> TypeGuard[Resource]:
    return isinstance(state, Resource) and state.type == "payment_method"


async def _find_holder(call: Call, context: QueryContext) -> Customer | Charge | PaymentIntent | None:
    """The newest object of the caller that holds the card in the call's path: a charge on it, the intent that
    is to charge it, or else the customer who saved it. Raises Unavailable if the projection lacks events, one
    of which may be about the card."""
    newest_call = call.replace(parameters={"limit": 1})
    page = await context.pages.fetch_page(newest_call, HOLDERS, {"card": call.target})
    if not page.rows:
        if page.progress.lag_events:
            raise Unavailable(f"the projection {HOLDERS.projection} is behind the log")
        return None
    holder = await context.get(page.rows[0][0])
    assert isinstance(holder, Customer | Charge | PaymentIntent)
    return holder


async def _find_charge(call: Call, context: QueryContext) -> tuple[Charge, SourceCard] | None:
    """The newest charge on the card in the call's path, with the card; None if it was never charged."""
    rows = await context.pages.fetch_newest(call, HOLDERS, {"card": call.target}, limit=HOLDERS_MAX)
    for state in await run_together([context.get_expanded(row[0]) for row in rows]):
        if isinstance(state, Charge) and state.card is not None:
            return state, state.card
    return None


async def _get_card(call: Call, context: QueryContext, noun: str) -> tuple[Customer, SourceCard]:
    """The customer and the card in the path. Raises UnknownObject."""
    customer = await get_customer(call, context)
    card = customer.find_source(call.part)
    if card is None:
        raise UnknownObject(noun, call.part)
    return customer, card


def _includes_cards(call: Call) -> bool:
    """Whether cards pass the filters of a list of payment methods."""
    params = call.parameters
    return (params.get("type", "card"), params.get("allow_redisplay", "unspecified")) == (
        "card",
        "unspecified",
    )


async def _list_saved_cards(call: Call, context: QueryContext, customer: Customer, url: str) -> QueryResult:
    cards, has_more = cut_page(customer.sources[::-1], call.parameters, noun=PAYMENT_METHOD_NOUN)
    if not _includes_cards(call):
        cards, has_more = [], False
    fetch, now = share_reads(context.get_expanded), context.now()
    steps = [render_saved_card(card, customer, call.expand, now, fetch) for card in cards]
    return make_list_result(await run_together(steps), url, has_more=has_more)
