"""Replays as they are kept: started, shown, paused, resumed, cancelled and ended.

Each of these writes an operation on record, with who and why, which a worker logs. One replay at a time goes
to an endpoint: the database enforces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import psycopg

from ledger.errors import InvalidWebhookState, UnknownObject, UnknownReference
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.history.owners import bind_owner, has_endpoint
from ledger.webhooks.replays.filters import ReplayFilter
from ledger.webhooks.replays.progress import COLUMNS, Replay
from ledger.webhooks.schedule import order
from ledger.webhooks.subscriptions import Owner

ReplayAction = Literal["pause", "resume", "cancel"]

_INSERT = """
INSERT INTO webhooks.replays
    (id, endpoint, account, livemode, window_from, window_to, after, upto, asked_types, types, only_failed,
     object, who, reason, created, counted_position, queued_position)
VALUES (%(id)s, %(endpoint)s, %(account)s, %(livemode)s, %(window_from)s, %(window_to)s, %(after)s, %(upto)s,
        %(asked_types)s::text[], %(types)s::text[], %(only_failed)s, %(object)s, %(who)s, %(reason)s,
        %(created)s, %(after)s, %(after)s)
"""
_SELECT = f"""
SELECT {COLUMNS} FROM webhooks.replays r
WHERE (%(account)s::text IS NULL OR r.account = %(account)s AND r.livemode = %(livemode)s)
"""  # noqa: S608 (a constant)
_SELECT_ONE = f"{_SELECT} AND r.id = %(id)s"
_SELECT_PAGE = f"""{_SELECT}
AND (%(endpoint)s::text IS NULL OR r.endpoint = %(endpoint)s)
AND (%(before)s::text IS NULL OR r.id < %(before)s)
ORDER BY r.id DESC LIMIT %(limit)s
"""
_SELECT_UNENDED = "SELECT id FROM webhooks.replays WHERE endpoint = %(endpoint)s AND ended IS NULL"
_LOCK = """
SELECT r.state FROM webhooks.replays r
WHERE r.id = %(id)s
AND (%(account)s::text IS NULL OR r.account = %(account)s AND r.livemode = %(livemode)s)
FOR UPDATE
"""
_PAUSE = """
UPDATE webhooks.replays SET state = 'paused',
    active_seconds = active_seconds + extract(epoch FROM now() - active_since), active_since = NULL
WHERE id = %(id)s
"""
_RESUME = "UPDATE webhooks.replays SET state = 'running', active_since = now() WHERE id = %(id)s"
# What an Event had come to before this replay made its delivery pending again stays known of it. They are
# locked by id, as those who record outcomes lock them.
_DROP_PENDING = """
UPDATE webhooks.deliveries d SET state = CASE
    WHEN EXISTS (SELECT FROM webhooks.attempts a WHERE a.delivery = d.id AND a.status BETWEEN 200 AND 299)
        THEN 'delivered'
    WHEN d.schedule_from > 0 THEN 'failed' ELSE 'dropped' END
FROM (SELECT id FROM webhooks.deliveries WHERE replay = %(id)s AND state = 'pending'
      ORDER BY id FOR UPDATE) AS locked
WHERE d.id = locked.id
"""
_END = """
UPDATE webhooks.replays r SET state = %(state)s, ended = %(ended)s, waits_for = NULL,
    delivered = counts.delivered, failed = counts.failed, dropped = counts.others, active_since = NULL,
    active_seconds = active_seconds + coalesce(extract(epoch FROM now() - active_since), 0)
FROM (SELECT count(*) FILTER (WHERE d.state = 'delivered') AS delivered,
             count(*) FILTER (WHERE d.state = 'failed') AS failed,
             count(*) FILTER (WHERE d.state NOT IN ('delivered', 'failed')) AS others
      FROM webhooks.deliveries d WHERE d.replay = %(id)s) AS counts
WHERE r.id = %(id)s
"""
_RECORD_OPERATION = """
INSERT INTO ledger.operations (who, action, account, details)
SELECT %(who)s, %(action)s, r.account, jsonb_strip_nulls(jsonb_build_object(
    'replay', r.id, 'endpoint', r.endpoint, 'mode', CASE WHEN r.livemode THEN 'live' ELSE 'test' END,
    'reason', nullif(%(reason)s, '')) || %(details)s::jsonb)
FROM webhooks.replays r WHERE r.id = %(id)s
"""
# The replay before its deliveries, as whoever ends it does. A retry of many counts it as dropped instead.
_LOCK_REPLAY_OF = """
SELECT FROM webhooks.replays
WHERE id = (SELECT d.replay FROM webhooks.deliveries d WHERE d.id = %(delivery)s) FOR UPDATE
"""
_UNREADABLE_DELIVERY = """
WITH settled AS (
    UPDATE webhooks.deliveries SET state = 'dropped', leased_until = '-infinity',
        replay = CASE WHEN old.of_replay THEN NULL ELSE old.replay END
    FROM (SELECT d.id, d.replay, EXISTS (SELECT FROM webhooks.replays r WHERE r.id = d.replay) AS of_replay
          FROM webhooks.deliveries d
          WHERE d.id = %(delivery)s AND d.state = 'pending' AND d.replay IS NOT NULL FOR UPDATE) AS old
    WHERE deliveries.id = old.id RETURNING old.replay)
UPDATE webhooks.replays r SET queued = queued - 1, unreadable = unreadable + 1
FROM settled WHERE r.id = settled.replay
"""
REASON_LENGTH_MAX = 500
SYSTEM = "ledger"
"""Who ends a replay when no person does."""


class Actor(NamedTuple):
    """Who does something to a replay (a key's id, or user@host of a shell), and why."""

    who: str
    reason: str = ""


async def start_replay(
    conn: Conn, chosen: ReplayFilter, asked_types: Sequence[str], actor: Actor, *, now: float
) -> Replay:
    """Record a replay, which a worker then runs. Raises InvalidWebhookState, naming the first one, while
    another replay goes to the endpoint."""
    replay_id = new_id("whr", now)
    parameters = {
        **chosen._asdict(), "id": replay_id, "asked_types": list(asked_types),
        "types": None if chosen.types is None else sorted(chosen.types),
        **actor._asdict(), "created": int(now),
    }  # fmt: skip
    details = {
        "from": chosen.window_from, "to": chosen.window_to, "types": list(asked_types),
        "only_failed": chosen.only_failed, "object": chosen.object,
    }  # fmt: skip
    try:
        async with conn.transaction():
            await conn.execute(_INSERT, parameters)
            await _record_operation(conn, replay_id, "webhook_replay_started", actor, details)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "replays_one_of_endpoint":
            raise
        row = await fetch_one(conn, _SELECT_UNENDED, {"endpoint": chosen.endpoint})
        first = "" if row is None else f" {row[0]}"
        raise InvalidWebhookState(
            f"The replay{first} to {chosen.endpoint} has not ended: wait for it, or cancel it first.",
            param="endpoint",
        ) from None
    return await get_replay(conn, replay_id, owner=None)


async def get_replay(conn: Conn, replay_id: str, *, owner: Owner | None) -> Replay:
    """The replay with its progress. Raises UnknownObject when `owner` (None: an operator's shell) has no
    such replay."""
    replay = await _find_replay(conn, replay_id, owner)
    if replay is None:
        raise UnknownObject("replay", replay_id)
    return replay


async def list_replays(
    conn: Conn,
    *,
    owner: Owner | None,
    endpoint: str | None = None,
    starting_after: str | None = None,
    limit: int,
) -> tuple[list[Replay], bool]:
    """Replays, newest first, and whether there are more. Raises UnknownReference for an endpoint that is not
    the owner's, and for a cursor that is none of the replays."""
    if endpoint is not None and not await has_endpoint(conn, endpoint, owner):
        raise UnknownReference("webhook endpoint", endpoint, param="endpoint")
    if starting_after is not None and await _find_replay(conn, starting_after, owner) is None:
        raise UnknownReference("replay", starting_after, param="starting_after")
    parameters = {**bind_owner(owner), "endpoint": endpoint, "before": starting_after, "limit": limit + 1}
    rows = await fetch_all(conn, _SELECT_PAGE.encode(), parameters)
    return [Replay.from_row(row) for row in rows[:limit]], len(rows) > limit


async def change_replay(
    conn: Conn, replay_id: str, action: ReplayAction, actor: Actor, *, owner: Owner | None, now: float
) -> Replay:
    """Pause, resume or cancel a replay. Doing again what is so already changes nothing. Raises UnknownObject,
    and InvalidWebhookState for one that has ended."""
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK, {**bind_owner(owner), "id": replay_id})
        if row is None:
            raise UnknownObject("replay", replay_id)
        state = row[0]
        target = {"pause": "paused", "resume": "running", "cancel": "cancelled"}[action]
        if state != target:
            if state in ("completed", "cancelled"):
                raise InvalidWebhookState(f"The replay {replay_id} has ended: it is {state}.", param="id")
            if action == "cancel":
                await end_replay(conn, replay_id, "cancelled", actor, now=now)
            else:
                await conn.execute(_PAUSE if action == "pause" else _RESUME, {"id": replay_id})
                await _record_operation(conn, replay_id, f"webhook_replay_{action}d", actor)
        return await get_replay(conn, replay_id, owner=owner)


async def end_replay(
    conn: Conn, replay_id: str, state: Literal["completed", "cancelled"], actor: Actor, *, now: float
) -> None:
    """End a replay that the caller's transaction has locked: keep the counts, which outlive its deliveries,
    and give up what is pending of it."""
    await conn.execute(_END, {"id": replay_id, "state": state, "ended": int(now)})
    await conn.execute(_DROP_PENDING, {"id": replay_id})
    await order.release_first(conn, now)
    replay = await get_replay(conn, replay_id, owner=None)
    details = {"delivered": replay.delivered, "failed": replay.failed, "dropped": replay.dropped}
    await _record_operation(conn, replay_id, f"webhook_replay_{state}", actor, details)


async def _find_replay(conn: Conn, replay_id: str, owner: Owner | None) -> Replay | None:
    row = await fetch_one(conn, _SELECT_ONE.encode(), {**bind_owner(owner), "id": replay_id})
    return None if row is None else Replay.from_row(row)


async def drop_unreadable(conn: Conn, delivery: str) -> None:
    """Send a delivery of a replay no more, because its Event cannot be made; the replay counts it."""
    await conn.execute(_LOCK_REPLAY_OF, {"delivery": delivery})
    await conn.execute(_UNREADABLE_DELIVERY, {"delivery": delivery})


async def _record_operation(
    conn: Conn, replay_id: str, action: str, actor: Actor, details: dict[str, Any] | None = None
) -> None:
    parameters = {
        **actor._asdict(), "id": replay_id, "action": action,
        "details": msgspec.json.encode(details or {}).decode(),
    }  # fmt: skip
    await conn.execute(_RECORD_OPERATION, parameters)
