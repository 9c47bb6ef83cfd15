"""What auditors looked at: recorded before they see the answer, listed for other auditors.

The records are kept beside the log, in `ledger.audit_accesses`, which nobody may change. They show no
personal data: a parameter is kept as it was given only if its name is in CLEAR_PARAMETERS and it looks like
an id, a time or a word; else a keyed digest of it is kept. Equal values have equal digests.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import structlog

from ledger.audit.auditor import Auditor
from ledger.audit.moments import format_time, parse_time_span
from ledger.clock import Clock
from ledger.errors import AccessNotRecorded, InvalidParameter, Unavailable
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, Pool, fetch_all, fetch_one, first_line
from ledger.store.batching import BatchQueue, Pending
from ledger.store.durability import WAITS_FOR_STANDBYS, Durability

PARAMETERS_MAX = 100
"""How many parameters of one access are kept."""
WHOLE_LOG = "*"
"""In place of an account: a command that reads all of them. Such accesses have test mode."""
CLEAR_PARAMETERS = frozenset({
    "account", "actor", "after", "at", "before", "charge", "cosigned", "created", "currency", "customer",
    "dispute", "event", "expand", "expired", "file", "folder", "format", "from", "id", "idempotency_key",
    "json", "ledger_account", "level", "limit", "live", "new_origin", "newest_first", "number", "object",
    "object_id", "object_type", "oldest_first", "order", "path", "payment_intent", "personal_data",
    "position", "projection", "purpose", "record", "request", "resume", "sample", "since", "size",
    "starting_after", "starting_after_version", "status", "stream", "subscription", "time", "to",
    "transaction", "transfer_group",
    "type", "unseal", "until", "width", "yes",
})  # fmt: skip
RECORD_BATCH_MAX = 256
RECORD_QUEUE_MAX = 2048
_OBJECT_PARAMETERS = ("id", "object_id", "object", "stream")
_CLEAR_VALUE = re.compile(r"[A-Za-z0-9_.:+/*,-]{1,255}")
_NAME = re.compile(r"([a-z_]{1,40})(\[[a-z_.0-9]{0,40}\]){0,3}")

# Sent again after a lost connection, it may record accesses twice; that is harmless.
_INSERT = f"""
INSERT INTO ledger.audit_accesses
    (at, account, livemode, actor, operator, request_id, action, parameters, object, allowed, as_of)
SELECT to_timestamp(r.at), r.account, r.livemode, r.actor, r.operator, r.request_id, r.action,
       r.parameters, r.object, r.allowed, h.position
FROM ledger.head h, json_to_recordset(%(rows)s::json) AS r(
    at double precision, account text, livemode boolean, actor text, operator text, request_id text,
    action text, parameters jsonb, object text, allowed boolean)
RETURNING {WAITS_FOR_STANDBYS}
"""  # noqa: S608 (a constant)
_SELECT = """
SELECT number, extract(epoch FROM at)::float8, actor, operator, request_id, action, parameters, object,
       allowed, as_of
FROM ledger.audit_accesses
WHERE account = %(account)s AND livemode = %(livemode)s
"""
_CONDITIONS = {
    "actor": "AND actor = %(actor)s",
    "object": "AND object = %(object)s",
    "since": "AND at >= %(since)s",
    "until": "AND at < %(until)s",
    "cursor_at": "AND (at, number) < (%(cursor_at)s, %(cursor_number)s)",
}
_NEWEST_FIRST = "ORDER BY at DESC, number DESC LIMIT %(limit)s"
_SELECT_CURSOR = """
SELECT at, number FROM ledger.audit_accesses
WHERE number = %(number)s AND account = %(account)s AND livemode = %(livemode)s
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One question of an auditor, answered or not.

    account, livemode  what it was about; WHOLE_LOG for all accounts
    actor              the id of the key, or `cli`; then `operator` is the shell's user@host
    action             the method and the route, or the command
    parameters         names and values as they were sent
    allowed            False: the key lacks the scope, or does not reach the account
    """

    account: str
    livemode: bool
    actor: str
    action: str
    parameters: Iterable[tuple[str, str]]
    allowed: bool = True
    operator: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFilters:
    """Filters of a list of accesses; None leaves one out.

    actor, object   ids
    time            a unix time or an ISO 8601 time by comparison: gt, gte, lt, lte
    starting_after  the `id` of an access: list those before it
    """

    actor: str | None = None
    object: str | None = None
    time: Mapping[str, str]
    limit: int
    starting_after: int | None = None


class Accesses:
    """Records and lists accesses of one database. Those of concurrent requests are recorded by one statement.
    `service_keys` keys the digests; `durability` is that of the process."""

    def __init__(
        self, pool: Pool, clock: Clock, durability: Durability, service_keys: ServiceKeys | bytes
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._durability = durability
        self._digest_key = ServiceKeys.of(service_keys).derive(b"ledger/audit/access/1")
        self._queue: BatchQueue[bytes, None] = BatchQueue(
            self._record_batch, batch_max=RECORD_BATCH_MAX, queue_max=RECORD_QUEUE_MAX
        )

    async def start(self) -> None:
        """Begin to record."""
        self._queue.start("accesses")

    async def close(self) -> None:
        """Record what was submitted, then stop."""
        await self._queue.close()

    async def record(self, access: Access) -> None:
        """Record an access; returns once it is durable. Raises AccessNotRecorded, QueueFull."""
        parameters = self._conceal(access.parameters)
        row = {
            "at": self._clock.now(),
            "account": access.account,
            "livemode": access.livemode,
            "actor": access.actor,
            "operator": access.operator,
            "request_id": access.request_id,
            "action": access.action,
            "parameters": parameters,
            "object": _find_object(parameters),
            "allowed": access.allowed,
        }
        try:
            await self._queue.submit(msgspec.json.encode(row))
        except (psycopg.Error, Unavailable) as error:
            log.warning("access_not_recorded", reason=first_line(error), request_id=access.request_id)
            raise AccessNotRecorded(
                "This access cannot be recorded at the moment, so it is not answered. Please retry."
            ) from error

    async def list(self, auditor: Auditor, filters: AccessFilters) -> dict[str, Any]:
        """A page of the auditor's account and mode, newest first. Raises InvalidParameter, Unavailable."""
        bindings: dict[str, Any] = {"account": auditor.account, "livemode": auditor.livemode}
        chosen = {"actor": filters.actor, "object": filters.object, **_parse_times(filters.time)}
        bindings |= {name: value for name, value in chosen.items() if value is not None}
        if any("\0" in text for text in bindings.values() if isinstance(text, str)):
            return _make_page([], has_more=False)  # no text of a record has this character

        async def fetch(conn: Conn) -> list[Any]:
            if filters.starting_after is not None:
                cursor = await fetch_one(conn, _SELECT_CURSOR, {**bindings, "number": filters.starting_after})
                if cursor is None:
                    raise InvalidParameter(
                        f"No such access: '{filters.starting_after}'",
                        code="resource_missing",
                        param="starting_after",
                    )
                bindings.update(cursor_at=cursor[0], cursor_number=cursor[1])
            conditions = [text for name, text in _CONDITIONS.items() if name in bindings]
            query = "\n".join((_SELECT, *conditions, _NEWEST_FIRST))
            return await fetch_all(conn, query.encode(), {**bindings, "limit": filters.limit + 1})

        rows = await self._pool.run_idempotent(fetch)
        data = [_render(*row) for row in rows[: filters.limit]]
        return _make_page(data, has_more=len(rows) > filters.limit)

    async def _record_batch(self, batch: Sequence[Pending[bytes, None]]) -> None:
        """Record all of them in one transaction; where the database refuses one of them, each in its own."""
        rows = (b"[" + b",".join(pending.item for pending in batch) + b"]").decode()
        try:
            row = await self._pool.run_idempotent(
                lambda conn: fetch_one(conn, _INSERT.encode(), {"rows": rows})
            )
            if row is not None and row[0]:
                await self._durability.confirm()
        except psycopg.DataError:
            if len(batch) == 1:
                raise
            for pending in batch:
                try:
                    await self._record_batch([pending])
                except (psycopg.Error, Unavailable) as error:
                    if not pending.future.done():
                        pending.future.set_exception(error)
            return
        for pending in batch:
            if not pending.future.done():
                pending.future.set_result(None)

    def _conceal(self, parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The parameters to keep, by name; several values of one name as a list."""
        concealed: dict[str, Any] = {}
        for name, value in list(parameters)[:PARAMETERS_MAX]:
            match = _NAME.fullmatch(name)
            is_clear = match is not None and match[1] in CLEAR_PARAMETERS and _CLEAR_VALUE.fullmatch(value)
            kept_name = name if match is not None else self.derive_digest(name)
            kept = value if is_clear else self.derive_digest(value)
            if kept_name not in concealed:
                concealed[kept_name] = kept
            elif isinstance(concealed[kept_name], list):
                concealed[kept_name].append(kept)
            else:
                concealed[kept_name] = [concealed[kept_name], kept]
        return concealed

    def derive_digest(self, value: str) -> str:
        """What is kept of a value that may be personal: only who has the service key can compute it."""
        return f"digest:{hmac.digest(self._digest_key, value.encode(), 'sha256').hex()[:32]}"


def _find_object(parameters: Mapping[str, Any]) -> str | None:
    """The object of the question, as it is kept; of a parameter that was sent more than once, the last."""
    for name in _OBJECT_PARAMETERS:
        if name in parameters:
            kept = parameters[name]
            return str(kept[-1] if isinstance(kept, list) else kept)
    return None


def _make_page(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": has_more}


def _parse_times(times: Mapping[str, str]) -> dict[str, datetime]:
    """The first instant that the comparisons allow, and the first one after them."""
    bounds: dict[str, datetime] = {}
    for comparison, text in times.items():
        start, end = parse_time_span(text, param=f"time[{comparison}]")
        if comparison in ("gt", "gte"):
            since = end if comparison == "gt" else start
            bounds["since"] = max(since, bounds.get("since", since))
        else:
            until = start if comparison == "lt" else end
            bounds["until"] = min(until, bounds.get("until", until))
    return bounds


def _render(
    number: int,
    at: float,
    actor: str,
    operator: str | None,
    request_id: str | None,
    action: str,
    parameters: Mapping[str, Any],
    object_id: Any,
    allowed: bool,
    as_of: int,
) -> dict[str, Any]:
    return {
        "id": number,
        "object": "audit_access",
        "time": format_time(at),
        "actor": actor,
        "operator": operator,
        "request": request_id,
        "action": action,
        "parameters": parameters,
        "object_id": object_id,
        "allowed": allowed,
        "as_of": {"position": as_of},
    }
