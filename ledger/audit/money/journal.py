"""The journal: the postings of each event that moved money, traced to the event, in the order of the log.

Each entry, which is all postings of one event, is derived from the log; the projection `balance_changes` only
tells the positions of the account's entries. Where it is behind or has parked streams, the log tells them. A
page has whole entries, examines at most EXAMINED_MAX of them, and passes over at most TAIL_POSITIONS_MAX
positions that the projection lacks; so it may have fewer postings than its limit while there are more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.audit.auditor import Auditor
from ledger.audit.causes import render_actor, render_causation
from ledger.audit.moments import format_time
from ledger.audit.money.bounds import Bounds, Range, find_range
from ledger.audit.money.trial_balance import Unreadable
from ledger.domain.charge import ChargeRefunded
from ledger.domain.event import DomainEvent
from ledger.domain.money import check_currency
from ledger.domain.postings import (
    DISPUTE_FEES,
    MERCHANT_BALANCE,
    NETWORK,
    PROCESSING_FEES,
    derive_postings,
    get_movement,
)
from ledger.domain.refund import RefundCreated
from ledger.errors import InvalidParameter, UnreadableRecord
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec
from ledger.store.log import read_event_and_previous

LIMIT_MAX = 100
EXAMINED_MAX = 500
TAIL_POSITIONS_MAX = 100_000
ORDERS = ("asc", "desc")
# So that no row is missing below the checkpoint that a statement sees (SNAPSHOT_FIRST).
_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
LEDGER_ACCOUNTS = (NETWORK, MERCHANT_BALANCE, PROCESSING_FEES, DISPUTE_FEES)

# What follows is assembled from texts of this module alone; `order` is ASC or DESC. `_MOVES_MONEY` is the
# predicate of the index events_movement.
_MOVES_MONEY = """position('"movement":{'::bytea IN e.state) > 0"""
_OWN = f"""
e.notification_id > %(after)s AND e.notification_id <= %(upto)s
AND e.account = %(account)s AND e.livemode = %(livemode)s AND {_MOVES_MONEY}
"""
# What is found by an object or transaction is few rows: their positions are kept from the index of positions,
# along which the planner may read the whole log instead.
_OWN_OF_FEW = _OWN.replace("e.notification_id", "(e.notification_id + 0)")
_OF_RANGE = f"""
WITH live AS (
    SELECT l.generation, c.position AS checkpoint FROM projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    WHERE l.projection = 'balance_changes')
(SELECT position FROM projections.balance_changes
 WHERE generation = (SELECT generation FROM live) AND account = %(account)s AND livemode = %(livemode)s
 AND position > %(after)s AND position <= %(upto)s
 ORDER BY position {{order}} LIMIT %(limit)s)
UNION
(SELECT e.notification_id FROM ledger.events e
 WHERE {_OWN} AND e.notification_id > coalesce((SELECT checkpoint FROM live), 0)
 ORDER BY e.notification_id {{order}} LIMIT %(limit)s)
UNION
(SELECT found.position FROM projections.parked p
 CROSS JOIN LATERAL (
     SELECT e.notification_id AS position FROM ledger.events e
     WHERE e.originator_id = p.stream AND (e.notification_id + 0) >= p.position AND {_OWN_OF_FEW} OFFSET 0
 ) AS found
 WHERE p.projection = 'balance_changes' AND p.generation = (SELECT generation FROM live)
 ORDER BY found.position {{order}} LIMIT %(limit)s)
"""  # noqa: S608
# A refund's money is moved by an event of its charge, which has the same movement.
_OF_TRANSACTION = f"""
SELECT e.notification_id AS position FROM ledger.events e
WHERE ledger.movement_id(e.state) = %(transaction)s AND {_OWN_OF_FEW}
"""  # noqa: S608
_OF_OBJECT = f"""
SELECT e.notification_id AS position FROM ledger.events e WHERE e.originator_id = %(object)s AND {_OWN_OF_FEW}
UNION
SELECT e.notification_id FROM ledger.events e WHERE e.charge = %(object)s AND {_OWN_OF_FEW}
"""  # noqa: S608
_PAGE = """
SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state, e.request_id,
       e.idempotency_key, e.causation, e.charge, extract(epoch FROM e.recorded_at)::float8,
       e.actor, k.name, k.kind, k.livemode, k.last4
FROM (SELECT position FROM ({positions}) AS found ORDER BY position {order} LIMIT %(limit)s) AS page
JOIN ledger.events e ON e.notification_id = page.position
LEFT JOIN ledger.api_keys k ON k.id = e.actor AND k.account = e.account
ORDER BY e.notification_id {order}
"""
_CHECKPOINT = """
SELECT c.position FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = 'balance_changes'
"""


class JournalQuery(NamedTuple):
    """What to list.

    object          a charge, with its refunds and disputes; a refund; or a dispute
    transaction     id of a balance transaction
    limit           postings; an entry is never torn, so a page may have two more
    starting_after  position of the entry that ended the page before
    """

    bounds: Bounds = Bounds()
    ledger_account: str | None = None
    currency: str | None = None
    object: str | None = None
    transaction: str | None = None
    limit: int = 10
    starting_after: int | None = None
    order: str = "desc"


class _Window(NamedTuple):
    """The positions after `after` up to `upto` that one page examines; `is_last`: whether none are beyond."""

    after: int
    upto: int
    is_last: bool


async def list_postings(
    queries: QueryContext,
    auditor: Auditor,
    query: JournalQuery,
    *,
    tail_positions_max: int = TAIL_POSITIONS_MAX,
) -> dict[str, Any]:
    """One page of the auditor's journal. `data` has postings; `next_position` is the `starting_after` of the
    next page, None at the end; `unreadable` has the records of this page that cannot be read. Raises
    InvalidParameter, Unavailable."""
    query = _check(query)
    codec, clock = queries.store.codec, queries.store.clock

    async def read(conn: Conn) -> tuple[Range, _Window, list[TupleRow], Codec, int]:
        async with conn.transaction():
            await conn.execute(_ONE_SNAPSHOT)
            bounds = await find_range(conn, clock, codec, query.bounds)
            window = await _choose_window(conn, query, bounds, tail_positions_max)
            count_max = query.limit + 1 if _is_unfiltered(query) else EXAMINED_MAX
            rows = await _read_events(conn, codec, auditor, query, window, count_max)
            return bounds, window, rows, await codec.prepare(conn, [row[1:5] for row in rows]), count_max

    bounds, window, rows, prepared, count_max = await queries.reads.run_idempotent(read)
    data: list[dict[str, Any]] = []
    unreadable: list[Unreadable] = []
    last_position = None
    for row in rows:
        if len(data) >= query.limit:
            break
        last_position = row[0]
        try:
            data += _render_entry(prepared, row, query)
        except UnreadableRecord as error:
            unreadable.append(Unreadable(row[0], row[1], error.reason))
    examined_all = not rows or last_position == rows[-1][0]
    if examined_all and len(rows) < count_max:
        edge = window.upto if query.order == "asc" else window.after + 1
        last_position = None if window.is_last else edge
    return {
        "as_of": bounds.as_of.to_json(),
        "data": data,
        "has_more": last_position is not None,
        "next_position": last_position,
        "unreadable": [each._asdict() for each in unreadable],
    }


def _check(query: JournalQuery) -> JournalQuery:
    """The query in its standard form. Raises InvalidParameter."""
    if query.currency is not None:
        query = query._replace(currency=query.currency.lower())
        check_currency(query.currency or "")
    if query.ledger_account is not None and query.ledger_account not in LEDGER_ACCOUNTS:
        text = f"Invalid ledger_account: must be one of {', '.join(LEDGER_ACCOUNTS)}"
        raise InvalidParameter(text, param="ledger_account")
    if query.order not in ORDERS:
        raise InvalidParameter(f"Invalid order: must be one of {', '.join(ORDERS)}", param="order")
    if not 1 <= query.limit <= LIMIT_MAX:
        raise InvalidParameter(f"Invalid limit: must be 1 to {LIMIT_MAX}", param="limit")
    return query


def _is_unfiltered(query: JournalQuery) -> bool:
    """Whether each entry that is read has postings to list."""
    return query.currency is None and query.ledger_account is None


async def _choose_window(conn: Conn, query: JournalQuery, bounds: Range, tail_positions_max: int) -> _Window:
    """What of the range this page examines: at most so many positions that the projection lacks."""
    after, upto, _ = bounds
    if query.starting_after is not None and query.order == "asc":
        after = max(after, query.starting_after)
    elif query.starting_after is not None:
        upto = min(upto, query.starting_after - 1)
    if query.object is not None or query.transaction is not None:
        return _Window(after, upto, is_last=True)
    row = await fetch_one(conn, _CHECKPOINT)
    tail_start = max(after, row[0] if row is not None else 0)
    if upto - tail_start <= tail_positions_max:
        return _Window(after, upto, is_last=True)
    if query.order == "asc":
        return _Window(after, tail_start + tail_positions_max, is_last=False)
    return _Window(upto - tail_positions_max, upto, is_last=False)


async def _read_events(
    conn: Conn, codec: Codec, auditor: Auditor, query: JournalQuery, window: _Window, limit: int
) -> list[TupleRow]:
    """The events of the page that moved money, in its order; at most `limit`."""
    if any("\0" in text for text in (query.object, query.transaction) if text is not None):
        return []  # no text of the log has this character
    bindings: dict[str, Any] = {
        "account": auditor.account,
        "livemode": auditor.livemode,
        "after": window.after,
        "upto": window.upto,
        "limit": limit,
    }
    positions = [_OF_RANGE] if query.object is None and query.transaction is None else []
    if query.object is not None:
        refund_transaction = await _find_refund_transaction(conn, codec, query.object)
        if refund_transaction is None:
            positions.append(_OF_OBJECT)
            bindings["object"] = query.object
        elif query.transaction not in (None, refund_transaction):
            return []
        else:
            query = query._replace(transaction=refund_transaction)
    if query.transaction is not None:
        positions.append(_OF_TRANSACTION)
        bindings["transaction"] = query.transaction
    found = " INTERSECT ".join(f"({each})" for each in positions)
    statement = _PAGE.replace("{positions}", found).replace("{order}", query.order.upper())
    cur = conn.cursor(binary=True)
    await cur.execute(statement.encode(), bindings)
    return await cur.fetchall()


async def _find_refund_transaction(conn: Conn, codec: Codec, object_id: str) -> str | None:
    """The balance transaction of a refund; None for another object."""
    try:
        events = await read_event_and_previous(conn, codec, object_id, 1)
    except UnreadableRecord:
        return None
    event = events[0].event if events else None
    return event.moved["id"] if isinstance(event, RefundCreated) else None


def _render_entry(codec: Codec, row: TupleRow, query: JournalQuery) -> list[dict[str, Any]]:
    """The postings of one event that the query lists. Raises UnreadableRecord."""
    position, stream, version, topic, state, request_id, key, causation, charge, at, *actor = row
    event = codec.decode_event(stream, version, topic, state)
    movement = get_movement(event)
    if movement is None:
        return []
    traced = {
        "balance_transaction": movement["id"],
        "source": _get_source(event),
        "charge": charge or stream,
        "dispute": stream if charge else None,
        "position": position,
    }
    cause = {
        "stream": stream,
        "version": version,
        "type": topic,
        "time": format_time(at),
        "actor": render_actor(*actor),
        "request_id": request_id,
        "idempotency_key": key,
        "causation": render_causation(causation),
    }
    return [
        {
            **traced,
            "ordinal": ordinal,
            "ledger_account": ledger_account,
            "currency": currency,
            "side": "debit" if amount > 0 else "credit",
            "amount": abs(amount),
            **cause,
        }
        for ordinal, (ledger_account, currency, amount) in enumerate(derive_postings(event))
        if query.ledger_account in (None, ledger_account) and query.currency in (None, currency)
    ]


def _get_source(event: DomainEvent) -> str:
    """The charge, refund or dispute whose money moved."""
    return event.refund if isinstance(event, ChargeRefunded) else event.originator_id
