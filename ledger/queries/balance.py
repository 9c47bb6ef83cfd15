"""The query on the balance (contract §2.14): the sum of what balance transactions changed.

A process adds up only the changes since its last read of the same account and mode, and those that are still
pending, which are of the last two days. Only its first read costs a pass over an index of all changes.
"""

from __future__ import annotations

from collections import Counter

from ledger.call import Call
from ledger.queries.balance_totals import BalanceTotal
from ledger.queries.context import QueryContext
from ledger.queries.list_query import ListQuery, in_live_generation
from ledger.queries.pages import QueryResult
from ledger.wire.accounts import DEFAULT_CURRENCY
from ledger.wire.balance import Funds, render_balance

_NO_TOTAL = BalanceTotal(generation=0, position=0, amounts={})
_OWN_ROWS = f"""
FROM projections.balance_changes
WHERE {in_live_generation("balance_changes")} AND account = %(account)s AND livemode = %(livemode)s
"""
# One row for each currency, and at least one: it names the generation, which a total must be of.
_SUMS = f"""
SELECT live.generation, sums.currency, sums.added, sums.pending
FROM (SELECT generation FROM projections.live WHERE projection = 'balance_changes') AS live
LEFT JOIN (
    SELECT currency, sum(added)::bigint AS added, sum(pending)::bigint AS pending
    FROM (
        SELECT currency, net AS added, 0 AS pending {_OWN_ROWS} AND position > %(counted)s
        UNION ALL
        SELECT currency, 0 AS added, net AS pending {_OWN_ROWS} AND available_on > %(now)s
    ) AS changes GROUP BY currency
) AS sums ON true
"""  # noqa: S608
BALANCE = ListQuery(
    projection="balance_changes",
    noun="balance",
    url="/v1/balance",
    select=_SUMS,
    cursor_select="",
)


async def retrieve(call: Call, context: QueryContext) -> QueryResult:
    """`GET /v1/balance`"""
    owner = (call.account, call.livemode)
    total = context.totals.get(owner) or _NO_TOTAL
    now = context.now()
    bindings = {"counted": total.position, "now": now}
    progress, rows = await context.pages.fetch_whole(call, BALANCE, bindings)
    if rows[0][0] != total.generation:  # a rebuild was promoted, or there is no total yet
        if total.position:
            bindings["counted"] = 0
            progress, rows = await context.pages.fetch_whole(call, BALANCE, bindings)
        total = _NO_TOTAL
    generation = rows[0][0]
    amounts, pending = Counter(total.amounts), Counter[str]()
    for _, currency, added, still_pending in rows:
        if currency is not None:
            amounts[currency] += added
            pending[currency] = still_pending
    if not progress.incomplete:
        context.totals.put(owner, BalanceTotal(generation, progress.checkpoint, dict(amounts)))
    funds = {
        currency: Funds(amount - pending[currency], pending[currency]) for currency, amount in amounts.items()
    }
    body = render_balance(funds, DEFAULT_CURRENCY, livemode=call.livemode)
    return QueryResult(body, progress.lag_events, progress.incomplete)
