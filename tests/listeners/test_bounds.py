"""A listener that is too slow: what it misses, that it is told, and that its connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from ledger.api.errors import render_error
from ledger.api.stripe_cli import socket as socket_module
from ledger.api.stripe_cli.socket import ListenerSocket
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.store import Store
from ledger.stripe_cli import events as events_module
from ledger.stripe_cli import feed, sessions
from ledger.stripe_cli.events import MISSED_TYPE, EventSource
from ledger.stripe_cli.frames import EventAck, WebhookResponse
from ledger.stripe_cli.listeners import Listeners
from ledger.stripe_cli.responses import WAITING_OF_SESSION_MAX, ResponseRecorder
from ledger.webhooks.http_client import RESPONSE_BYTES_MAX
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service
from tests.listeners.client import Session
from tests.listeners.conftest import Ask

MISSED = "SELECT missed, position FROM stripe_cli.sessions WHERE account = %s"


@asynccontextmanager
async def run_listeners(service: Service) -> AsyncIterator[Listeners]:
    """Those of a process on the service's database, beside the service."""
    settings = load_settings(database_url=service.dsn, secret_key=SERVICE_KEY)
    store = Store(service.dsn, SERVICE_KEY.encode(), settings, Clock())
    await store.notifier.start()
    listeners = Listeners(store, Metrics())
    await listeners.start()
    try:
        yield listeners
    finally:
        await listeners.close()
        await store.notifier.close()


async def receive_events(source: EventSource, count: int) -> list[dict[str, Any]]:
    """The Events of the next messages in the latest version, all acknowledged."""
    events = []
    async with asyncio.timeout(30):
        async for text in source.frames():
            frame = msgspec.json.decode(text)
            source.acknowledge(EventAck(webhook_conversation_id=frame["webhook_conversation_id"]))
            if frame["endpoint"]["api_version"] is not None:
                events.append(msgspec.json.decode(frame["event_payload"]))
            if len(events) == count:
                break
    return events


def test_a_listener_far_behind_gets_the_newest_events_and_is_told_how_many_it_missed(
    service: Service,
    account: Account,
    raw: Caller,
    session: Session,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "BACKLOG_EVENTS_MAX", 5)
    monkeypatch.setattr(events_module, "COUNTED_POSITIONS", 1)
    made = [raw.customer()["id"] for _ in range(12)]
    raw.events()  # the feed has them

    async def receive() -> list[dict[str, Any]]:
        async with run_listeners(service) as listeners:
            opened = await listeners.connect(session.answer["websocket_id"])
            assert opened is not None
            (source,) = listeners.open(opened, lambda _: None)
            assert isinstance(source, EventSource)
            received = await receive_events(source, 6)
            assert ask(MISSED, account.id)[0][0] == 0
            await source.save()
            return received

    told, *events = asyncio.run(receive())
    assert (told["type"], told["id"]) == (MISSED_TYPE, "evt_missed_7")
    assert told["data"]["object"] == {"object": "events_missed", "count": 7}
    assert [event["data"]["object"]["id"] for event in events] == made[7:]
    assert ask(MISSED, account.id)[0][0] == 0
    with session.connect() as listener:
        assert listener.is_quiet()


def test_events_of_others_cost_a_listener_nothing(
    service: Service,
    account: Account,
    raw: Caller,
    registrar: Registrar,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its cursor moves over them, and it reads nothing."""
    reads: list[int] = []
    read_events = feed.read_events

    async def count_reads(conn: Conn, codec: Codec, account: str, livemode: bool, after: int) -> feed.Batch:
        reads.append(after)
        return await read_events(conn, codec, account, livemode, after)

    monkeypatch.setattr(feed, "read_events", count_reads)
    stranger = Caller(raw.http, registrar.account().secret)

    async def listen() -> None:
        async with run_listeners(service) as listeners:
            opened = await listeners.connect(session.answer["websocket_id"])
            assert opened is not None
            (source,) = listeners.open(opened, lambda _: None)
            assert isinstance(source, EventSource)
            receiver = asyncio.create_task(receive_events(source, 1))
            for _ in range(20):
                await asyncio.to_thread(stranger.customer)
            head = int((await asyncio.to_thread(stranger.post, "/v1/customers")).headers["ledger-position"])
            async with asyncio.timeout(30):
                while source.read_position < head:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.02)
            read_before = len(reads)
            await asyncio.to_thread(raw.customer)
            (event,) = await receiver
            assert event["type"] == "customer.created"
            assert read_before <= 2

    asyncio.run(listen())


def test_a_listener_does_not_wait_for_handshakes(service: Service, raw: Caller, session: Session) -> None:
    async def listen() -> None:
        async with run_listeners(service) as listeners:
            opened = await listeners.connect(session.answer["websocket_id"])
            assert opened is not None
            (source,) = listeners.open(opened, lambda _: None)
            assert isinstance(source, EventSource)
            async with listeners._handshake_connection:  # as a handshake that takes long
                await asyncio.to_thread(raw.customer)
                assert len(await receive_events(source, 1)) == 1

    asyncio.run(listen())


def test_a_listener_that_cannot_be_written_to_is_disconnected_and_gets_the_message_later(
    service: Service, raw: Caller, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "SEND_SECONDS_MAX", 0.05)
    raw.customer()
    sent: list[dict[str, Any]] = []

    async def serve() -> None:
        arrived = [{"type": "websocket.connect"}]

        async def receive() -> dict[str, Any]:
            if not arrived:
                await asyncio.Event().wait()
            return arrived.pop()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.send":
                await asyncio.Event().wait()
            sent.append(message)

        scope = {
            "type": "websocket",
            "subprotocols": [],
            "headers": [(b"websocket-id", session.answer["websocket_id"].encode())],
        }
        async with asyncio.timeout(30), run_listeners(service) as listeners:
            await ListenerSocket(listeners, render_error)(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(serve())
    accepted, closed = sent
    assert accepted == {"type": "websocket.accept", "subprotocol": None}
    assert (closed["code"], closed["reason"]) == (1013, "too_slow")
    with session.connect() as listener:
        assert len(listener.receive_ids(1)) == 1


def test_responses_of_one_session_take_no_place_of_others_and_little_memory() -> None:
    async def add() -> list[dict[str, Any]]:
        recorder = ResponseRecorder("", Clock(), Codec(b""))
        response = WebhookResponse("evt_1", "", 200, "x" * 1_000_000)
        for name in ("wsl_flood", "wsl_other"):
            session = sessions.Session(name, "acct_1", False, "", "", (), {}, "", 0, frozenset(), 0)
            for _ in range(WAITING_OF_SESSION_MAX + 10 if name == "wsl_flood" else 1):
                recorder.add(session, response)
        return list(recorder._waiting)

    waiting = asyncio.run(add())
    assert [each["session"] for each in waiting] == ["wsl_flood"] * WAITING_OF_SESSION_MAX + ["wsl_other"]
    assert {len(each["answer"]) for each in waiting} == {RESPONSE_BYTES_MAX}


def test_a_listener_that_connects_while_the_sessions_are_looked_at_stays_connected(
    service: Service, account: Account, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Session(service.url, account.secret)
    read_states = sessions.read_states
    ended: list[str] = []

    async def run() -> None:
        looks = 0
        looked_again = asyncio.Event()
        async with run_listeners(service) as listeners:
            first = await listeners.connect(session.answer["websocket_id"])
            second = await listeners.connect(late.answer["websocket_id"])
            assert first is not None
            assert second is not None

            async def connect_meanwhile(
                conn: Conn, ids: Sequence[str], now: float
            ) -> dict[str, sessions.SessionState]:
                nonlocal looks
                states = await read_states(conn, ids, now)
                looks += 1
                if looks == 1:
                    listeners.open(second, ended.append)
                elif looks == 2:
                    looked_again.set()
                return states

            monkeypatch.setattr(sessions, "read_states", connect_meanwhile)
            listeners.open(first, ended.append)
            async with asyncio.timeout(30):
                await looked_again.wait()

    asyncio.run(run())
    assert ended == []
