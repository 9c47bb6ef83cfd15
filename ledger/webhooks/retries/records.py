"""Retries of many as they are kept: started, shown, paused, resumed, cancelled and ended.

Each of these writes an operation on record, with who and why, which a worker logs. A cancelled retry gives
what is pending of it its former state back: nothing that was owed before is lost, and nothing else is owed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ledger.errors import InvalidWebhookState, UnknownObject, UnknownReference
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.history.owners import bind_owner
from ledger.webhooks.replays.records import Actor, ReplayAction
from ledger.webhooks.retries.filters import RetryFilter
from ledger.webhooks.retries.progress import COLUMNS, Retry
from ledger.webhooks.schedule import order
from ledger.webhooks.subscriptions import Owner

UNENDED_MAX = 50
"""So many retries of an account may run or be paused at a time."""

# Two at once count the same, so there may be one or two more.
_INSERT = """
INSERT INTO webhooks.retries
    (id, account, livemode, endpoint, event, states, asked_types, types, created_bounds, first_id, before_id,
     status, error, who, reason, created)
SELECT %(id)s, %(account)s, %(livemode)s, %(endpoint)s, %(event)s, %(states)s::text[],
       %(asked_types)s::text[], %(types)s::text[], %(bounds)s::jsonb, %(first_id)s, %(before_id)s, %(status)s,
       %(error)s, %(who)s, %(reason)s, %(created)s
WHERE (SELECT count(*) FROM webhooks.retries r
       WHERE r.account = %(account)s AND r.livemode = %(livemode)s AND r.ended IS NULL) < %(unended_max)s
RETURNING id
"""
_INSERT_PARTS = """
INSERT INTO webhooks.retry_parts (retry, endpoint, counted_id, taken_id)
SELECT %(id)s, endpoint, '', '' FROM unnest(%(endpoints)s::text[]) AS endpoint
"""
_SELECT = f"""
SELECT {COLUMNS} FROM webhooks.retries r
WHERE (%(account)s::text IS NULL OR r.account = %(account)s AND r.livemode = %(livemode)s)
"""  # noqa: S608 (a constant)
_SELECT_ONE = f"{_SELECT} AND r.id = %(id)s"
_SELECT_PAGE = f"""{_SELECT}
AND (%(before)s::text IS NULL OR r.id < %(before)s)
ORDER BY r.id DESC LIMIT %(limit)s
"""
_LOCK = """
SELECT r.state FROM webhooks.retries r
WHERE r.id = %(id)s
AND (%(account)s::text IS NULL OR r.account = %(account)s AND r.livemode = %(livemode)s)
FOR UPDATE
"""
_PAUSE = """
UPDATE webhooks.retries SET state = 'paused',
    active_seconds = active_seconds + extract(epoch FROM now() - active_since), active_since = NULL
WHERE id = %(id)s
"""
_RESUME = "UPDATE webhooks.retries SET state = 'running', active_since = now() WHERE id = %(id)s"
_END = """
UPDATE webhooks.retries r SET state = %(state)s, ended = %(ended)s, failed = counts.failed,
    dropped = counts.dropped, returned = counts.pending,
    delivered = (SELECT coalesce(sum(p.made_due), 0) FROM webhooks.retry_parts p WHERE p.retry = %(id)s)
                - counts.failed - counts.dropped - counts.pending,
    active_since = NULL,
    active_seconds = active_seconds + coalesce(extract(epoch FROM now() - active_since), 0)
FROM (SELECT count(*) FILTER (WHERE d.state = 'failed') AS failed,
             count(*) FILTER (WHERE d.state = 'dropped') AS dropped,
             count(*) FILTER (WHERE d.state = 'pending') AS pending
      FROM webhooks.deliveries d
      WHERE d.replay = %(id)s AND d.state = ANY ('{failed,dropped,pending}')) AS counts
WHERE r.id = %(id)s
"""
# One that was pending stays so, due by now, and belongs to no job any more. An attempt under way ends: if it
# is accepted, the delivery is delivered. Locked as those who record outcomes lock them.
_RETURN_PENDING = """
UPDATE webhooks.deliveries d SET state = d.retried_from,
    replay = CASE WHEN d.retried_from = 'pending' THEN NULL ELSE d.replay END
FROM (SELECT id FROM webhooks.deliveries WHERE replay = %(id)s AND state = 'pending'
      ORDER BY endpoint, id FOR UPDATE) AS locked
WHERE d.id = locked.id
"""
_RECORD_OPERATION = """
INSERT INTO ledger.operations (who, action, account, details)
SELECT %(who)s, %(action)s, r.account, jsonb_strip_nulls(jsonb_build_object(
    'retry', r.id, 'mode', CASE WHEN r.livemode THEN 'live' ELSE 'test' END,
    'reason', nullif(%(reason)s, '')) || %(details)s::jsonb)
FROM webhooks.retries r WHERE r.id = %(id)s
"""


async def start_retry(conn: Conn, chosen: RetryFilter, actor: Actor, *, now: float) -> Retry:
    """Record a retry, which a worker then runs. Raises InvalidWebhookState while too many of the account have
    not ended."""
    retry_id, request = new_id("wrt", now), chosen.request
    parameters = {
        "id": retry_id, "account": chosen.account, "livemode": chosen.livemode, "endpoint": request.endpoint,
        "event": request.event, "states": list(chosen.states), "asked_types": list(request.types),
        "types": None if chosen.types is None else list(chosen.types),
        "bounds": msgspec.json.encode(request.created).decode(), "first_id": chosen.first_id,
        "before_id": chosen.before_id, "status": request.status, "error": request.error,
        **actor._asdict(), "created": int(now), "unended_max": UNENDED_MAX,
        "endpoints": list(chosen.endpoints),
    }  # fmt: skip
    details = {
        "endpoint": request.endpoint, "event_id": request.event, "states": list(chosen.states),
        "types": list(request.types), "created": request.created, "status": request.status,
        "error": request.error,
    }  # fmt: skip
    async with conn.transaction():
        if await fetch_one(conn, _INSERT, parameters) is None:
            raise InvalidWebhookState(
                f"{UNENDED_MAX} retries of this account have not ended: wait for them, or cancel one first."
            )
        await conn.execute(_INSERT_PARTS, parameters)
        await _record_operation(conn, retry_id, "webhook_retry_started", actor, details)
    return await get_retry(conn, retry_id, owner=None)


async def get_retry(conn: Conn, retry_id: str, *, owner: Owner | None) -> Retry:
    """The retry with its progress. Raises UnknownObject when `owner` (None: an operator's shell) has no such
    retry."""
    retry = await _find_retry(conn, retry_id, owner)
    if retry is None:
        raise UnknownObject("retry", retry_id)
    return retry


async def list_retries(
    conn: Conn, *, owner: Owner | None, starting_after: str | None = None, limit: int
) -> tuple[list[Retry], bool]:
    """Retries, newest first, and whether there are more. Raises UnknownReference for a cursor that is none of
    them."""
    if starting_after is not None and await _find_retry(conn, starting_after, owner) is None:
        raise UnknownReference("retry", starting_after, param="starting_after")
    parameters = {**bind_owner(owner), "before": starting_after, "limit": limit + 1}
    rows = await fetch_all(conn, _SELECT_PAGE.encode(), parameters)
    return [Retry.from_row(row) for row in rows[:limit]], len(rows) > limit


async def change_retry(
    conn: Conn, retry_id: str, action: ReplayAction, actor: Actor, *, owner: Owner | None, now: float
) -> Retry:
    """Pause, resume or cancel a retry. Doing again what is so already changes nothing. Raises UnknownObject,
    and InvalidWebhookState for one that has ended."""
    async with conn.transaction():
        row = await fetch_one(conn, _LOCK, {**bind_owner(owner), "id": retry_id})
        if row is None:
            raise UnknownObject("retry", retry_id)
        state = row[0]
        target = {"pause": "paused", "resume": "running", "cancel": "cancelled"}[action]
        if state != target:
            if state in ("completed", "cancelled"):
                raise InvalidWebhookState(f"The retry {retry_id} has ended: it is {state}.", param="id")
            if action == "cancel":
                await end_retry(conn, retry_id, "cancelled", actor, now=now)
            else:
                await conn.execute(_PAUSE if action == "pause" else _RESUME, {"id": retry_id})
                await _record_operation(conn, retry_id, f"webhook_retry_{action}d", actor)
        return await get_retry(conn, retry_id, owner=owner)


async def end_retry(
    conn: Conn, retry_id: str, state: Literal["completed", "cancelled"], actor: Actor, *, now: float
) -> None:
    """End a retry that the caller's transaction has locked: keep the counts, which outlive its deliveries,
    and give what is pending of it its former state back."""
    await conn.execute(_END, {"id": retry_id, "state": state, "ended": int(now)})
    await conn.execute(_RETURN_PENDING, {"id": retry_id})
    await order.release_first(conn, now)
    retry = await get_retry(conn, retry_id, owner=None)
    details = {
        "delivered": retry.delivered, "failed": retry.failed, "dropped": retry.dropped,
        "returned": retry.returned, "left_out": sum(retry.left_out.values()),
    }  # fmt: skip
    await _record_operation(conn, retry_id, f"webhook_retry_{state}", actor, details)


async def _find_retry(conn: Conn, retry_id: str, owner: Owner | None) -> Retry | None:
    row = await fetch_one(conn, _SELECT_ONE.encode(), {**bind_owner(owner), "id": retry_id})
    return None if row is None else Retry.from_row(row)


async def _record_operation(
    conn: Conn, retry_id: str, action: str, actor: Actor, details: dict[str, Any] | None = None
) -> None:
    parameters = {
        **actor._asdict(), "id": retry_id, "action": action,
        "details": msgspec.json.encode(details or {}).decode(),
    }  # fmt: skip
    await conn.execute(_RECORD_OPERATION, parameters)
