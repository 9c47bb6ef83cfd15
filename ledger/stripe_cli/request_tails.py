"""Requests to the public API, for the runs of `stripe logs tail` that are open.

While none is open, a request costs the question whether there is one. Else the process that has answered it
chooses the runs that are to see it (by account and filters), and stores a row for each, many requests in one
statement. The process that holds the run's connection sends the rows and deletes those that it acknowledges.
What is stored is bounded: ROWS_MAX a run, ROW_SECONDS_MAX. It has no parameters, bodies or secrets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.background import BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, ReconnectingConnection, fetch_all
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.request_log.errors import clean_path, describe_error
from ledger.store.store import Store
from ledger.stripe_cli.frames import EventAck, encode_request_log_event
from ledger.stripe_cli.request_filters import Filters, RequestFacts, matches
from ledger.stripe_cli.sessions import REQUEST_LOGS_CHANNEL, Session

ROWS_MAX = 1_000
"""Requests that may wait for a run. Those that come while so many do are not shown."""
ROW_SECONDS_MAX = 600
PENDING_MAX = 2_000
"""Rows that a process has yet to store."""
STORE_SECONDS = 0.1
LOOK_SECONDS = 5.0
QUIET_LOOK_SECONDS = 30.0
"""How often a process asks which runs are open, if no notification tells it; less often without any."""
OPEN_SECONDS = 30
"""A run without a connection for so long is over: the CLI is back after a second."""
UNACKNOWLEDGED_MAX = 256
ACK_SECONDS_MAX = 60.0
POLL_SECONDS = 0.2
_ID_PREFIX = "rlog_"
_ID = re.compile(_ID_PREFIX + r"([0-9]{1,18})")

_SELECT_TAILS = """
SELECT s.id, s.account, s.livemode, s.filters::text
FROM stripe_cli.sessions s JOIN ledger.api_keys k ON k.id = s.key
WHERE 'request_logs' = ANY (s.features) AND s.seen_at > now() - %(seconds)s * interval '1 second'
AND (k.expires_at IS NULL OR k.expires_at > to_timestamp(%(now)s))
"""
# The lock keeps a run from being deleted between the look at it and the row that refers to it.
_INSERT = """
WITH runs AS MATERIALIZED (
    SELECT s.id, (SELECT count(*) FROM stripe_cli.request_logs r WHERE r.session = s.id) AS waiting
    FROM stripe_cli.sessions s WHERE s.id = ANY (%(sessions)s::text[])
    FOR KEY SHARE OF s)
INSERT INTO stripe_cli.request_logs (session, payload)
SELECT new.session, new.payload
FROM (SELECT *, row_number() OVER (PARTITION BY session ORDER BY number) AS rank
      FROM unnest(%(sessions)s::text[], %(payloads)s::text[]) WITH ORDINALITY AS n(session, payload, number)
     ) new
JOIN runs ON runs.id = new.session
WHERE runs.waiting + new.rank <= %(max)s
ORDER BY new.number
"""
_DELETE_OLD = """
DELETE FROM stripe_cli.request_logs WHERE at < now() - %(seconds)s * interval '1 second'
"""
_SELECT = """
SELECT id, payload FROM stripe_cli.request_logs
WHERE session = %(session)s AND id <> ALL (%(sent)s::bigint[]) ORDER BY id LIMIT %(limit)s
"""
_DELETE = "DELETE FROM stripe_cli.request_logs WHERE session = %(session)s AND id = ANY (%(ids)s::bigint[])"

_encoder = msgspec.json.Encoder()


class LoggedRequest(NamedTuple):
    """A request that was answered. `error_body`: the answer, if it is an error."""

    facts: RequestFacts
    livemode: bool
    request_id: str
    error_body: str | None


class _Tail(NamedTuple):
    session: str
    filters: Filters


class RequestTails:
    """What one process knows of the runs that are open, and the requests that it has yet to store for them.

    tails  the runs by account and mode. The object stays the same, so that a caller may hold on to it and
           ask nothing else while it is empty
    """

    def __init__(self, store: Store) -> None:
        self.tails: dict[tuple[str, bool], Sequence[_Tail]] = {}
        self._clock = store.clock
        self._pending: list[tuple[str, str]] = []
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="request tails",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._look_loop = BackgroundLoop("request tails open", self._look, close_timeout_seconds=0.5)
        self._store_loop = BackgroundLoop("request tails", self._store, close_timeout_seconds=0.5)
        store.notifier.subscribe(REQUEST_LOGS_CHANNEL, self._look_loop.wake)

    async def start(self) -> None:
        """Begin to watch for runs."""
        await self._look_loop.start()
        await self._store_loop.start()

    async def close(self) -> None:
        """Stop. What is not stored yet is not shown."""
        await self._look_loop.close()
        await self._store_loop.close()
        await self._connection.drop()

    def record(self, request: LoggedRequest) -> None:
        """Remember a request for the runs that are to see it."""
        facts, payload = request.facts, None
        for account in {facts.account, facts.key_account}:
            for tail in self.tails.get((account, request.livemode), ()):
                if matches(tail.filters, facts, account) and len(self._pending) < PENDING_MAX:
                    payload = payload or _encode_payload(request, self._clock.now())
                    self._pending.append((tail.session, payload))
        if payload is not None:
            self._store_loop.wake()

    async def _look(self) -> float:
        """Read which runs are open."""
        async with self._connection as conn:
            await self._clock.refresh(conn)
            values = {"seconds": OPEN_SECONDS, "now": self._clock.now()}
            rows = await fetch_all(conn, _SELECT_TAILS, values)
            if self.tails:
                await conn.execute(_DELETE_OLD, {"seconds": ROW_SECONDS_MAX})
            if not rows:  # most deployments never have any: they need no connection for it
                await self._connection.drop()
        found: dict[tuple[str, bool], list[_Tail]] = {}
        for session, account, livemode, filters in rows:
            found.setdefault((account, livemode), []).append(_Tail(session, msgspec.json.decode(filters)))
        self.tails.clear()
        self.tails.update(found)
        return LOOK_SECONDS if found else QUIET_LOOK_SECONDS

    async def _store(self) -> float | None:
        """Store what is pending, then wait for more."""
        if not self._pending:
            return None
        pending, self._pending = self._pending, []
        sessions, payloads = zip(*pending, strict=True)
        values = {"sessions": list(sessions), "payloads": list(payloads), "max": ROWS_MAX}
        async with self._connection as conn:
            await conn.execute(_INSERT, values)
        await asyncio.sleep(STORE_SECONDS)
        return 0


class RequestTailSource:
    """Sends the requests of one run over one connection."""

    def __init__(self, session: Session, connection: ReconnectingConnection) -> None:
        self._session = session.id
        self._connection = connection
        self._sent_at: dict[int, float] = {}
        self._acknowledged: list[int] = []

    async def frames(self) -> AsyncIterator[str]:
        """As `Source.frames`. Raises psycopg.Error."""
        while True:
            now = asyncio.get_running_loop().time()
            for row_id in [row_id for row_id, at in self._sent_at.items() if now - at > ACK_SECONDS_MAX]:
                self._forget(row_id)
            room = UNACKNOWLEDGED_MAX - len(self._sent_at)
            sent = [*self._sent_at, *self._acknowledged]
            if room > 0:
                async with self._connection as conn:
                    values = {"session": self._session, "sent": sent, "limit": room}
                    rows = await fetch_all(conn, _SELECT, values)
                for row_id, payload in rows:
                    self._sent_at[row_id] = now
                    yield encode_request_log_event(request_log_id=f"{_ID_PREFIX}{row_id}", payload=payload)
            await asyncio.sleep(POLL_SECONDS)

    def acknowledge(self, ack: EventAck) -> None:
        """As `Source.acknowledge`."""
        found = _ID.fullmatch(ack.event_id)
        if found is not None and int(found[1]) in self._sent_at:
            self._forget(int(found[1]))

    async def save(self) -> None:
        """As `Source.save`. Raises psycopg.Error."""
        if self._acknowledged:
            acknowledged = self._acknowledged.copy()
            async with self._connection as conn:
                await conn.execute(_DELETE, {"session": self._session, "ids": acknowledged})
            del self._acknowledged[: len(acknowledged)]

    def _forget(self, row_id: int) -> None:
        del self._sent_at[row_id]
        self._acknowledged.append(row_id)


def _encode_payload(request: LoggedRequest, now: float) -> str:
    facts = request.facts
    payload: dict[str, Any] = {
        "created_at": int(now),
        "livemode": request.livemode,
        "method": facts.method,
        "request_id": request.request_id,
        "status": facts.status,
        "url": clean_path(facts.path),
        "error": None,
    }
    if request.error_body is not None:
        payload["error"] = describe_error(request.error_body, facts.method, facts.path)
    return _encoder.encode(payload).decode()
