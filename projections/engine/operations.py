"""The record of what operators do to projections: who, what, when and why.

Rows of `projections.operations` are never changed. An operator's idempotency key makes a repeated request
take effect once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from psycopg.errors import UniqueViolation

from ledger.errors import IdempotencyKeyReused, LedgerError
from ledger.postgres.connections import Conn, fetch_all

_RECORD = """
INSERT INTO projections.operations
    (who, action, projection, generation, position, reason, idempotency_key, details)
VALUES (%(who)s, %(action)s, %(projection)s, %(generation)s, %(position)s, %(reason)s, %(key)s, %(details)s)
"""
# Rows that an older release wrote have no fingerprint ('asked').
_SELECT_BY_KEY = """
SELECT details ->> 'asked', action = %(action)s AND projection = %(projection)s, generation, details - 'asked'
FROM projections.operations
WHERE who = %(who)s AND idempotency_key = %(key)s ORDER BY id
"""
_OPERATIONS = """
SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), who, action, generation, position,
       reason, details - 'asked'
FROM projections.operations WHERE projection = %(projection)s ORDER BY id DESC LIMIT 50
"""


class Operator(NamedTuple):
    """Who acts, and why: both are recorded. An action with an idempotency key takes effect once;
    `fingerprint` identifies the request, and another use of the key must have the same."""

    who: str
    reason: str = ""
    idempotency_key: str | None = None
    fingerprint: str = ""


class DoneOperation(NamedTuple):
    """What is on record of an operation: the generation, and details such as the number of the rebuild."""

    generation: int
    details: dict[str, Any]


class AlreadyDone(LedgerError):
    """The operator's idempotency key was used for this action before; nothing has changed now."""


async def list_operations(conn: Conn, name: str) -> list[dict[str, Any]]:
    """The latest 50 operations on a projection, newest first, as JSON shows them."""
    columns = ("at", "who", "action", "generation", "position", "reason", "details")
    rows = await fetch_all(conn, _OPERATIONS, {"projection": name})
    return [dict(zip(columns, row, strict=True)) for row in rows]


async def find_done(conn: Conn, operator: Operator, action: str, name: str) -> DoneOperation | None:
    """What was recorded when the operator's idempotency key was used for this action before; None when it was
    not, or when there is no key. Raises IdempotencyKeyReused when it was used for another action."""
    if operator.idempotency_key is None:
        return None
    parameters = {"who": operator.who, "key": operator.idempotency_key, "action": action, "projection": name}
    rows = await fetch_all(conn, _SELECT_BY_KEY, parameters)
    if any(fingerprint not in (None, operator.fingerprint) for fingerprint, *_ in rows):
        raise IdempotencyKeyReused(
            "Keys for idempotent requests can only be used with the same parameters they were first used "
            f"with. Try using a key other than '{operator.idempotency_key}' if you meant to execute a "
            "different request."
        )
    for fingerprint, is_same_action, generation, details in rows:
        if fingerprint is not None or is_same_action:
            return DoneOperation(generation, details)
    return None


async def record(
    conn: Conn,
    operator: Operator,
    action: str,
    name: str,
    generation: int,
    position: int,
    details: Mapping[str, Any],
) -> None:
    """Record an operation in the current transaction. Raises AlreadyDone, which rolls back a repeated one."""
    fingerprint = {} if operator.idempotency_key is None else {"asked": operator.fingerprint}
    parameters = {
        "who": operator.who,
        "action": action,
        "projection": name,
        "generation": generation,
        "position": position,
        "reason": operator.reason,
        "key": operator.idempotency_key,
        "details": msgspec.json.encode({**details, **fingerprint}).decode(),
    }
    try:
        await conn.execute(_RECORD, parameters)
    except UniqueViolation:
        raise AlreadyDone from None
