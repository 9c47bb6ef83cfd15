"""What comes over the websocket: every Event twice, signed, until it is acknowledged."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
import stripe
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed

from ledger.api.stripe_cli.websocket import WebSocketProtocol
from ledger.keys.documents import open_document
from ledger.postgres.connections import connect
from ledger.stripe_cli.sessions import resend
from ledger.wire.versions import LATEST_VERSION
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, create_client, ok
from tests.keys.keyrings import read_keyring
from tests.listeners.client import FRAME_BYTES_MAX, QUIET_SECONDS, Session, ids
from tests.listeners.conftest import Ask
from tests.webhooks.receiver import wait_until

ATTEMPTS = """
SELECT d.event, d.account, d.state, d.tries, a.number, a.status, a.sealed_answer, a.duration_ms
FROM webhooks.deliveries d JOIN webhooks.attempts a ON a.delivery = d.id
WHERE d.endpoint LIKE 'wsl\\_%%' AND d.account = ANY (%s) ORDER BY d.position, d.ordinal, a.number
"""


def open_answer(service: Service, stored: bytes) -> bytes | None:
    """The answer of an attempt as ATTEMPTS reads it, opened."""
    return open_document(read_keyring(service.dsn, SERVICE_KEY.encode()), stored)


def test_each_event_comes_in_both_versions_signed_as_a_webhook_is(raw: Caller, session: Session) -> None:
    raw.customer(name="before the listener is connected: é\r\n\u2028")
    with session.connect() as listener:
        assert listener.socket.subprotocol == "stripecli-devproxy-v1"
        older, newer = listener.receive(2)
        assert (older.rendering, newer.rendering) == (None, LATEST_VERSION)
        assert older.event == ok(raw.get(f"/v1/events/{older.id}"))
        assert newer.event == {**older.event, "api_version": LATEST_VERSION}
        for message in (older, newer):
            assert message.verify(session.secret).type == "customer.created"
            headers = message.frame["http_headers"]
            assert headers["Content-Type"] == "application/json; charset=utf-8"
            assert headers["User-Agent"].startswith("Stripe/1.0 (+")
            with pytest.raises(stripe.SignatureVerificationError):
                message.verify("whsec_another")
        names = {message.frame["webhook_conversation_id"] for message in (older, newer)}
        assert len(names) == 2
        assert older.frame["webhook_id"].startswith("wsl_")
        raw.customer()
        assert len(listener.receive_ids(1)) == 1
        assert listener.is_quiet()


def test_a_listener_gets_events_of_its_account_and_mode_only_and_a_platform_those_of_connected_ones(
    service: Service, account: Account, raw: Caller, live: Caller, registrar: Registrar
) -> None:
    """Of what happened before they were connected, and of what happens then."""
    connected, stranger = registrar.account(platform=account.id), registrar.account()
    own_session, their_session = Session(service.url, account.secret), Session(service.url, connected.secret)

    def make_events() -> tuple[str, str]:
        create_client(service, stranger.secret).v1.customers.create({})
        live.customer()
        return raw.customer()["id"], create_client(service, connected.secret).v1.customers.create({}).id

    made = [make_events()]
    raw.events()
    with own_session.connect() as platform, their_session.connect() as merchant:
        for _ in range(2):
            own, theirs = made[-1]
            first, second = (message for message in platform.receive(4) if message.rendering is None)
            assert (first.event["data"]["object"]["id"], second.event["data"]["object"]["id"]) == (
                own,
                theirs,
            )
            assert "account" not in first.event
            assert second.event["account"] == connected.id
            (message, _) = merchant.receive(2)
            assert (message.id, "account" in message.event) == (second.id, False)
            made.append(make_events())
        platform.receive(4)
        assert platform.is_quiet()


def test_what_is_not_acknowledged_comes_again_and_nothing_else(
    service: Service, account: Account, raw: Caller, session: Session
) -> None:
    with session.connect() as listener:
        for _ in range(3):
            raw.customer()
        sent = listener.receive(6, acknowledge=False)
        for message in (sent[0], sent[1], sent[3], sent[5]):
            listener.acknowledge(message)
    raw.customer()  # while nothing is connected
    with session.connect() as listener:
        again = listener.receive(4)
        assert [(each.id, each.rendering) for each in again[:2]] == [
            (sent[2].id, None),
            (sent[4].id, None),
        ]
        assert again[2].id == again[3].id
        assert again[0].frame["webhook_conversation_id"] != sent[2].frame["webhook_conversation_id"]
        assert listener.is_quiet()
    with session.connect() as listener:
        assert listener.is_quiet()


def test_an_acknowledgement_of_before_a_reset_counts_after_it(raw: Caller, session: Session) -> None:
    with session.connect() as listener:
        raw.customer()
        early = listener.receive(2, acknowledge=False)
    with session.connect() as listener:
        late = listener.receive(2, acknowledge=False)
        for message in early:
            listener.acknowledge(message)
        assert ids(late) == ids(early)
    with session.connect() as listener:
        assert listener.is_quiet()


def test_responses_are_attempts_of_a_forwarded_delivery_that_is_owed_to_nobody(
    service: Service, account: Account, raw: Caller, session: Session, registrar: Registrar, ask: Ask
) -> None:
    stranger = registrar.account()
    create_client(service, stranger.secret).v1.customers.create({})
    foreign = create_client(service, stranger.secret).v1.events.list({"limit": 1}).data[0].id
    with session.connect() as listener:
        raw.customer()
        message, _ = listener.receive(2)
        listener.respond(message, 500, "é" * 2000)
        listener.respond(message, 200, "fine")
        listener.respond(message._replace(event={"id": foreign}), 200, "")
        listener.respond(message._replace(event={"id": "evt_nothing"}), 200, "")
        listener.respond(message, 20, "no status")
        attempts = wait_until(lambda: (found := ask(ATTEMPTS, [account.id])) and len(found) == 2 and found)
    assert [attempt[:6] for attempt in attempts] == [
        (message.id, account.id, "forwarded", 2, 1, 500),
        (message.id, account.id, "forwarded", 2, 2, 200),
    ]
    assert open_answer(service, attempts[0][6]) == ("é" * 1024).encode()
    assert all(0 <= attempt[7] < 30_000 for attempt in attempts)
    assert ask(ATTEMPTS, [stranger.id]) == []
    assert ok(raw.get(f"/v1/events/{message.id}"))["pending_webhooks"] == 0
    assert ok(raw.get("/v1/events?delivery_success=false"))["data"] == []


async def send_again(dsn: str, account: str, event: str) -> int:
    async with await connect(dsn, "ledger_api", name="tests") as conn:
        return await resend(conn, account, False, event)


def test_an_event_is_sent_again_to_the_listeners_of_its_account_until_they_acknowledge_it(
    service: Service, account: Account, raw: Caller, registrar: Registrar, ask: Ask
) -> None:
    platform = registrar.account()
    merchant = registrar.account(platform=platform.id)
    create_client(service, merchant.secret).v1.customers.create({})
    event = create_client(service, merchant.secret).v1.events.list({"limit": 1}).data[0].id
    sessions = [Session(service.url, key) for key in (merchant.secret, platform.secret, account.secret)]
    with sessions[0].connect() as listener:
        assert asyncio.run(send_again(service.dsn, merchant.id, event)) == 2
        assert ids(listener.receive(2)) == [event]
        wait_until(lambda: len(ask("SELECT FROM stripe_cli.resends WHERE event = %s", event)) == 1)
        assert listener.is_quiet()
    with sessions[1].connect() as listener:
        (message, _) = listener.receive(2, acknowledge=False)
        assert message.event["account"] == merchant.id
    with sessions[1].connect() as listener:
        assert ids(listener.receive(2)) == [event]
        wait_until(lambda: not ask("SELECT FROM stripe_cli.resends WHERE event = %s", event))
    assert asyncio.run(send_again(service.dsn, account.id, event)) == 0
    assert asyncio.run(send_again(service.dsn, merchant.id, "evt_nothing")) == 0


def test_a_session_ends_with_its_key(service: Service, account: Account, registrar: Registrar) -> None:
    key_id, key = registrar.key(account.id)
    other = Session(service.url, account.secret)
    session = Session(service.url, key)
    with session.connect() as listener, other.connect() as other_listener:
        registrar.revoke(key_id)
        assert listener.wait_closed() == 1008
        assert session.refusal() == (401, "Unknown WebSocket ID.")
        assert other_listener.is_quiet()


def test_of_two_connections_of_a_session_the_newer_one_is_served(raw: Caller, session: Session) -> None:
    with session.connect() as older, session.connect() as newer:
        assert older.wait_closed() == 1008
        raw.customer()
        assert len(newer.receive_ids(1)) == 1


def test_an_unknown_id_is_refused_with_the_words_that_make_the_cli_ask_for_a_new_session(
    session: Session,
) -> None:
    for websocket_id in ("", "x", "wsid_" + "0" * 44, session.answer["websocket_id"] + "0"):
        session.answer["websocket_id"] = websocket_id
        assert session.refusal() == (401, "Unknown WebSocket ID.")


def test_frames_up_to_16_mib_are_read_and_noise_is_ignored(raw: Caller, session: Session) -> None:
    with session.connect() as listener:
        for noise in (
            "",
            "{",
            "[]",
            '{"type":"hello"}',
            '{"type":"event_ack"}',
            '{"type":"webhook_response"}',
            '{"type":"event_ack","x":' + "[" * 100_000 + "]" * 100_000 + "}",
            '{"type":"event_ack","event_id":"rlog_' + "9" * 5000 + '"}',
        ):
            listener.socket.send(noise)
        listener.send({"type": "event_ack", "webhook_conversation_id": "9" * 30 + ".0.latest_1_1"})
        listener.send({"type": "webhook_response", "body": "x" * (FRAME_BYTES_MAX - 1000)})
        raw.customer()
        assert len(listener.receive_ids(1)) == 1
        with suppress(ConnectionClosed):
            listener.send({"type": "webhook_response", "body": "x" * FRAME_BYTES_MAX})
        listener.wait_closed()
    with session.connect() as listener:
        assert listener.is_quiet()


def test_a_listener_of_request_logs_gets_no_events(service: Service, account: Account, raw: Caller) -> None:
    logs = Session(service.url, account.secret, **{"websocket_features[]": ["request_logs"]})
    with logs.connect() as listener:
        raw.customer()
        with suppress(TimeoutError):
            while True:
                frame = json.loads(listener.socket.recv(timeout=QUIET_SECONDS))
                assert frame["type"] == "request_log_event"


def test_a_listener_that_does_not_read_holds_up_nobody(
    service: Service, account: Account, raw: Caller, session: Session
) -> None:
    """It is sent what its connection takes, and no more until it reads."""
    with Session(service.url, account.secret).connect() as reader, session.connect() as idle:
        idle.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        started = time.monotonic()
        for _ in range(20):
            raw.customer(**{f"metadata[{number}]": "x" * 500 for number in range(50)})
        assert len(reader.receive_ids(20)) == 20
        assert time.monotonic() - started < 20
    with session.connect() as listener:
        assert len(listener.receive_ids(20)) == 20


HANDSHAKE = (
    "Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nWebsocket-Id: {id}\r\n"
)


@pytest.mark.parametrize(
    ("version", "rest", "status"),
    [
        ("1.1", "\r\n", 101),
        ("1.0", "\r\n", 401),
        ("1.1", "Content-Length: 0\r\n\r\n", 101),
        ("1.1", "Content-Length: 5\r\n\r\nhello", 401),
        ("1.1", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 401),
        ("1.1", "X-Noise: 1\r\n" * 200 + "\r\n", 400),
        ("1.1", "X-Noise: " + "x" * 9000 + "\r\n\r\n", 400),
    ],
)
def test_every_handshake_is_answered(session: Session, version: str, rest: str, status: int) -> None:
    """No websocket for one with a body or of HTTP/1.0: an upgrade that the server ignores, so it asks for a
    key. 400 for what the library for websockets cannot read."""
    url = urlsplit(session.answer["websocket_url"])
    head = f"GET {url.path} HTTP/{version}\r\n" + HANDSHAKE.format(id=session.answer["websocket_id"])
    with socket.create_connection((url.hostname, url.port), timeout=30) as conn:
        conn.sendall((head + rest).encode())
        assert conn.recv(4096).startswith(b"HTTP/1.1 %d " % status)


def test_answers_to_pings_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def count_writes() -> list[int]:
        config = Config(accept, ws=WebSocketProtocol, log_config=None, ws_ping_interval=None)
        config.load()
        protocol = WebSocketProtocol(config, ServerState(), {})
        transport = Mock(asyncio.Transport, get_extra_info=lambda *_: None, is_closing=lambda: False)
        protocol.connection_made(transport)
        protocol.data_received(f"GET / HTTP/1.1\r\n{HANDSHAKE.format(id='x')}\r\n".encode())
        await asyncio.sleep(0)
        counts = []
        for change in (protocol.pause_writing, protocol.resume_writing):
            change()
            transport.write.reset_mock()
            for _ in range(3):
                protocol.data_received(b"\x89\x80\0\0\0\0")
            counts.append(transport.write.call_count)
        for task in protocol.tasks:
            task.cancel()
        return counts

    assert asyncio.run(count_writes()) == [0, 3]


def test_other_upgrades_of_the_public_api_are_ignored_as_ever(raw: Caller) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert raw.call("GET", "/v1/customers", headers=headers).status_code == 200
    assert raw.call("GET", "/v1/stripecli/socket").status_code == 404
    refused = raw.call("POST", "/v1/stripecli/socket", headers=headers)
    assert refused.status_code == 404
