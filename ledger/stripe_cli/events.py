"""The Events that one connection of a listener is sent: those of the feed after its cursor, and resends.

Each Event is a message in each rendering of the session: snapshots, a thin event, or both. A message is
sent until it is acknowledged: again to the session's next connection, so at least once. The listener's cursor
moves only over what it has acknowledged. One that is more than BACKLOG_EVENTS_MAX Events behind skips the
oldest, and is told how many by an Event of a type of our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from ledger.clock import Clock
from ledger.postgres.connections import ReconnectingConnection
from ledger.queries.events import render_event
from ledger.queries.feed_events import FeedEvent
from ledger.queries.thin_events import render_event_notification
from ledger.store.codec import Codec
from ledger.stripe_cli import feed
from ledger.stripe_cli.frames import (
    EventAck,
    encode_v2_event,
    encode_webhook_event,
    list_renderings,
    new_message_id,
    parse_message_id,
)
from ledger.stripe_cli.sessions import Cursor, Session, save_cursor
from ledger.stripe_cli.window import Window, make_key
from ledger.webhooks.http_client import USER_AGENT
from ledger.webhooks.signature import sign
from ledger.wire.versions import LATEST_VERSION

BACKLOG_EVENTS_MAX = 10_000
"""Events that may wait for a listener."""
COUNTED_POSITIONS = 5_000
"""Positions of the log whose Events are counted at once, and skipped together."""
MISSED_TYPE = "ledger.events_missed"
OVERDUE_CHECK_SECONDS = 5.0
_MISSED_KEY = "missed"
_RESEND_KEY = "resend"

log = structlog.get_logger()


class EventSource:
    """Sends Events for one connection.

    connection   to the database; shared with other listeners, as `reads` is
    reads        with the setting SNAPSHOT_FIRST: for what `feed` reads
    codec        opens Events
    secret       signs what is sent
    count_missed is called with how many Events the listener will not get
    """

    def __init__(
        self,
        session: Session,
        connection: ReconnectingConnection,
        reads: ReconnectingConnection,
        codec: Codec,
        clock: Clock,
        secret: str,
        count_missed: Callable[[int], None],
    ) -> None:
        self.session = session
        self._connection = connection
        self._reads = reads
        self._codec = codec
        self._clock = clock
        self._secret = secret
        self._renderings = list_renderings(session.features)
        self._count_missed = count_missed
        self._window = Window(session.position, session.acknowledged)
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._saved: Cursor | None = None
        self._missed = session.missed
        self._told: list[int] = []  # of these, by message, how many the listener was told
        self._counted_head = 0
        self._has_resends = True
        self._resent_upto = 0
        self._resent: dict[int, set[str]] = {}
        self._acknowledged_resends: list[int] = []

    @property
    def read_position(self) -> int:
        """All Events up to this position of the log have been sent, or there were none."""
        return self._window.read_position

    def advance(self, position: int) -> None:
        """There is nothing for this listener between what it has read and `position`."""
        self._window.advance(position)

    def wake(self) -> None:
        """Look for Events in the feed now."""
        self._news.set()

    def wake_for_resend(self, resend: int) -> None:
        """Look for Events to send again, of which the newest is in the resend of this id."""
        if resend > self._resent_upto:
            self._has_resends = True
            self._news.set()

    async def frames(self) -> AsyncIterator[str]:
        """As `Source.frames`. Raises psycopg.Error."""
        while True:
            self._news.clear()
            if self._has_resends:
                async for frame in self._resend():
                    yield frame
            account, livemode = self.session.account, self.session.livemode
            async with self._reads as conn:
                batch = await feed.read_events(conn, self._codec, account, livemode, self.read_position)
            if await self._skip_excess(batch.head):
                continue
            if untold := self._missed - sum(self._told):
                self._told.append(untold)
                for rendering in self._renderings:
                    yield self._encode_missed(len(self._told) - 1, untold, rendering)
            for found in batch.events:
                for rendering in self._renderings:
                    key = make_key(found.position, found.ordinal, rendering)
                    if not self._window.is_known(key):
                        await self._wait_for_room()
                        yield self._encode(key, found.position, found.account, found.event, rendering)
                await asyncio.sleep(0)  # encoding takes the loop's time; others have work too
            self._window.advance(batch.upto)
            if batch.upto >= batch.head:
                await self._news.wait()

    def acknowledge(self, ack: EventAck) -> None:
        """As `Source.acknowledge`."""
        message = parse_message_id(ack.message_id)
        if message is None:
            return
        is_in_window = self._window.acknowledge(message.key)
        if is_in_window:
            kind, _, rest = message.key.partition(".")
            number, _, rendering = rest.partition(".")
            if kind == _MISSED_KEY:
                self._missed -= self._told[int(number)]
                self._told[int(number)] = 0
            elif kind == _RESEND_KEY:
                waiting = self._resent[int(number)]
                waiting.discard(rendering)
                if not waiting:
                    self._acknowledged_resends.append(int(number))
                    del self._resent[int(number)]
        self._room.set()

    async def save(self) -> None:
        """As `Source.save`."""
        cursor = Cursor(self._window.position, self._window.acknowledged, self._missed)
        resends, self._acknowledged_resends = self._acknowledged_resends, []
        if cursor != self._saved or resends:
            async with self._connection as conn:
                await save_cursor(conn, self.session, cursor)
                if resends:
                    await feed.delete_resends(conn, self.session.id, resends)
            self._saved = cursor

    async def _resend(self) -> AsyncIterator[str]:
        """The Events to send again that this connection has not sent yet."""
        while self._has_resends:
            async with self._reads as conn:
                resends = await feed.read_resends(conn, self._codec, self.session.id, self._resent_upto)
            for resend in resends:
                self._resent[resend.id] = set(self._renderings)
                self._resent_upto = resend.id
                for rendering in self._renderings:
                    await self._wait_for_room()
                    key = f"{_RESEND_KEY}.{resend.id}.{rendering}"
                    yield self._encode(key, None, resend.account, resend.event, rendering)
            self._has_resends = bool(resends)

    async def _skip_excess(self, head: int) -> bool:
        """Skip the oldest Events if more than BACKLOG_EVENTS_MAX wait, up to the position `head` of the log.
        They are counted only when there may be so many, and not again for each step; range by range, because
        the log may be long."""
        start = self.read_position
        if min(head - start, head - self._counted_head) <= BACKLOG_EVENTS_MAX:
            return False
        counts: dict[int, int] = {}
        for after in range(start, head, COUNTED_POSITIONS):
            upto = min(after + COUNTED_POSITIONS, head)
            async with self._reads as conn:
                counts[upto] = await feed.count_events(
                    conn, self.session.account, self.session.livemode, after=after, upto=upto
                )
        self._counted_head = head
        waiting, missed = sum(counts.values()), 0
        for upto, count in counts.items():
            if waiting - missed - count < BACKLOG_EVENTS_MAX:
                break
            missed += count
            self._window.advance(upto)
        if missed:
            self._miss(missed)
        return self.read_position > start

    async def _wait_for_room(self) -> None:
        while not self._window.has_room:
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(OVERDUE_CHECK_SECONDS):
                    await self._room.wait()
            overdue = self._window.take_overdue(asyncio.get_running_loop().time())
            if overdue:
                self._miss(len({key.rpartition(".")[0] for key in overdue}))

    def _miss(self, count: int) -> None:
        self._missed += count
        self._count_missed(count)
        log.warning(
            "listener_missed_events", session=self.session.id, account=self.session.account, count=count
        )

    def _encode(self, key: str, position: int | None, account: str, event: FeedEvent, rendering: str) -> str:
        """The message with an Event of the feed, which is in the window from now on."""
        shown_account = account if account != self.session.account else None
        if rendering == "thin":
            return self._encode_body(
                key, position, render_event_notification(event, account=shown_account), rendering
            )
        body = render_event(event, account=shown_account, api_version=_choose_version(rendering))
        return self._encode_body(key, position, body, rendering)

    def _encode_missed(self, number: int, count: int, rendering: str) -> str:
        """The message with an Event of our own that says how many were missed. The CLI shows its type and
        its id."""
        data = msgspec.json.encode({"object": {"object": "events_missed", "count": count}})
        event = FeedEvent(
            id=f"evt_missed_{count}",
            livemode=self.session.livemode,
            created=int(self._clock.now()),
            type=MISSED_TYPE,
            api_version=LATEST_VERSION,
            request_id=None,
            idempotency_key=None,
            data=data,
            pending_webhooks=0,
        )
        return self._encode(
            f"{_MISSED_KEY}.{number}.{rendering}", None, self.session.account, event, rendering
        )

    def _encode_body(self, key: str, position: int | None, event: dict[str, Any], rendering: str) -> str:
        body = msgspec.json.encode(event)
        now = self._clock.now()
        message_id = new_message_id(key, now)
        headers = {
            "Accept": "*/*",
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign([self._secret], int(now), body),
            "User-Agent": USER_AGENT.decode(),
        }
        if rendering == "thin":
            frame = encode_v2_event(message_id=message_id, body=body.decode(), headers=headers)
        else:
            frame = encode_webhook_event(
                webhook_id=self.session.id,
                message_id=message_id,
                body=body.decode(),
                headers=headers,
                api_version=_choose_version(rendering),
            )
        self._window.add(key, position, len(frame), asyncio.get_running_loop().time())
        return frame


def _choose_version(rendering: str) -> str | None:
    """The API version of a snapshot; None for the account's own."""
    return LATEST_VERSION if rendering == "latest" else None
