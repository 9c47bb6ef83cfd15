"""What the live feed has for listeners of the Stripe CLI: their account's Events, and those of accounts that
are connected to it, in the order of the log.

It is read along the log, as the fan-out reads it: so it makes no difference how many accounts are connected
to a platform. Imported past Events are no news and are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.domain import imported_event
from ledger.ids import parse_id_time
from ledger.keys.documents import run_on
from ledger.postgres.connections import Conn, fetch_all
from ledger.queries.events import COUNT_OWED
from ledger.queries.feed_events import FeedEvent, open_events
from ledger.store.codec import Codec
from ledger.wire.public_events import EVENTS_PER_CHANGE_MAX

RANGE_POSITIONS_MAX = 1000
TAIL_POSITIONS_MAX = 10_000
CHANGES_MAX = 64
"""Changes whose Events one step reads."""
_PAST_TOPICS = [event.TOPIC for event in imported_event.EVENTS]

_COLUMNS = f"""
f.id, f.livemode, f.created, f.type, f.api_version, f.request_id, f.idempotency_key, f.data,
{COUNT_OWED.format(event="f.id")}
"""
_PROGRESS = """
SELECT c.generation, c.position AS head, least(c.position, %(after)s + %(positions)s) AS upto
FROM projections.live l
JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
WHERE l.projection = 'feed'
"""
# Each step is kept from being turned around: the planner, which knows nothing of a feed of today, would begin
# with all of it.
_OF_LISTENER = """
SELECT e.notification_id AS position, e.account, e.livemode,
       floor(extract(epoch FROM e.recorded_at))::bigint AS created
FROM ledger.events e
WHERE e.notification_id > %(after)s AND e.notification_id <= (SELECT upto FROM p)
AND e.livemode = %(livemode)s AND e.topic <> ALL (%(past)s::text[])
AND (SELECT %(account)s IN (a.id, a.platform) FROM ledger.accounts a WHERE a.id = e.account)
"""
_IN_FEED = """
FROM projections.feed f
WHERE f.generation = (SELECT generation FROM p) AND f.account = c.account AND f.livemode = c.livemode
AND hash_record_extended(ROW (f.account, f.livemode), 0)
    = hash_record_extended(ROW (c.account, c.livemode), 0)
AND f.created = c.created AND f.position = c.position
ORDER BY f.ordinal LIMIT %(ordinals)s
"""
_EVENTS = f"""
WITH p AS MATERIALIZED ({_PROGRESS}), changed AS MATERIALIZED (
    {_OF_LISTENER} ORDER BY e.notification_id LIMIT %(limit)s
)
SELECT p.head,
       CASE WHEN (SELECT count(*) FROM changed) < %(limit)s THEN p.upto
       ELSE (SELECT max(position) FROM changed) END,
       found.*
FROM p LEFT JOIN (
    changed c CROSS JOIN LATERAL (
        SELECT f.position, f.ordinal, f.account, {_COLUMNS} {_IN_FEED}
    ) AS found
) ON true
ORDER BY found.position, found.ordinal
"""  # noqa: S608 (constants)
_COUNT = f"""
WITH p AS MATERIALIZED ({_PROGRESS}), changed AS MATERIALIZED ({_OF_LISTENER})
SELECT count(*) FROM changed c CROSS JOIN LATERAL (SELECT {_IN_FEED}) AS f
"""  # noqa: S608
_OWNERS = f"""
WITH p AS MATERIALIZED ({_PROGRESS}), changed AS MATERIALIZED (
    SELECT DISTINCT e.account, e.livemode FROM ledger.events e
    WHERE e.notification_id > %(after)s AND e.notification_id <= (SELECT upto FROM p)
)
SELECT p.upto, p.head, c.account, c.livemode,
       (SELECT a.platform FROM ledger.accounts a WHERE a.id = c.account)
FROM p LEFT JOIN changed c ON true
"""  # noqa: S608
_RESENDS = f"""
SELECT r.id, f.account, {_COLUMNS}, f.position, f.ordinal
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


async def read_events(conn: Conn, codec: Codec, account: str, livemode: bool, after: int) -> Batch:
    """The next Events of a listener after a position of the log, on a connection with the setting
    SNAPSHOT_FIRST: what is not among them is never read again. Raises psycopg.Error, UnreadableRecord."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "after": after,
        "positions": RANGE_POSITIONS_MAX,
        "past": _PAST_TOPICS,
        "limit": CHANGES_MAX,
        "ordinals": EVENTS_PER_CHANGE_MAX,
    }
    rows = await fetch_all(conn, _EVENTS, parameters)
    if not rows:  # no feed yet
        return Batch([], after, after)
    head, upto = rows[0][:2]
    places = [row[2:5] for row in rows if row[2] is not None]
    feed_rows = [(*row[5:], *row[2:4]) for row in rows if row[2] is not None]
    opened = await open_events(run_on(conn), codec, feed_rows)
    events = [
        ListenerEvent(position, ordinal, owner, event)
        for (position, ordinal, owner), event in zip(places, opened, strict=True)
    ]
    return Batch(events, max(upto, after), head)


async def count_events(conn: Conn, account: str, livemode: bool, *, after: int, upto: int) -> int:
    """How many Events a listener has to get between two positions of the log, which are not far apart. Raises
    psycopg.Error."""
    parameters = {
        "account": account,
        "livemode": livemode,
        "after": after,
        "positions": upto - after,
        "past": _PAST_TOPICS,
        "ordinals": EVENTS_PER_CHANGE_MAX,
    }
    ((count,),) = await fetch_all(conn, _COUNT, parameters)
    return int(count)


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


async def read_resends(conn: Conn, codec: Codec, session: str, after: int) -> list[Resend]:
    """The Events to send again to a session, after the resend of this id. Raises psycopg.Error,
    UnreadableRecord."""
    parameters = {"session": session, "after": after, "limit": CHANGES_MAX}
    rows = await fetch_all(conn, _RESENDS, parameters)
    events = await open_events(run_on(conn), codec, [row[2:] for row in rows])
    return [Resend(row[0], row[1], event) for row, event in zip(rows, events, strict=True)]


async def delete_resends(conn: Conn, session: str, ids: list[int]) -> None:
    """The session has acknowledged these. Raises psycopg.Error."""
    await conn.execute(_DELETE_RESENDS, {"session": session, "ids": ids})


def bound_created(event_id: str) -> tuple[int, int]:
    """Times (unix seconds) between which an Event of this id was created: any, if the id has none."""
    created_at = parse_id_time(event_id)
    return (0, 2**53) if created_at is None else (int(created_at) - 2, int(created_at) + 2)
