"""What programs respond to Events that listeners forward to them: recorded as attempts of a delivery.

Such a delivery is `forwarded`: it names the session as its endpoint and is owed to nobody. Of a session that
gets both, responses to a thin event and to its snapshot are attempts of one delivery. It is recorded
soon after the response, in small batches; what a process has not recorded when it is killed is lost.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import structlog

from ledger.background import BackgroundLoop
from ledger.clock import Clock
from ledger.ids import new_id
from ledger.keys.documents import find_subject, load_keyring, run_on, seal_document
from ledger.postgres.connections import Conn, ReconnectingConnection, fetch_one
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.codec import Codec
from ledger.stripe_cli.feed import bound_created
from ledger.stripe_cli.frames import WebhookResponse, parse_message_id
from ledger.stripe_cli.sessions import Session
from ledger.webhooks.http_client import RESPONSE_BYTES_MAX
from ledger.wire.thin_events import to_snapshot_id

WAITING_MAX = 10_000
WAITING_OF_SESSION_MAX = 1000
"""Responses that wait to be recorded in one process, and those of one session among them; more are dropped,
and counted in the log."""
BATCH_MAX = 100
ATTEMPTS_PER_DELIVERY_MAX = 100
EVENT_ID_LENGTH_MAX = 255
RESPONSE_SECONDS_MAX = 3600.0
"""A listener gives up sooner; a longer time is none that we have measured."""
STATUSES = range(100, 600)

# Nothing is recorded of an Event that the session does not get.
_RECORD = """
WITH event AS (
    SELECT f.id, f.account, f.livemode, f.created, f.position, f.ordinal, f.type
    FROM projections.feed f JOIN ledger.accounts a ON a.id = f.account
    WHERE f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
    AND f.id = %(event)s AND f.created >= %(since)s AND f.created <= %(until)s
    AND f.livemode = %(livemode)s AND (a.id = %(account)s OR a.platform = %(account)s)
), delivery AS (
    INSERT INTO webhooks.deliveries AS d
        (id, event, endpoint, account, livemode, created, position, ordinal, type, state, tries, due_at)
    SELECT %(id)s, event.id, %(session)s, event.account, event.livemode, event.created, event.position,
           event.ordinal, event.type, 'forwarded', 1, to_timestamp(%(at)s)
    FROM event
    ON CONFLICT ON CONSTRAINT deliveries_once DO UPDATE SET tries = d.tries + 1 WHERE d.tries < %(attempts)s
    RETURNING d.id, d.tries
)
INSERT INTO webhooks.attempts (delivery, number, at, duration_ms, status, answer, sealed_answer)
SELECT id, tries, to_timestamp(%(at)s), %(duration_ms)s, %(status)s, %(answer)s::bytea,
       %(sealed_answer)s::bytea
FROM delivery
"""
# What names the subject, if the Event is sealed.
_SELECT_BEGINNING = """
SELECT left(f.data, 400) FROM projections.feed f
WHERE f.generation = (SELECT generation FROM projections.live WHERE projection = 'feed')
AND f.id = %(event)s AND f.created >= %(since)s AND f.created <= %(until)s LIMIT 1
"""

log = structlog.get_logger()


class ResponseRecorder:
    """Records for one process."""

    def __init__(self, dsn: str, clock: Clock, codec: Codec) -> None:
        self._clock = clock
        self._keys = codec.data_keys
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="listener responses", settings=LOCAL_COMMITS
        )
        self._waiting: deque[dict[str, Any]] = deque()
        self._waiting_of: Counter[str] = Counter()
        self._dropped = 0
        self._loop = BackgroundLoop("listener responses", self._record, close_timeout_seconds=1.0)

    async def start(self) -> None:
        """Begin to record."""
        await self._loop.start()

    async def close(self) -> None:
        """Record what waits, unless that takes too long."""
        await self._loop.close()
        await self._connection.drop()

    def add(self, session: Session, response: WebhookResponse) -> None:
        """Record a response that a listener has reported just now, if it can be one."""
        event_id = response.notification_id
        if (
            response.status not in STATUSES
            or not 0 < len(event_id) <= EVENT_ID_LENGTH_MAX
            or "\0" in event_id
        ):
            return
        if len(self._waiting) >= WAITING_MAX or self._waiting_of[session.id] >= WAITING_OF_SESSION_MAX:
            self._dropped += 1
        else:
            self._waiting.append(_make_parameters(session, response, self._clock.now()))
            self._waiting_of[session.id] += 1
        self._loop.wake()

    async def _record(self) -> None:
        while self._waiting:
            async with self._connection as conn, conn.transaction():
                batch = [self._waiting[index] for index in range(min(BATCH_MAX, len(self._waiting)))]
                for parameters in batch:
                    await conn.execute(_RECORD, parameters | await self._seal_answer(conn, parameters))
            for parameters in batch:
                self._waiting.popleft()
                self._waiting_of[parameters["session"]] -= 1
            self._waiting_of += Counter()  # forgets the sessions of which nothing waits
        if self._dropped:
            log.warning("listener_responses_dropped", count=self._dropped)
            self._dropped = 0

    async def _seal_answer(self, conn: Conn, parameters: dict[str, Any]) -> dict[str, bytes | None]:
        """The answer, sealed for the subject of the Event, which it may repeat."""
        answer: bytes = parameters["answer"]
        row = await fetch_one(conn, _SELECT_BEGINNING, parameters)
        subject = None if row is None else find_subject(row[0])
        if subject is None:
            return {"answer": answer, "sealed_answer": None}
        keyring = await load_keyring(run_on(conn), self._keys, [subject])
        if keyring.get(subject) is None:  # erased by now
            return {"answer": None, "sealed_answer": None}
        return {"answer": None, "sealed_answer": seal_document(keyring, subject, answer)}


def _make_parameters(session: Session, response: WebhookResponse, received_at: float) -> dict[str, Any]:
    """What is recorded of a response, and no more of it: a body may be as large as a frame."""
    message = parse_message_id(response.message_id)
    sent_at = received_at
    if message is not None and 0 <= received_at - message.sent_at <= RESPONSE_SECONDS_MAX:
        sent_at = message.sent_at
    event_id = to_snapshot_id(response.notification_id) or response.notification_id
    since, until = bound_created(event_id)
    return {
        "event": event_id,
        "since": since,
        "until": until,
        "account": session.account,
        "livemode": session.livemode,
        "session": session.id,
        "id": new_id("dlv", received_at),
        "at": sent_at,
        "attempts": ATTEMPTS_PER_DELIVERY_MAX,
        "duration_ms": round((received_at - sent_at) * 1000),
        "status": response.status,
        "answer": response.body[:RESPONSE_BYTES_MAX].encode()[:RESPONSE_BYTES_MAX],
    }
