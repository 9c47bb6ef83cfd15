"""A listener of thin events gets each Event once, or beside its snapshots, until it is acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import stripe

from ledger.stripe_cli import events as events_module
from ledger.stripe_cli.events import EventSource
from ledger.stripe_cli.frames import EventAck
from ledger.wire.thin_events import to_snapshot_id, to_thin_id
from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.listeners.client import Listener, Message, Session, ids
from tests.listeners.conftest import Ask
from tests.listeners.test_bounds import MISSED, run_listeners
from tests.listeners.test_socket import ATTEMPTS, open_answer, send_again
from tests.webhooks.receiver import wait_until


def open_session(service: Service, key: str, *features: str) -> Session:
    return Session(service.url, key, **{"websocket_features[]": features or ["v2_events"]})


@pytest.fixture
def thin(service: Service, account: Account) -> Session:
    """A session of `stripe listen --all-thin`."""
    return open_session(service, account.secret)


@pytest.fixture
def both(service: Service, account: Account) -> Session:
    """A session of `stripe listen` without options."""
    return open_session(service, account.secret, "webhooks", "v2_events")


def receive_renderings(listener: Listener, events: int) -> dict[str, list[str | None]]:
    """How the next Events came, by the id of the snapshot."""
    came: dict[str, list[str | None]] = {}
    for message in listener.receive(3 * events):
        came.setdefault(to_snapshot_id(message.id) or message.id, []).append(message.rendering)
    return came


def test_a_listener_of_thin_events_gets_them_once_signed_and_no_snapshot(
    service: Service, account: Account, client: stripe.StripeClient, raw: Caller, thin: Session
) -> None:
    customer = raw.customer(name="before the listener is connected")
    with thin.connect() as listener:
        (message,) = listener.receive(1)
        (snapshot,) = raw.events()
        notification = client.parse_event_notification(
            message.payload, message.frame["http_headers"]["Stripe-Signature"], thin.secret
        )
        assert isinstance(notification, stripe.events.V1CustomerCreatedEventNotification)
        assert (notification.id, notification.context) == (to_thin_id(snapshot["id"]), None)
        assert notification.related_object.id == customer["id"]
        headers = message.frame["http_headers"]
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert headers["User-Agent"].startswith("Stripe/1.0 (+")
        with pytest.raises(stripe.SignatureVerificationError):
            client.parse_event_notification(message.payload, headers["Stripe-Signature"], "whsec_another")
        raw.customer()
        assert len(ids(listener.receive(1))) == 1
        assert listener.is_quiet()


def test_a_listener_of_both_gets_each_change_as_snapshots_and_thin(
    account: Account, raw: Caller, both: Session
) -> None:
    made = [raw.customer()["id"] for _ in range(3)]
    with both.connect() as listener:
        came = receive_renderings(listener, len(made))
        assert listener.is_quiet()
    events = raw.events()
    assert list(came) == [event["id"] for event in events]
    assert {len(set(renderings)) for renderings in came.values()} == {3}
    assert {"thin" in renderings for renderings in came.values()} == {True}


def test_what_is_not_acknowledged_comes_again_in_the_rendering_that_was_not(
    raw: Caller, both: Session
) -> None:
    with both.connect() as listener:
        for _ in range(2):
            raw.customer()
        sent = listener.receive(6, acknowledge=False)
        lost = [next(message for message in sent if message.is_thin), sent[-2]]
        for message in sent:
            if message not in lost:
                listener.acknowledge(message)
    raw.customer()  # while nothing is connected
    with both.connect() as listener:
        again = listener.receive(5)
        assert [(each.id, each.rendering) for each in again[:2]] == [(m.id, m.rendering) for m in lost]
        assert again[0].names != lost[0].names
        assert listener.is_quiet()
        listener.acknowledge(lost[0])  # as an earlier connection would
    with both.connect() as listener:
        assert listener.is_quiet()


def test_a_platform_is_told_the_account_as_the_context(
    service: Service, account: Account, raw: Caller, registrar: Registrar, thin: Session
) -> None:
    connected = registrar.account(platform=account.id)
    merchant = open_session(service, connected.secret)
    theirs = create_client(service, connected.secret).v1.customers.create({})
    own = raw.customer()
    with thin.connect() as listener, merchant.connect() as merchants:
        shown = [(m.event["related_object"]["id"], m.event["context"]) for m in listener.receive(2)]
        assert shown == [(theirs.id, connected.id), (own["id"], None)]
        (message,) = merchants.receive(1)
        assert message.event["context"] is None
        assert merchants.is_quiet()


def test_responses_to_both_are_attempts_of_one_delivery(
    service: Service, account: Account, raw: Caller, both: Session, ask: Ask
) -> None:
    with both.connect() as listener:
        raw.customer()
        snapshot, thin = sorted(listener.receive(3), key=lambda message: message.is_thin)[1:]
        listener.respond(thin, 500, "not yet")
        wait_until(lambda: ask(ATTEMPTS, [account.id]))
        listener.respond(snapshot, 200, "fine")
        listener.respond(thin._replace(event={"id": "evt_thin_nothing"}), 200, "")
        attempts = wait_until(lambda: (found := ask(ATTEMPTS, [account.id])) and len(found) == 2 and found)
    assert [(*attempt[:6], open_answer(service, attempt[6])) for attempt in attempts] == [
        (snapshot.id, account.id, "forwarded", 2, 1, 500, b"not yet"),
        (snapshot.id, account.id, "forwarded", 2, 2, 200, b"fine"),
    ]
    assert all(0 <= attempt[7] < 30_000 for attempt in attempts)
    assert ok(raw.get(f"/v1/events/{snapshot.id}"))["pending_webhooks"] == 0


def test_an_event_is_sent_again_as_the_session_gets_it(
    service: Service, account: Account, raw: Caller, thin: Session, both: Session, ask: Ask
) -> None:
    raw.customer()
    (event,) = raw.events()
    with thin.connect() as listener, both.connect() as other:
        listener.receive(1)
        receive_renderings(other, 1)
        assert asyncio.run(send_again(service.dsn, account.id, event["id"])) == 2
        (message,) = listener.receive(1, acknowledge=False)
        assert message.id == to_thin_id(event["id"])
        assert len(receive_renderings(other, 1)[event["id"]]) == 3
        assert other.is_quiet()
    with thin.connect() as listener:
        assert ids(listener.receive(1)) == [message.id]
        wait_until(lambda: not ask("SELECT FROM stripe_cli.resends WHERE event = %s", event["id"]))


def test_a_listener_far_behind_is_told_how_many_thin_events_it_missed(
    service: Service,
    account: Account,
    client: stripe.StripeClient,
    raw: Caller,
    thin: Session,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "BACKLOG_EVENTS_MAX", 5)
    monkeypatch.setattr(events_module, "COUNTED_POSITIONS", 1)
    made = [raw.customer()["id"] for _ in range(12)]
    raw.events()  # the feed has them

    async def receive() -> list[Message]:
        async with run_listeners(service) as listeners:
            opened = await listeners.connect(thin.answer["websocket_id"])
            assert opened is not None
            (source,) = listeners.open(opened, lambda _: None)
            assert isinstance(source, EventSource)
            received: list[Message] = []
            async with asyncio.timeout(30):
                async for text in source.frames():
                    frame: dict[str, Any] = msgspec.json.decode(text)
                    source.acknowledge(EventAck(webhook_id=frame["destination_id"]))
                    received.append(Message(frame, msgspec.json.decode(frame["payload"])))
                    if len(received) == 6:
                        break
            await source.save()
            return received

    told, *messages = asyncio.run(receive())
    assert (told.id, told.event["type"]) == ("evt_thin_missed_7", "v1.ledger.events_missed")
    assert told.event["related_object"] is None
    signature = told.frame["http_headers"]["Stripe-Signature"]
    notification = client.parse_event_notification(told.payload, signature, thin.secret)
    assert isinstance(notification, stripe.events.UnknownEventNotification)
    assert [message.event["related_object"]["id"] for message in messages] == made[7:]
    assert ask(MISSED, account.id)[0][0] == 0
    with thin.connect() as listener:
        assert listener.is_quiet()
