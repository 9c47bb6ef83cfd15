"""Queries on balance transactions (contract §2.8).

Retrieve finds the event that made the transaction by an index on the log, so it is exact; list reads the
projection. Both have the same data, so a transaction has the same bytes when it is retrieved, listed, and
shown inside its object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.money import BalanceTransaction
from ledger.domain.postings import get_balance_transaction
from ledger.domain.resource import Resource
from ledger.errors import UnknownObject, UnknownReference
from ledger.objects import (
    Fetch,
    fetch_own,
    is_visible,
    mode_hint,
    render_balance_transaction,
    run_together,
    share_reads,
)
from ledger.queries.context import QueryContext
from ledger.queries.list_query import ListQuery
from ledger.queries.pages import QueryResult, render_list
from ledger.store.codec import fold
from ledger.store.log import read_history_of_transaction
from ledger.wire.files import add_urls

BALANCE_TRANSACTIONS = ListQuery.of(
    "balance_transactions",
    noun="balance transaction",
    column="fact",
    filters={
        "currency": "AND currency = %(currency)s",
        "payout": "AND false",  # no transaction is part of a payout
        "source": "AND source = %(source)s",
        "type": "AND type = %(type)s",
    },
    hashed=("currency", "source", "type"),
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/balance_transactions/{id}`"""
    state, transaction = await _find_transaction(context, call.target)
    if state is None or transaction is None or not is_visible(state, call):
        hint = "" if state is None else mode_hint(state, type(state), call)
        raise UnknownObject("balance transaction", call.target, param="id", hint=hint)
    fetch = share_reads(context.get_expanded)
    return QueryResult(await _render(call, context, transaction, context.now(), fetch))


async def list_balance_transactions(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/balance_transactions`"""
    await _check_payout(call, context)
    page = await context.pages.fetch_page(call, BALANCE_TRANSACTIONS)
    now = context.now()
    fetch = share_reads(context.get_expanded)
    transactions = await _read_facts(context, page.rows)
    steps = [_render(call, context, transaction, now, fetch) for transaction in transactions]
    data = await run_together(steps) if call.expand else [await step for step in steps]
    return render_list(BALANCE_TRANSACTIONS, data, page)


async def _read_facts(context: QueryContext, rows: Sequence[TupleRow]) -> list[BalanceTransaction]:
    """The transactions of rows that begin with `fact` and `id`. One whose subject has been erased is read
    from the log while its row still has it as it was."""
    transactions: list[BalanceTransaction] = []
    for row, document in zip(rows, await context.open_documents([row[0] for row in rows]), strict=True):
        if document is None:
            _, transaction = await _find_transaction(context, row[1])
            assert transaction is not None
        else:
            transaction = msgspec.json.decode(document)
        transactions.append(transaction)
    return transactions


async def _check_payout(call: Call, context: QueryContext) -> None:
    """Check that the payout by which the list is filtered exists: that a service has published it. Raises
    UnknownReference."""
    payout_id = call.parameters.get("payout")
    if payout_id is None:
        return
    payout = await fetch_own(call, payout_id, context.get)
    if not isinstance(payout, Resource) or payout.type != "payout" or not is_visible(payout, call):
        hint = mode_hint(payout, Resource, call)
        raise UnknownReference("payout", payout_id, param="payout", hint=hint)


async def _render(
    call: Call, context: QueryContext, transaction: BalanceTransaction, now: int, fetch: Fetch
) -> dict[str, Any]:
    rendered = await render_balance_transaction(transaction, call.expand, now, fetch)
    add_urls(rendered, call.base_url, context.link_urls.derive_digits)
    return rendered


async def _find_transaction(
    context: QueryContext, transaction_id: str
) -> tuple[Charge | Dispute | None, BalanceTransaction | None]:
    """The transaction, and its object as of the event that made it. Raises Unavailable."""
    events = await context.pool.run_idempotent(
        lambda conn: read_history_of_transaction(conn, context.store.codec, transaction_id)
    )
    state = fold(item.event for item in events)
    if not isinstance(state, Charge | Dispute):
        return None, None
    return state, get_balance_transaction(events[-1].event, state)
