"""Balance transactions as callers see them (contract §2.8): read only.

One is found by an index over the log and derived from its object's events up to the one that made it, so
it is exact as soon as that is recorded, whatever the projections do; many come from their read model. Both
hold the same fact, so retrieved, listed and inside its object a transaction is the same bytes.
"""

from __future__ import annotations

import msgspec
import psycopg
from psycopg_pool import PoolTimeout

from ledger.call import Call
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.money import BalanceTransaction
from ledger.domain.postings import get_balance_transaction
from ledger.errors import Unavailable, UnknownObject
from ledger.objects import is_visible, mode_hint, render_balance_transaction
from ledger.postgres.connections import Pool, first_line
from ledger.queries.pages import ListQuery, Pages, QueryResult, render_list
from ledger.store.codec import fold
from ledger.store.log import read_history_of_transaction
from ledger.store.store import Store

BALANCE_TRANSACTIONS = ListQuery(
    projection="balance_transactions",
    noun="balance transaction",
    url="/v1/balance_transactions",
    select="""
SELECT fact, created, position FROM projections.balance_transactions
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'balance_transactions')
AND account = %(account)s AND livemode = %(livemode)s
""",
    cursor_select="""
SELECT created, position FROM projections.balance_transactions
WHERE generation = (SELECT generation FROM projections.live WHERE projection = 'balance_transactions')
AND id = %(cursor)s AND account = %(account)s AND livemode = %(livemode)s
""",
    filters={
        "currency": "AND currency = %(currency)s",
        "payout": "AND false",  # nothing is paid out here
        "source": "AND source = %(source)s",
        "type": "AND type = %(type)s",
    },
)


class BalanceTransactionQueries:
    """Reads of one store's balance transactions."""

    def __init__(self, store: Store, pool: Pool, pages: Pages) -> None:
        self._store = store
        self._pool = pool
        self._pages = pages

    async def retrieve(self, call: Call) -> QueryResult:
        """`GET /v1/balance_transactions/{id}`"""
        state, transaction = await self._find_transaction(call.target)
        if state is None or transaction is None or not is_visible(state, call):
            hint = "" if state is None else mode_hint(state, type(state), call)
            raise UnknownObject("balance transaction", call.target, param="id", hint=hint)
        now = int(self._store.clock.now())
        return QueryResult(
            await render_balance_transaction(transaction, call.expand, now, self._store.streams.read)
        )

    async def list(self, call: Call) -> QueryResult:
        """`GET /v1/balance_transactions`"""
        page = await self._pages.fetch_page(call, BALANCE_TRANSACTIONS)
        now = int(self._store.clock.now())
        fetch = self._store.streams.read
        data = [
            await render_balance_transaction(msgspec.json.decode(row[0]), call.expand, now, fetch)
            for row in page.rows
        ]
        return render_list(BALANCE_TRANSACTIONS, data, page)

    async def _find_transaction(
        self, transaction_id: str
    ) -> tuple[Charge | Dispute | None, BalanceTransaction | None]:
        """The object whose event made the transaction, as that left it, and the transaction."""
        try:
            async with self._pool.connection() as conn:
                events = await read_history_of_transaction(conn, self._store.codec, transaction_id)
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise Unavailable(first_line(error)) from error
        state = fold(item.event for item in events)
        if not isinstance(state, Charge | Dispute):
            return None, None
        return state, get_balance_transaction(events[-1].event, state)
