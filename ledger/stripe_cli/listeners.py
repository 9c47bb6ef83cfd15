"""The listeners that are connected to this process: what wakes them, what ends them, what they share.

Two statements serve all of them: one asks, whenever the feed has grown, whose Events there are, and one looks
every STATE_SECONDS which sessions have ended, are connected elsewhere or have an Event to send again. So a
listener to which nothing is sent costs nothing more, however many Events others have.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ledger.background import BackgroundLoop
from ledger.errors import RateLimited
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import SNAPSHOT_FIRST, ReconnectingConnection
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from ledger.stripe_cli import feed, sessions
from ledger.stripe_cli.events import EventSource
from ledger.stripe_cli.frames import list_renderings
from ledger.stripe_cli.request_tails import RequestTailSource
from ledger.stripe_cli.responses import ResponseRecorder
from ledger.stripe_cli.secrets import ListenerSecrets
from ledger.stripe_cli.sessions import Session, SessionState
from ledger.stripe_cli.source import Source

STATE_SECONDS = 0.5
"""How long a revoked key keeps a listener, and an Event to send again waits."""
TOUCH_SECONDS = 10.0
CLEANUP_SECONDS = 60.0
TAIL_PAUSE_SECONDS = 0.02
"""The least time between two looks at the feed: what is appended meanwhile is found together."""
REPLACE_SECONDS_MAX = 2.0
LISTENERS_MAX = 1000
"""Listeners that may be connected to one process."""
TAIL_POLL_SECONDS = 0.1
PAUSE_SECONDS_MAX = 1.0
_SETTINGS = PLANNER_SETTINGS | LOCAL_COMMITS | {"statement_timeout": "5s"}


class _Open(NamedTuple):
    session: Session
    events: EventSource | None
    end: Callable[[str], None]
    closed: asyncio.Event


class Listeners:
    """The connected sessions of one process."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self.responses = ResponseRecorder(store.dsn, store.clock, store.codec)
        self._clock = store.clock
        self._codec = store.codec
        self._notifier = store.notifier
        self._metrics = metrics
        self._secrets = ListenerSecrets(store.service_keys)
        self._connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="listeners", settings=_SETTINGS
        )
        self._tail_connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="listeners tail", settings=_SETTINGS | SNAPSHOT_FIRST
        )
        # Anybody may begin handshakes, and as many as they like: what is connected does not wait for them.
        self._handshake_connection = ReconnectingConnection(
            store.dsn, "ledger_api", name="listeners handshake", settings=_SETTINGS
        )
        self._open: dict[str, _Open] = {}
        self._tail_position = 0
        self._pause_seconds = TAIL_PAUSE_SECONDS
        self._touched_at = self._cleaned_at = 0.0
        self._tail_loop = BackgroundLoop("listeners tail", self._follow, close_timeout_seconds=0.5)
        self._state_loop = BackgroundLoop("listeners", self._look, close_timeout_seconds=0.5)

    async def start(self) -> None:
        """Begin to serve listeners."""
        await self.responses.start()
        await self._tail_loop.start()
        await self._state_loop.start()

    async def close(self) -> None:
        """Stop. All listeners have been disconnected before."""
        await self._tail_loop.close()
        await self._state_loop.close()
        await self.responses.close()
        await self._tail_connection.drop()
        await self._handshake_connection.drop()
        await self._connection.drop()

    async def connect(self, websocket_id: str) -> Session | None:
        """The session with this secret id, connected from now on; None if there is none any more. Raises
        Unavailable, and RateLimited when too many are connected."""
        if len(self._open) >= LISTENERS_MAX:
            raise RateLimited("Too many listeners are connected. Try again later.", code="rate_limit")
        session = await self._connect(websocket_id)
        older = None if session is None else self._open.get(session.id)
        if older is None:
            return session
        # The client is back before its last connection has ended and stored what it acknowledged to that.
        older.end("replaced")
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLACE_SECONDS_MAX):
                await older.closed.wait()
        return await self._connect(websocket_id)

    async def _connect(self, websocket_id: str) -> Session | None:
        name = secrets.token_hex(16)
        return await self._handshake_connection.run_idempotent(
            lambda conn: sessions.connect_session(conn, websocket_id, name, self._clock.now())
        )

    def open(self, session: Session, end: Callable[[str], None]) -> Sequence[Source]:
        """What a connection of the session has to send. `end` is called with the reason when the connection
        is to end; an older one of the session ends now."""
        older = self._open.get(session.id)
        if older is not None:
            older.end("replaced")
        events = None
        if list_renderings(session.features):
            secret = self._secrets.derive(session.account, session.livemode, session.device)
            events = EventSource(
                session,
                self._connection,
                self._tail_connection,
                self._codec,
                self._clock,
                secret,
                self._metrics.count_missed_events,
            )
        if not self._open:
            self._tail_position = max(self._tail_position, session.position)
        self._open[session.id] = _Open(session, events, end, asyncio.Event())
        self._metrics.set_listeners(len(self._open))
        self._tail_loop.wake()
        self._state_loop.wake()
        sources: list[Source] = [] if events is None else [events]
        if "request_logs" in session.features:
            sources.append(RequestTailSource(session, self._connection))
        return sources

    def close_session(self, session: Session) -> None:
        """The connection has ended."""
        entry = self._open.get(session.id)
        if entry is not None and entry.session.connection == session.connection:
            entry.closed.set()
            del self._open[session.id]
            self._metrics.set_listeners(len(self._open))

    async def _follow(self) -> float | None:
        """Wake the listeners for whom the feed has something new, then wait until it has grown."""
        if not self._open:
            return None
        applied_seen = self._notifier.applied_position
        async with self._tail_connection as conn:
            changes = await feed.read_changes(conn, self._tail_position)
        before, self._tail_position = self._tail_position, changes.upto
        for entry in self._open.values():
            if entry.events is None:
                continue
            owner = entry.session.account, entry.session.livemode
            if owner in changes.owners or entry.events.read_position < before:
                entry.events.wake()
            else:
                entry.events.advance(changes.upto)
        if changes.upto < changes.head:
            return 0
        if changes.head < applied_seen:  # another projection was faster: the feed follows
            self._pause_seconds = min(self._pause_seconds * 2, PAUSE_SECONDS_MAX)
            return self._pause_seconds
        self._pause_seconds = TAIL_PAUSE_SECONDS
        poll_seconds = self._notifier.get_poll_seconds(TAIL_POLL_SECONDS)
        await self._notifier.wait_applied(applied_seen + 1, timeout_seconds=poll_seconds)
        return TAIL_PAUSE_SECONDS

    async def _look(self) -> float | None:
        """End the connections of sessions that have ended or are connected elsewhere, and wake those with
        an Event to send again; from time to time, keep the connected sessions and delete the ended ones."""
        monotonic_now = asyncio.get_running_loop().time()
        async with self._connection as conn:
            if self._open:
                await self._clock.refresh(conn)
                looked_at = list(self._open.values())  # others may connect, or again, before the answer
                states = await sessions.read_states(
                    conn, [entry.session.id for entry in looked_at], self._clock.now()
                )
                for entry in looked_at:
                    self._apply(entry, states.get(entry.session.id))
                if monotonic_now >= self._touched_at + TOUCH_SECONDS:
                    connections = {
                        session_id: entry.session.connection for session_id, entry in self._open.items()
                    }
                    await sessions.touch_sessions(conn, connections)
                    self._touched_at = monotonic_now
            if monotonic_now >= self._cleaned_at + CLEANUP_SECONDS:
                await sessions.delete_ended(conn, self._clock.now())
                self._cleaned_at = monotonic_now
        return STATE_SECONDS if self._open else CLEANUP_SECONDS

    def _apply(self, entry: _Open, state: SessionState | None) -> None:
        if state is None:
            entry.end("session_ended")
        elif not state.key_valid:
            entry.end("key_ended")
        elif state.connection != entry.session.connection:
            entry.end("replaced")
        elif entry.events is not None:
            entry.events.wake_for_resend(state.resend)
