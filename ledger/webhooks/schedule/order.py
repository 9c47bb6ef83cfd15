"""The Events of an object in order, for endpoints that ask for it: each goes out after the one before it was
delivered or given up.

A delivery to such an endpoint has its `object`, and a claim passes by one while an earlier one of the same
object is pending. That alone keeps the order. So that claims do not go through all that wait, those are put
on hold besides, due at 'infinity', and whatever ends a delivery releases the next one. Nothing waits for
ever: who puts a delivery on hold has locked the one before it, whose end then sees the one on hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.postgres.connections import Conn
from ledger.postgres.pipelines import BoundStatement, bind
from ledger.postgres.statements import parse_statement

SEQUENCE_STEP = 16
"""Numbers for the Events of one position of the log; more than it ever has."""

# Locks the pending one before each: until this transaction has committed it cannot end. One that ends first
# is not pending any more when its lock is there, and the row before it is looked at instead.
_HOLD = """
UPDATE webhooks.deliveries SET due_at = 'infinity'
FROM (SELECT d.id FROM webhooks.deliveries d
      CROSS JOIN LATERAL (
          SELECT FROM webhooks.deliveries p
          WHERE p.state = 'pending' AND p.endpoint = d.endpoint AND p.object = d.object
            AND (p.position, p.ordinal) < (d.position, d.ordinal)
          ORDER BY p.position DESC, p.ordinal DESC LIMIT 1 FOR SHARE) AS previous
      WHERE d.id = ANY (%(ids)s::text[]) AND d.object IS NOT NULL) AS waiting
WHERE deliveries.id = waiting.id
"""
# The first pending one of the object must not be on hold. A statement of its own: it sees what was committed
# while the statement that ended the delivery waited for its lock.
_RELEASE_NEXT = """
UPDATE webhooks.deliveries SET due_at = to_timestamp(%(now)s)
WHERE due_at = 'infinity' AND id = (
    SELECT next.id FROM webhooks.deliveries d
    CROSS JOIN LATERAL (
        SELECT n.id FROM webhooks.deliveries n
        WHERE n.state = 'pending' AND n.endpoint = d.endpoint AND n.object = d.object
        ORDER BY n.position, n.ordinal LIMIT 1) AS next
    WHERE d.id = %(id)s AND d.state <> 'pending')
"""
_RELEASE_FIRST = """
UPDATE webhooks.deliveries SET due_at = to_timestamp(%(now)s)
FROM (SELECT DISTINCT ON (endpoint, object) id FROM webhooks.deliveries
      WHERE state = 'pending' AND object IS NOT NULL
      ORDER BY endpoint, object, position, ordinal) AS first
WHERE deliveries.id = first.id AND deliveries.due_at = 'infinity'
"""


async def hold(conn: Conn, deliveries: Sequence[str]) -> None:
    """Put on hold those of these pending deliveries that wait for an earlier one, in the transaction that has
    made them pending."""
    await conn.execute(_HOLD, {"ids": list(deliveries)})


def build_hold(deliveries: Sequence[str]) -> BoundStatement:
    """The statement of `hold`."""
    return bind(parse_statement(_HOLD), {"ids": list(deliveries)})


async def release_next(conn: Conn, delivery: str, now: float) -> None:
    """If this delivery has ended, let the next one of its object be due at `now` (unix seconds); in the
    transaction that has ended it, after that statement."""
    await conn.execute(_RELEASE_NEXT, {"id": delivery, "now": now})


async def release_first(conn: Conn, now: float) -> int:
    """Let the first pending delivery of each object be due at `now` (unix seconds) if it is on hold, after
    many deliveries ended at once. Returns how many were."""
    return (await conn.execute(_RELEASE_FIRST, {"now": now})).rowcount


def number(position: int, ordinal: int) -> int:
    """The sequence number of an Event: it grows along the log, so also along the Events of one object."""
    return position * SEQUENCE_STEP + ordinal
