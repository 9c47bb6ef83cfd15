"""Queries on payment intents (contract §2.12): the ledger's own, and those that other services publish."""

from __future__ import annotations

from typing import Any, TypeGuard

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource
from ledger.objects import Fetch, fetch_own, get_filter, get_target, is_visible, run_together, share_reads
from ledger.queries.context import QueryContext, render
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult, render_list

PAYMENT_INTENTS = ListQuery.of(
    "payment_intents",
    noun="payment_intent",
    filters={"customer": "AND customer = %(customer)s"},
    further_columns=("published",),
    where="AND NOT deleted",
)
_OBJECT_TYPE = "payment_intent"


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/payment_intents/{id}`; a published intent is answered as it was published."""
    state = await fetch_own(call, call.target, context.get)
    if not _is_published(state) or not is_visible(state, call):

        async def fetch(stream: str) -> State | None:
            return state

        state = await get_target(call, PaymentIntent, fetch)
    return QueryResult(await _render(call, context, state, context.now()))


async def list_payment_intents(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/payment_intents`"""
    if "customer" in call.parameters:
        await get_filter(call, Customer, "customer", call.parameters["customer"], context.get)
    page = await context.pages.fetch_page(call, PAYMENT_INTENTS)
    now = context.now()
    states = await context.read_states(page.rows, _get_kind)
    fetch = share_reads(context.get_expanded)
    steps = [_render(call, context, state, now, fetch) for state in states]
    data = await run_together(steps) if call.expand else [await step for step in steps]
    return render_list(PAYMENT_INTENTS, data, page)


def _get_kind(row: TupleRow) -> type[State]:
    return Resource if row[2] else PaymentIntent


def _is_published(state: State | None) -> TypeGuard[Resource]:
    return isinstance(state, Resource) and state.type == _OBJECT_TYPE and not state.deleted


async def _render(
    call: Call, context: QueryContext, state: State, now: int, fetch: Fetch | None = None
) -> dict[str, Any]:
    """The intent, one of the ledger's own with its client secret. `fetch` as in `render`."""
    rendered = await render(call, context, state, now, fetch)
    if isinstance(state, PaymentIntent):
        rendered["client_secret"] = context.derive_intent_secret(state.id)
    return rendered
