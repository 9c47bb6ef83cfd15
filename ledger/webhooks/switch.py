"""Whether webhooks are sent, and why not: the newest row of `ledger.activations`, which all processes obey.

Operators pause and resume them. They are also off in a copy of the database, a restored dump for example,
until an operator makes it the one that acts; there due dates, sealing and witnesses wait too. What is pending
stays pending. Each change is one more row, with who made it and why.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

from ledger.postgres.connections import Conn, fetch_one

SEE = "docs/operations.md, Webhooks are off"

Setting = Literal["on", "off"]

_SELECT_NEWEST = """
SELECT ledger.is_active_database(), a.sends_webhooks, a.action, a.who, a.reason,
       extract(epoch FROM a.at)::float8
FROM ledger.activations a ORDER BY a.id DESC LIMIT 1
"""
# A pause leaves the database that acts as it was, also where that is another one.
_INSERT = """
INSERT INTO ledger.activations
    (action, who, reason, database_oid, table_oid, system_identifier, sends_webhooks, details)
SELECT %(action)s, %(who)s, %(reason)s,
       CASE %(action)s WHEN 'resume' THEN t.database_oid WHEN 'pause' THEN a.database_oid END,
       CASE %(action)s WHEN 'resume' THEN t.table_oid WHEN 'pause' THEN a.table_oid END,
       CASE %(action)s WHEN 'resume' THEN t.system_identifier WHEN 'pause' THEN a.system_identifier END,
       %(action)s <> 'pause', %(details)s::jsonb
FROM ledger.this_database() t, (SELECT * FROM ledger.activations ORDER BY id DESC LIMIT 1) a
"""

log = structlog.get_logger()


class OffReason(StrEnum):
    """Why webhooks are not sent.

    COPY     this database is a copy of the one that acts: nothing happens by itself
    PAUSED   an operator has paused them
    SETTING  LEDGER_WEBHOOKS=off in this process; others may send
    """

    COPY = "copy"
    PAUSED = "paused"
    SETTING = "setting"


class Switch(NamedTuple):
    """What the database says.

    is_active  whether this database is the one that acts
    sends      whether webhooks are not paused
    action     the last change, by `who`, `reason` why, `at` unix seconds; '' before the first start
    """

    is_active: bool = True
    sends: bool = True
    action: str = ""
    who: str = ""
    reason: str = ""
    at: float = 0.0

    def list_off_reasons(self, setting: Setting) -> list[OffReason]:
        """Why a process with this LEDGER_WEBHOOKS sends none; [] if it sends them."""
        is_off = {
            OffReason.COPY: not self.is_active,
            OffReason.PAUSED: not self.sends,
            OffReason.SETTING: setting == "off",
        }
        return [reason for reason, applies in is_off.items() if applies]


async def read_switch(conn: Conn) -> Switch:
    """What the database says. Raises psycopg.Error."""
    row = await fetch_one(conn, _SELECT_NEWEST)
    return Switch() if row is None else Switch(*row)


async def pause(conn: Conn, who: str, reason: str) -> None:
    """Send no webhooks from now on. Attempts under way end. Raises psycopg.Error."""
    await _record(conn, "pause", who, reason, {})


async def declare_copy(conn: Conn, who: str, reason: str) -> None:
    """Let nothing happen by itself in this database: it is a copy that could not be recognised as one. Raises
    psycopg.Error."""
    await _record(conn, "declare_copy", who, reason, {})


async def resume(conn: Conn, who: str, reason: str, details: dict[str, Any]) -> None:
    """Send webhooks, and make this database the one that acts. `details` are for the record. Raises
    psycopg.Error."""
    await _record(conn, "resume", who, reason, details)


async def _record(conn: Conn, action: str, who: str, reason: str, details: dict[str, Any]) -> None:
    parameters = {
        "action": action,
        "who": who,
        "reason": reason,
        "details": msgspec.json.encode(details).decode(),
    }
    await conn.execute(_INSERT, parameters)


class SwitchLog:
    """Logs for one process that webhooks are off, for which reasons, and that they are sent again. `setting`
    is its LEDGER_WEBHOOKS."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._logged: list[OffReason] = []

    async def observe(self, conn: Conn) -> None:
        """Read the switch, and log if its reasons are others than the last time. Raises psycopg.Error."""
        switch = await read_switch(conn)
        reasons = switch.list_off_reasons(self._setting)
        if reasons == self._logged:
            return
        self._logged = reasons
        if not reasons:
            log.warning("webhooks_on", by=switch.who, why=switch.reason)
            return
        waits = ["webhooks"]
        if OffReason.COPY in reasons:
            waits += ["due dates", "checkpoints", "witnesses"]
        # A restored copy has the last change of the original, which is not what turned webhooks off here.
        made_off = switch.action in ("pause", "declare_copy")
        change = {"by": switch.who, "why": switch.reason} if made_off else {}
        log.warning("webhooks_off", reasons=reasons, waits=waits, **change, see=SEE)
