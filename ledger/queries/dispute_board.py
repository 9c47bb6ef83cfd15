"""The board of disputes (internal API §9): pages by due date or newest first, and how many have each status.

A page of several statuses is merged from a page of each, which an index has in order: so it costs the same at
any depth, however few of a status there are. What it waits for is said in `pages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.rows import TupleRow

from ledger.call import Call
from ledger.domain.dispute import NEVER_DUE
from ledger.domain.dispute_decisions import REASONS
from ledger.domain.dispute_states import STATUSES, get_statuses_allowing
from ledger.errors import InvalidParameter, UnknownReference
from ledger.queries.list_query import ListQuery, in_live_generation
from ledger.queries.pages import Pages, ProjectionProgress, QueryResult
from ledger.wire.json_values import Json, make_list_object

PROJECTION = "dispute_board"
URL = "/internal/v1/disputes"
COUNT_MAX = 2_000
"""So many disputes of a status are counted: what is beyond is said by `has_more`."""
DUE_SOON_SECONDS = 24 * 3600
DUE_NEXT_SECONDS = 72 * 3600
AWAITING_RESPONSE = get_statuses_allowing("submit")
ORDERS = ("due_by", "created")

_COLUMNS = (
    "id", "account", "livemode", "created", "status", "due_by", "amount", "currency", "reason",
    "network_reason_code", "case_type", "charge", "customer", "payment_intent", "submission_count",
    "has_evidence", "past_due",
)  # fmt: skip
_ROW = ", ".join(_COLUMNS)
_BOARD = f"FROM projections.dispute_board b WHERE {in_live_generation(PROJECTION)}"
_OWNED = "AND b.account = %(account)s AND b.livemode = %(livemode)s"
_BY_REASON = "AND b.reason = %(reason)s"
# `status` is compared with each of those that are asked for: Postgres reads the index once for each.
_BY_DUE_DATE = """
SELECT d.* FROM unnest(%(statuses)s::text[]) AS s (status) CROSS JOIN LATERAL (
    SELECT {row}, position {board} {owned} AND b.status = s.status {by_reason}
    AND b.due_by >= %(due_from)s AND b.due_by <= %(due_to)s
    AND (b.due_by, b.position) > (%(after)s, %(after_position)s)
    ORDER BY b.due_by, b.position LIMIT %(limit)s
) AS d ORDER BY d.due_by, d.position LIMIT %(limit)s
"""
_NEWEST = """
SELECT d.* FROM unnest(%(statuses)s::text[]) AS s (status) CROSS JOIN LATERAL (
    SELECT {row}, position {board} {owned} AND b.status = s.status {by_reason}
    AND hash_record_extended(ROW (b.account, b.livemode, b.status{reason_column}), 0) =
        hash_record_extended(ROW (%(account)s::text, %(livemode)s::boolean, s.status{reason_value}), 0)
    AND (b.created, b.position) < (%(after)s, %(after_position)s)
    ORDER BY b.created DESC, b.position DESC LIMIT %(limit)s
) AS d ORDER BY d.created DESC, d.position DESC LIMIT %(limit)s
"""
# The first COUNT_MAX by due date: so those that are due soon are among them.
_SUMMARY = """
SELECT s.status, c.* FROM unnest(%(statuses)s::text[]) AS s (status) CROSS JOIN LATERAL (
    SELECT f.currency, sum(f.amount)::bigint, count(*),
           count(*) FILTER (WHERE f.due_by < %(now)s),
           count(*) FILTER (WHERE f.due_by >= %(now)s AND f.due_by < %(soon)s),
           count(*) FILTER (WHERE f.due_by >= %(now)s AND f.due_by < %(next)s)
    FROM (
        SELECT b.currency, b.amount, b.due_by {board} {owned} AND b.status = s.status {by_reason}
        ORDER BY b.due_by, b.position LIMIT %(limit)s
    ) AS f GROUP BY f.currency
) AS c
"""
_CURSOR = f"SELECT b.id, b.due_by, b.created, b.position {_BOARD} {_OWNED} AND b.id = %(cursor)s"


def _make_query(select: str, *, by_reason: bool = False) -> ListQuery:
    text = select.format(
        row=_ROW,
        board=_BOARD,
        owned=_OWNED,
        by_reason=_BY_REASON if by_reason else "",
        reason_column=", b.reason" if by_reason else "",
        reason_value=", %(reason)s::text" if by_reason else "",
    )
    return ListQuery(projection=PROJECTION, noun="dispute", url=URL, select=text, cursor_select=_CURSOR)


_PAGES = {
    (order, by_reason): _make_query(select, by_reason=by_reason)
    for order, select in (("due_by", _BY_DUE_DATE), ("created", _NEWEST))
    for by_reason in (False, True)
}
_SUMMARIES = {by_reason: _make_query(_SUMMARY, by_reason=by_reason) for by_reason in (False, True)}
_FIND_CURSOR = _make_query(_CURSOR)


@dataclass(frozen=True, kw_only=True)
class BoardFilters:
    """Which disputes. Raises InvalidParameter when it is made, naming the parameter.

    statuses           none: all
    due_from, due_to   unix seconds, both included; only in the order of due dates
    """

    statuses: Sequence[str] = ()
    reason: str | None = None
    order: str = "due_by"
    due_from: int | None = None
    due_to: int | None = None

    def __post_init__(self) -> None:
        for status in self.statuses:
            _check_choice("status", status, STATUSES)
        if self.reason is not None:
            _check_choice("reason", self.reason, REASONS)
        _check_choice("order", self.order, ORDERS)
        if self.order == "created" and (self.due_from, self.due_to) != (None, None):
            raise InvalidParameter("due_by can be bounded only with order=due_by.", param="due_by")

    def to_bindings(self) -> dict[str, Any]:
        """What the statements bind."""
        return {
            "statuses": list(dict.fromkeys(self.statuses)) or list(STATUSES),
            "reason": self.reason,
            "due_from": 0 if self.due_from is None else self.due_from,
            "due_to": NEVER_DUE if self.due_to is None else self.due_to,
        }


async def list_board(
    pages: Pages, call: Call, filters: BoardFilters, *, limit: int, starting_after: str | None = None
) -> QueryResult:
    """A page of the account's disputes, those without a due date last, or newest first. `starting_after`: the
    id of the last one of the page before. Raises UnknownReference for an unknown one, Unavailable."""
    by_due_date = filters.order == "due_by"
    key = (-1, 0) if by_due_date else (NEVER_DUE, 0)
    if starting_after is not None:
        key = await _find_key(pages, call, starting_after, by_due_date=by_due_date)
    query = _PAGES[filters.order, filters.reason is not None]
    bindings = {"after": key[0], "after_position": key[1], "limit": limit + 1}
    progress, rows = await pages.fetch_whole(call, query, {**filters.to_bindings(), **bindings})
    place = _COLUMNS.index(filters.order)
    rows.sort(key=lambda row: (row[place], row[-1]), reverse=not by_due_date)
    data = [_render_row(row) for row in rows[:limit]]
    return _answer(make_list_object(data, URL, has_more=len(rows) > limit), progress)


async def summarize_board(pages: Pages, call: Call, *, reason: str | None, now: int) -> QueryResult:
    """How many disputes of the account have each status, how much they are about, and how many are due when,
    at `now` (unix seconds). Raises InvalidParameter, Unavailable."""
    bindings = BoardFilters(reason=reason).to_bindings() | {
        "now": now,
        "soon": now + DUE_SOON_SECONDS,
        "next": now + DUE_NEXT_SECONDS,
        "limit": COUNT_MAX + 1,
    }
    progress, rows = await pages.fetch_whole(call, _SUMMARIES[reason is not None], bindings)
    columns = [_summarize(status, [row[1:] for row in rows if row[0] == status]) for status in STATUSES]
    body = {"object": "dispute_summary", "at": now, "count_max": COUNT_MAX, "statuses": columns}
    return _answer(body, progress)


def _summarize(status: str, by_currency: Sequence[TupleRow]) -> Json:
    """What the board says of one status. Sums are left out where not all disputes were counted."""
    amounts = {currency: amount for currency, amount, *_ in by_currency}
    count, past_due, soon, next_days = (sum(row[place] for row in by_currency) for place in range(2, 6))
    has_more = count > COUNT_MAX
    awaits = status in AWAITING_RESPONSE
    return {
        "status": status,
        "count": min(count, COUNT_MAX),
        "has_more": has_more,
        "amounts": None if has_more else dict(sorted(amounts.items())),
        "past_due": past_due if awaits else None,
        "due_within_24_hours": soon if awaits else None,
        "due_within_72_hours": next_days if awaits else None,
    }


async def _find_key(pages: Pages, call: Call, cursor: str, *, by_due_date: bool) -> tuple[int, int]:
    _, rows = await pages.fetch_whole(call, _FIND_CURSOR, {"cursor": cursor})
    if not rows:
        raise UnknownReference("dispute", cursor, param="starting_after")
    _, due_by, created, position = rows[0]
    return due_by if by_due_date else created, position


def _render_row(row: TupleRow) -> Json:
    fields = dict(zip(_COLUMNS, row, strict=False))
    due_by = None if fields["due_by"] == NEVER_DUE else fields["due_by"]
    return {"id": fields.pop("id"), "object": "dispute_overview", **fields, "due_by": due_by}


def _answer(body: Json, progress: ProjectionProgress) -> QueryResult:
    return QueryResult(body, progress.lag_events, progress.incomplete)


def _check_choice(param: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidParameter(f"Invalid {param}: must be one of {', '.join(choices)}", param=param)
