"""Alerts and their events as they are kept, and how operators are shown them.

Whoever changes alerts locks the row of the lease, so the process that watches and an operator who clears one
come one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import structlog
from psycopg.types.json import Jsonb

from ledger.alerts.conditions import REMEDIES, Condition, describe_remedy
from ledger.alerts.transitions import LastingAlert, Transition
from ledger.errors import InvalidAlertState, UnknownObject, UnknownReference
from ledger.ids import new_id
from ledger.postgres.connections import Conn, fetch_all, fetch_one

REASON_LENGTH_MAX = 500
EVENTS_SHOWN_MAX = 100
KEPT_DAYS = 400
DELETE_ROWS_MAX = 1000

ListState = Literal["active", "ended"]
EventType = Literal["raised", "elevated", "resolved", "cleared"]

_LASTING = """
SELECT id, key, kind, severity, summary, cause, details, state,
       extract(epoch FROM now() - absent_since)::float8
FROM alerts.alerts WHERE lasts ORDER BY id
"""
_INSERT = """
INSERT INTO alerts.alerts (id, key, kind, severity, summary, cause, details)
VALUES (%(id)s, %(key)s, %(kind)s, %(severity)s, %(summary)s, %(cause)s, %(details)s)
"""
# Of a cleared alert what an operator was shown when clearing it stays.
_UPDATE = """
UPDATE alerts.alerts SET absent_since = NULL,
    severity = CASE state WHEN 'active' THEN %(severity)s ELSE severity END,
    summary = CASE state WHEN 'active' THEN %(summary)s ELSE summary END,
    cause = CASE state WHEN 'active' THEN %(cause)s ELSE cause END,
    details = CASE state WHEN 'active' THEN %(details)s ELSE details END
WHERE id = %(id)s AND lasts
"""
_NOTE_ABSENT = "UPDATE alerts.alerts SET absent_since = now() WHERE id = %(id)s AND lasts"
_RESOLVE = """
UPDATE alerts.alerts SET state = 'resolved', lasts = false, ended_at = now()
WHERE id = %(id)s AND state = 'active'
"""
_RELEASE = "UPDATE alerts.alerts SET lasts = false WHERE id = %(id)s AND state = 'cleared'"
_CLEAR = """
UPDATE alerts.alerts SET state = 'cleared', ended_at = now() WHERE id = %(id)s AND state = 'active'
"""
# The event says what the alert says now; one notice for each receiver that there is.
_INSERT_EVENT = """
WITH event AS (
    INSERT INTO alerts.events (id, alert, type, severity, summary, cause, details, who, reason)
    SELECT %(event)s, a.id, %(type)s, a.severity, a.summary, a.cause, a.details, %(who)s, %(reason)s
    FROM alerts.alerts a WHERE a.id = %(id)s
    RETURNING sequence)
INSERT INTO alerts.notices (receiver, sequence)
SELECT r.id, event.sequence FROM event, alerts.receivers r WHERE r.removed_at IS NULL
"""
_LOCK = "SELECT FROM alerts.lease FOR UPDATE"
_STATE = "SELECT state FROM alerts.alerts WHERE id = %(id)s"
_SELECT = """
SELECT a.id, a.key, a.kind, a.severity, a.summary, a.cause, a.details, a.state, a.lasts,
       extract(epoch FROM a.raised_at)::float8, extract(epoch FROM a.ended_at)::float8,
       (SELECT e.who FROM alerts.events e WHERE e.alert = a.id AND e.type = 'cleared'),
       (SELECT e.reason FROM alerts.events e WHERE e.alert = a.id AND e.type = 'cleared')
FROM alerts.alerts a
"""
_SELECT_ONE = f"{_SELECT} WHERE a.id = %(id)s"
_SELECT_PAGE = f"""{_SELECT}
WHERE (%(state)s::text IS NULL OR (a.state = 'active') = (%(state)s = 'active'))
AND (%(before)s::text IS NULL OR a.id < %(before)s)
ORDER BY a.id DESC LIMIT %(limit)s
"""
_EVENTS = """
SELECT e.sequence, e.id, e.type, extract(epoch FROM e.at)::float8, e.severity, e.summary, e.cause, e.who,
       e.reason
FROM alerts.events e WHERE e.alert = %(id)s ORDER BY e.sequence DESC LIMIT %(limit)s
"""
_NOTICES = """
SELECT n.sequence, n.receiver, r.host, r.removed_at IS NOT NULL, n.state, n.attempts,
       extract(epoch FROM n.attempted_at)::float8, n.status, n.error, n.duration_ms,
       CASE WHEN n.state = 'pending' THEN extract(epoch FROM n.due_at)::float8 END
FROM alerts.notices n JOIN alerts.receivers r ON r.id = n.receiver
WHERE n.sequence = ANY (%(sequences)s::bigint[]) ORDER BY n.receiver
"""
_COUNT = "SELECT kind, severity, count(*) FROM alerts.alerts WHERE state = 'active' GROUP BY kind, severity"
_LOOKED_AT = "SELECT extract(epoch FROM now() - looked_at)::float8 FROM alerts.lease"
_DELETE_OLD = """
DELETE FROM alerts.alerts WHERE id = ANY (ARRAY(
    SELECT id FROM alerts.alerts WHERE ended_at < now() - %(days)s * interval '1 day' AND NOT lasts
    ORDER BY ended_at LIMIT %(limit)s))
"""
_RECORD_OPERATION = """
INSERT INTO ledger.operations (who, action, account, details)
VALUES (%(who)s, %(action)s, %(account)s, %(details)s)
"""
_STEPS: Mapping[str, str] = {"resolve": _RESOLVE, "release": _RELEASE, "note_absent": _NOTE_ABSENT}
_EVENT_OF_STEP: Mapping[str, EventType] = {
    "raise": "raised", "elevate": "elevated", "resolve": "resolved",
}  # fmt: skip

log = structlog.get_logger()


class Actor(NamedTuple):
    """An operator: who (a key's id, or user@host of a shell), of which account, and why."""

    who: str
    account: str
    reason: str = ""


async def read_lasting(conn: Conn) -> list[LastingAlert]:
    """The alerts whose conditions last, by what is known. Raises psycopg.Error."""
    return [LastingAlert(*row) for row in await fetch_all(conn, _LASTING)]


async def apply_transitions(conn: Conn, transitions: Sequence[Transition]) -> None:
    """Do these steps, with their events and notices, in the caller's transaction, which holds the lease."""
    for step, alert, condition in transitions:
        alert_id = new_id("alrt", time.time()) if alert is None else alert.id
        if condition is None:
            await conn.execute(_STEPS[step].encode(), {"id": alert_id})
        else:
            await conn.execute(_INSERT if alert is None else _UPDATE, _bind(alert_id, condition))
        if step in _EVENT_OF_STEP:
            await _insert_event(conn, alert_id, _EVENT_OF_STEP[step])


def log_transitions(transitions: Sequence[Transition]) -> None:
    """Log the steps that make an event, once they are committed."""
    for step, alert, condition in transitions:
        if condition is not None and step in ("raise", "elevate"):
            facts = {"key": condition.key, "severity": condition.severity}
            see = REMEDIES[condition.kind][1]
            log.warning(f"alert_{_EVENT_OF_STEP[step]}", **facts, cause=condition.cause, see=see)
        elif step == "resolve" and alert is not None:
            log.info("alert_resolved", alert=alert.id, key=alert.key)


async def clear_alert(conn: Conn, alert_id: str, actor: Actor) -> None:
    """Close an alert by hand while its condition lasts, on record. One that is cleared stays as it is. Raises
    UnknownObject, and InvalidAlertState for one that has resolved."""
    async with conn.transaction():
        await conn.execute(_LOCK)
        row = await fetch_one(conn, _STATE, {"id": alert_id})
        if row is None:
            raise UnknownObject("alert", alert_id)
        if row[0] == "resolved":
            raise InvalidAlertState(
                f"The alert {alert_id} has resolved by itself: there is nothing to clear."
            )
        if row[0] == "active":
            await conn.execute(_CLEAR, {"id": alert_id})
            await _insert_event(conn, alert_id, "cleared", actor)
            await record_operation(conn, "alert_cleared", actor, {"alert": alert_id})


async def record_operation(conn: Conn, action: str, actor: Actor, details: Mapping[str, Any]) -> None:
    """Keep on record what an operator does, in the caller's transaction; a worker logs it from there."""
    reason = {"reason": actor.reason} if actor.reason else {}
    parameters = {
        "who": actor.who, "action": action, "account": actor.account, "details": Jsonb({**details, **reason}),
    }  # fmt: skip
    await conn.execute(_RECORD_OPERATION, parameters)


async def list_alerts(
    conn: Conn, *, state: ListState | None = None, starting_after: str | None = None, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Alerts, newest first, and whether there are more. Raises UnknownReference for a cursor that is no
    alert."""
    if starting_after is not None and await fetch_one(conn, _STATE, {"id": starting_after}) is None:
        raise UnknownReference("alert", starting_after, param="starting_after")
    parameters = {"state": state, "before": starting_after, "limit": limit + 1}
    rows = await fetch_all(conn, _SELECT_PAGE.encode(), parameters)
    return [_render(*row) for row in rows[:limit]], len(rows) > limit


async def get_alert(conn: Conn, alert_id: str) -> dict[str, Any]:
    """An alert with its newest EVENTS_SHOWN_MAX events, the oldest of them first, and their notices. Raises
    UnknownObject."""
    row = await fetch_one(conn, _SELECT_ONE.encode(), {"id": alert_id})
    if row is None:
        raise UnknownObject("alert", alert_id)
    events = await fetch_all(conn, _EVENTS, {"id": alert_id, "limit": EVENTS_SHOWN_MAX})
    notices: dict[int, list[dict[str, Any]]] = {event[0]: [] for event in events}
    for sequence, *values in await fetch_all(conn, _NOTICES, {"sequences": list(notices)}):
        names = ("receiver", "host", "removed", "state", "attempts", "attempted_at", "status", "error",
                 "duration_ms", "next_attempt_at")  # fmt: skip
        notices[sequence].append(dict(zip(names, values, strict=True)))
    members = ("id", "type", "at", "severity", "summary", "cause", "who", "reason")
    shown = [
        {**dict(zip(members, values, strict=True)), "notices": notices[sequence]}
        for sequence, *values in reversed(events)
    ]
    return {**_render(*row), "events": shown}


async def count_active(conn: Conn) -> dict[tuple[str, str], int]:
    """How many alerts are active, by kind and severity. Raises psycopg.Error."""
    return {(kind, severity): count for kind, severity, count in await fetch_all(conn, _COUNT)}


async def read_look_age(conn: Conn) -> float | None:
    """How many seconds ago the service was last looked at; None: never. Raises psycopg.Error."""
    row = await fetch_one(conn, _LOOKED_AT)
    age: float | None = None if row is None else row[0]
    return age


async def delete_old(conn: Conn) -> None:
    """Delete alerts that ended more than KEPT_DAYS ago, with all that belongs to them."""
    await conn.execute(_DELETE_OLD, {"days": KEPT_DAYS, "limit": DELETE_ROWS_MAX})


def render_alert(
    alert_id: str, key: str, kind: str, severity: str, summary: str, cause: str, details: Mapping[str, Any],
    state: str, raised_at: float, ended_at: float | None,
) -> dict[str, Any]:  # fmt: skip
    """An alert as receivers get it. Times are in unix seconds."""
    action, see = describe_remedy(kind, details)
    return {
        "id": alert_id,
        "object": "alert",
        "kind": kind,
        "key": key,
        "severity": severity,
        "state": state,
        "summary": summary,
        "cause": cause,
        "remedy": {"action": action, "see": see},
        "details": details,
        "raised_at": raised_at,
        "ended_at": ended_at,
    }


def _render(
    alert_id: str, key: str, kind: str, severity: str, summary: str, cause: str, details: Mapping[str, Any],
    state: str, lasts: bool, raised_at: float, ended_at: float | None, who: str | None, reason: str | None,
) -> dict[str, Any]:  # fmt: skip
    shown = render_alert(
        alert_id, key, kind, severity, summary, cause, details, state, raised_at, ended_at
    )  # fmt: skip
    return {**shown, "condition_lasts": lasts, "cleared_by": who, "clear_reason": reason}


def _bind(alert_id: str, condition: Condition) -> dict[str, Any]:
    return {**condition._asdict(), "id": alert_id, "details": Jsonb(condition.details, msgspec.json.encode)}


async def _insert_event(conn: Conn, alert_id: str, event_type: EventType, actor: Actor | None = None) -> None:
    parameters = {
        "event": new_id("alev", time.time()), "id": alert_id, "type": event_type,
        "who": None if actor is None else actor.who, "reason": None if actor is None else actor.reason,
    }  # fmt: skip
    await conn.execute(_INSERT_EVENT, parameters)
