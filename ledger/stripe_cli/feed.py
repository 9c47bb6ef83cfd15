"""What the live feed has for listeners of the Stripe CLI: their account's Events, and those of accounts that
are connected to it, in the order of the log.

It is read along the log, as the fan-out reads it: so it makes no difference how many accounts are connected
to a platform. Imported past Events are no news and are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.domain import imported_event
from ledger.ids import parse_id_time
from ledger.postgres.connections import Conn, fetch_all
from ledger.queries.events import FeedEvent

RANGE_POSITIONS_MAX = 1000
TAIL_POSITIONS_MAX = 10_000
EVENTS_MAX = 64
"""Events that one step reads, of whole positions of the log."""
_PAST_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

_COLUMNS = """
f.id, f.livemode, f.created, f.type, f.api_version, f.request_id, f.idempotency_key, f.data,
(SELECT count(*) FROM webhooks.deliveries d WHERE d.event = f.id AND d.state IN ('pending', 'failed'))
"""
_PROGRESS = """
SELECT c.generation, c.position AS head, least(c.position, %(after)s + %(positions)s) AS upto
FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = 'feed'
"""
_OF_LISTENER = """
FROM ledger.events e
JOIN ledger.accounts a ON a.id = e.account AND (a.id = %(account)s OR a.platform = %(account)s)
JOIN projections.feed f
    ON f.generation = p.generation AND f.account = e.account AND f.livemode = e.livemode
    AND hash_record_extended(ROW (f.account, f.livemode), 0)
        = hash_record_extended(ROW (e.account, e.livemode), 0)
    AND f.created = floor(extract(epoch FROM e.recorded_at))::bigint AND f.position = e.notification_id
WHERE e.notification_id > %(after)s AND e.notification_id <= p.upto AND e.livemode = %(livemode)s
AND e.topic <> ALL (%(past)s::text[])
"""
_EVENTS = f"""
WITH p AS MATERIALIZED ({_PROGRESS})
SELECT p.head, p.upto, found.*
FROM p LEFT JOIN LATERAL (
    SELECT f.position, f.ordinal, f.account, {_COLUMNS} {_OF_LISTENER}
    ORDER BY f.position, f.ordinal LIMIT %(limit)s
) AS found ON true
ORDER BY found.position, found.ordinal
"""  # noqa: S608 (constants)
# All Events but the newest ones.
_BACKLOG = f"""
WITH p AS MATERIALIZED ({_PROGRESS}), found AS MATERIALIZED (
    SELECT found.position FROM p JOIN LATERAL (SELECT f.position {_OF_LISTENER}) AS found ON true
)
SELECT count(*), max(position) FROM found
WHERE position <= (SELECT position FROM found ORDER BY position DESC OFFSET %(kept)s LIMIT 1)
"""  # noqa: S608
_OWNERS = f"""
WITH p AS MATERIALIZED ({_PROGRESS})
SELECT p.upto, p.head, changed.*
FROM p LEFT JOIN LATERAL (
    SELECT DISTINCT e.account, e.livemode, a.platform
    FROM ledger.events e JOIN ledger.accounts a ON a.id = e.account
    WHERE e.notification_id > %(after)s AND e.notification_id <= p.upto
) AS changed ON true
"""  # noqa: S608
_RESENDS = f"""
SELECT r.id, f.account, {_COLUMNS}
FROM stripe_cli.resends r
JOIN projections.feed f
    ON f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
    AND f.id = r.event AND f.created = r.created
WHERE r.session = %(session)s AND r.id > %(after)s
ORDER BY r.id LIMIT %(limit)s
"""  # noqa: S608
_DELETE_RESENDS = """
DELETE FROM stripe_cli.resends WHERE session = %(session)s AND id = ANY (%(ids)s::bigint[])
"""


class ListenerEvent(NamedTuple):
    """An Event of the account `account`, and its place in the log."""

    position: int
    ordinal: int
    account: str
    event: FeedEvent


class Batch(NamedTuple):
    """The Events up to the position `upto` of the log; the feed has been applied up to `head`."""

    events: list[ListenerEvent]
    upto: int
    head: int


class Changes(NamedTuple):
    """Whose Events there are up to the position `upto`: accounts and modes, the platforms of these accounts
    among them. The feed has been applied up to `head`."""

    owners: set[tuple[str, bool]]
    upto: int
    head: int


class Resend(NamedTuple):
    """An Event of the account `account` that is to be sent again."""

    id: int
    account: str
    event: FeedEvent


async def read_events(conn: Conn, account: str, livemode: bool, after: int) -> Batch:
    """The next Events of a listener after a position of the log. Raises psycopg.Error."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "after": after,
        "positions": RANGE_POSITIONS_MAX,
        "past": _PAST_TOPICS,
        "limit": EVENTS_MAX + 1,
    }
    rows = await fetch_all(conn, _EVENTS, parameters)
    if not rows:  # no feed yet
        return Batch([], after, after)
    head, upto = rows[0][:2]
    events = [
        ListenerEvent(position, ordinal, owner, FeedEvent(*event))
        for _, _, position, ordinal, owner, *event in rows
        if position is not None
    ]
    if len(events) > EVENTS_MAX:
        upto = events[-1].position - 1  # the rest of the last position may be missing
        events = [event for event in events if event.position <= upto]
    return Batch(events, max(upto, after), head)


async def count_excess(
    conn: Conn, account: str, livemode: bool, *, after: int, upto: int, kept: int
) -> tuple[int, int | None]:
    """How many Events a listener has to get between two positions of the log beside the newest `kept`, and
    the position of the last of them. Raises psycopg.Error."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "after": after,
        "positions": upto - after,
        "past": _PAST_TOPICS,
        "kept": kept,
    }
    ((count, position),) = await fetch_all(conn, _BACKLOG, parameters)
    return count, position


async def read_changes(conn: Conn, after: int) -> Changes:
    """Who has Events after a position of the log. Raises psycopg.Error."""
    rows = await fetch_all(conn, _OWNERS, {"after": after, "positions": TAIL_POSITIONS_MAX})
    if not rows:
        return Changes(set(), after, after)
    owners = {
        (owner, livemode)
        for *_, account, livemode, platform in rows
        for owner in (account, platform)
        if owner
    }
    return Changes(owners, max(rows[0][0], after), rows[0][1])


async def read_resends(conn: Conn, session: str, after: int) -> list[Resend]:
    """The Events to send again to a session, after the resend of this id. Raises psycopg.Error."""
    parameters = {"session": session, "after": after, "limit": EVENTS_MAX}
    rows = await fetch_all(conn, _RESENDS, parameters)
    return [Resend(resend, account, FeedEvent(*event)) for resend, account, *event in rows]


async def delete_resends(conn: Conn, session: str, ids: list[int]) -> None:
    """The session has acknowledged these. Raises psycopg.Error."""
    await conn.execute(_DELETE_RESENDS, {"session": session, "ids": ids})


def bound_created(event_id: str) -> tuple[int, int]:
    """Times (unix seconds) between which an Event of this id was created: any, if the id has none."""
    created_at = parse_id_time(event_id)
    return (0, 2**53) if created_at is None else (int(created_at) - 2, int(created_at) + 2)
