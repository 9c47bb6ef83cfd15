"""The SQL of a search: which index it reads along, and what it checks of each event on the way.

A search reads along one index, in the order of positions, and checks the other filters on each event that it
meets: on at most `examined` events, so a page is answered in bounded time however few of them match. All SQL
is assembled from texts in the code; what a caller sends are parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from ledger.postgres.connections import Conn, fetch_all
from ledger.queries.list_query import in_live_generation
from ledger.store.index_keys import derive_key

# Without an entry here a filter would be ignored.
_CONDITIONS = {
    "account": "e.account = %(account)s AND e.livemode = %(livemode)s",
    "object": "e.originator_id = %(object)s",
    "payment_intent": "(e.payment_intent = %(payment_intent)s OR e.originator_id = %(payment_intent)s)",
    "charge": "(e.charge = %(charge)s OR e.originator_id = %(charge)s)",
    "customer": "(e.customer = %(customer)s OR e.originator_id = %(customer)s)",
    "request": "e.request_id = %(request)s",
    "idempotency_key": "e.idempotency_key = %(idempotency_key)s",
    "actor": "e.actor = %(actor)s",
    "topics": "e.topic = ANY (%(topics)s::text[])",
}
# Within a stream both are the same order.
_LOG_ORDER = "e.notification_id"
_STREAM_ORDER = "e.originator_version"
# The indexes of the log itself, the most selective first: an object has few events, a customer perhaps many.
# The second index of an object is that of its own stream.
_LOG_DRIVERS = {
    "object": (("e.originator_id = %(object)s", _STREAM_ORDER),),
    "payment_intent": (
        ("e.payment_intent = %(payment_intent)s", _LOG_ORDER),
        ("e.originator_id = %(payment_intent)s", _STREAM_ORDER),
    ),
    "charge": (
        ("e.charge = %(charge)s", _LOG_ORDER),
        ("e.originator_id = %(charge)s", _STREAM_ORDER),
    ),
    "customer": (
        ("e.customer = %(customer)s", _LOG_ORDER),
        ("e.originator_id = %(customer)s", _STREAM_ORDER),
    ),
}
# By filters, the key in the audit index that they make with account and mode.
_KEYS = {
    (): "by_owner",
    ("request",): "by_request",
    ("idempotency_key",): "by_idempotency_key",
    ("actor",): "by_actor",
    ("topics",): "by_topic",
    ("actor", "topics"): "by_actor_and_topic",
}
_DRIVERS = ("object", "payment_intent", "charge", "request", "idempotency_key", "customer")

# The inner SELECT is read only as far as the outer one needs, and no further than `examined` rows. The last
# of these is returned whether it matches or not: there the next page goes on.
_EXAMINE_LOG = """
SELECT position, matches, number FROM (
    SELECT e.notification_id AS position, {conditions} AS matches,
           row_number() OVER (ORDER BY {order} {direction}) AS number
    FROM ledger.events e
    WHERE {driver} AND {position} > %(after)s AND {position} <= %(upto)s
    ORDER BY {order} {direction} LIMIT %(examined)s
) AS met WHERE matches OR number = %(examined)s LIMIT %(limit)s
"""
_EXAMINE_INDEX = """
SELECT position, matches, number FROM (
    SELECT i.position, (SELECT {conditions} FROM ledger.events e WHERE e.notification_id = i.position)
           AS matches, row_number() OVER (ORDER BY i.position {direction}) AS number
    FROM projections.audit_keys i
    WHERE i.{live} AND i.{key} = {value} AND i.position > %(after)s AND i.position <= %(upto)s
    ORDER BY i.position {direction} LIMIT %(examined)s
) AS met WHERE matches OR number = %(examined)s LIMIT %(limit)s
"""
# By each topic, as many as a page may need.
_EXAMINE_INDEX_BY_TOPIC = """
SELECT found.position, (SELECT {conditions} FROM ledger.events e WHERE e.notification_id = found.position), 0
FROM unnest(%(key)s::integer[]) AS wanted(key) CROSS JOIN LATERAL (
    SELECT i.position FROM projections.audit_keys i
    WHERE i.{live} AND i.{key} = {value} AND i.position > %(after)s AND i.position <= %(upto)s
    ORDER BY i.position {direction} LIMIT %(limit)s
) AS found
ORDER BY found.position {direction} LIMIT %(limit)s
"""
# Whoever reads a stream reads it whole: along the index of positions, the planner would read all streams.
_POSITION_IN_STREAM = "(e.notification_id + 0)"
# The events of parked streams that the index does not have.
_READ_PARKED = """
SELECT found.position, true, 0
FROM projections.parked p CROSS JOIN LATERAL (
    SELECT e.notification_id AS position FROM ledger.events e
    WHERE e.originator_id = p.stream AND {position} >= p.position AND {conditions}
    AND {position} > %(after)s AND {position} <= %(upto)s
    ORDER BY e.originator_version {direction} LIMIT %(limit)s
) AS found
WHERE p.projection = 'audit_keys' AND p.{live}
ORDER BY found.position {direction} LIMIT %(limit)s
"""
_LIVE = in_live_generation("audit_keys")


class Found(NamedTuple):
    """The matching positions of one scan, and where it stopped; None when there is nothing further."""

    positions: list[int]
    end: int | None


@lru_cache
def build_log_scans(filters: frozenset[str], *, descending: bool) -> tuple[str, ...]:
    """The statements that search the log along its own indexes; () when none of the filters has one."""
    driver = _choose_driver(filters)
    return tuple(
        _EXAMINE_LOG.format(
            conditions=_join_conditions(filters),
            driver=condition,
            position=_POSITION_IN_STREAM if order == _STREAM_ORDER else _LOG_ORDER,
            order=order,
            direction=_direction(descending),
        )
        for condition, order in _LOG_DRIVERS.get(driver or "", ())
    )


@lru_cache
def build_tail_scan(filters: frozenset[str], *, descending: bool) -> str:
    """The statement that examines each event of a range."""
    return _EXAMINE_LOG.format(
        conditions=_join_conditions(filters),
        driver="true",
        position=_LOG_ORDER,
        order=_LOG_ORDER,
        direction=_direction(descending),
    )


@lru_cache
def build_index_scan(filters: frozenset[str], *, descending: bool) -> str:
    """The statement that searches the audit index."""
    names = _choose_key(filters)
    by_topic = "topics" in names
    return (_EXAMINE_INDEX_BY_TOPIC if by_topic else _EXAMINE_INDEX).format(
        conditions=_join_conditions(filters),
        key=_KEYS[names],
        value="wanted.key" if by_topic else "%(key)s",
        live=_LIVE,
        direction=_direction(descending),
    )


def derive_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameter `key` of the statement that `build_index_scan` makes for these filters, account and mode:
    a key, or one for each topic."""
    names = _choose_key(parameters)
    owner = parameters["account"], parameters["livemode"]
    values = [parameters[name] for name in names if name != "topics"]
    if "topics" not in names:
        return {"key": derive_key(*owner, *values)}
    return {"key": sorted({derive_key(*owner, *values, topic) for topic in parameters["topics"]})}


@lru_cache
def build_parked_scan(filters: frozenset[str], *, descending: bool) -> str:
    """The statement that searches the parked streams."""
    return _READ_PARKED.format(
        conditions=_join_conditions(filters),
        position=_POSITION_IN_STREAM,
        live=_LIVE,
        direction=_direction(descending),
    )


async def scan(conn: Conn, query: str, parameters: dict[str, Any]) -> Found:
    """Run one of the statements; `limit` and `examined` are among the parameters."""
    rows = await fetch_all(conn, query.encode(), parameters)
    return Found([row[0] for row in rows if row[1]], _find_end(rows, parameters))


def _find_end(rows: list[TupleRow], parameters: dict[str, Any]) -> int | None:
    if not rows:
        return None
    position, _, number = rows[-1]
    stopped = len(rows) == parameters["limit"] or number == parameters["examined"]
    return int(position) if stopped else None


def merge(scans: Iterable[Found], limit: int, *, descending: bool) -> Found:
    """The first `limit` positions that any of the scans found, as far as all of them have come."""
    scans = list(scans)
    ends = [found.end for found in scans if found.end is not None]
    positions: Collection[int] = {position for found in scans for position in found.positions}
    end: int | None = None
    if ends:
        end = max(ends) if descending else min(ends)
        positions = [each for each in positions if (each >= end if descending else each <= end)]
    ordered = sorted(positions, reverse=descending)
    return Found(ordered[:limit], ordered[limit - 1] if len(ordered) > limit else end)


def _choose_driver(filters: Collection[str]) -> str | None:
    return next((name for name in _DRIVERS if name in filters), None)


def _choose_key(filters: Collection[str]) -> tuple[str, ...]:
    """The filters along whose key the audit index is read."""
    driver = _choose_driver(filters)
    if driver is not None and (driver,) in _KEYS:
        return (driver,)
    return tuple(name for name in ("actor", "topics") if name in filters)


def _join_conditions(filters: frozenset[str]) -> str:
    return " AND ".join(text for name, text in _CONDITIONS.items() if name in filters | {"account"})


def _direction(descending: bool) -> str:
    return "DESC" if descending else "ASC"
