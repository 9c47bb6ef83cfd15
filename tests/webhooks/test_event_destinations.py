"""Event destinations at a real receiver that is built with the official client (contract §10.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
import stripe
from standardwebhooks import Webhook

from ledger.cli.events.scenarios import SCENARIOS
from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.webhooks.receiver import ReceivedRequest, Receiver, ScriptedResponse, wait_until

DELIVERIES = "/internal/v1/webhooks/deliveries"
REPLAY = "/internal/v1/webhooks/replay"
NOT_PUSHED = {"changes", "snapshot_event"}
PING = "v2.core.event_destination.ping"


def create_destination(client: stripe.StripeClient, url: str, **given: Any) -> Any:
    params = {
        "name": "Books",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["*"],
        "webhook_endpoint": {"url": url},
        "include": ["webhook_endpoint.signing_secret"],
        **given,
    }
    return client.v2.core.event_destinations.create(cast("Any", params))


def parse(client: stripe.StripeClient, destination: Any, received: ReceivedRequest) -> Any:
    """What the official client makes of it, the signature verified."""
    secret = destination.webhook_endpoint.signing_secret
    return client.parse_event_notification(received.body, received.signature, secret)


def list_thin_events(raw: Caller) -> list[Any]:
    """All of the account, oldest first."""
    page = ok(raw.get("/v2/core/events?limit=100"))
    assert page["next_page_url"] is None
    return list(page["data"][::-1])


def list_types(received: Sequence[ReceivedRequest]) -> list[str]:
    return [json.loads(request.body)["type"] for request in received]


@pytest.mark.contract("10.5 payload", "10.5 twins")
def test_a_receiver_gets_every_type_and_follows_it_to_event_and_object(
    service: Service,
    account: Account,
    client: stripe.StripeClient,
    raw: Caller,
    receiver: Receiver,
    path: str,
) -> None:
    thin = create_destination(client, receiver.url(f"{path}/thin"))
    version = {"event_payload": "snapshot", "snapshot_api_version": "2024-06-20"}
    full = create_destination(client, receiver.url(f"{path}/full"), **version)
    service.run_command("trigger", *SCENARIOS, "--account", account.id)
    events = list_thin_events(raw)
    assert {event["type"] for event in events} == {f"v1.{name}" for name in SCENARIOS}
    snapshots = {
        event.id: event
        for request in receiver.wait_for(f"{path}/full", len(events))
        for event in (request.event(full.webhook_endpoint.signing_secret),)
    }
    seen: list[tuple[Any, bool]] = []
    handler = client.notification_handler(
        thin.webhook_endpoint.signing_secret,
        lambda notification, _, details: seen.append((notification, details.is_known_event_type)),
    )
    pushed = {}
    for request in receiver.wait_for(f"{path}/thin", len(events)):
        handler.handle(request.body, request.signature)
        pushed[json.loads(request.body)["id"]] = json.loads(request.body)
    assert pushed == {
        event["id"]: {name: value for name, value in event.items() if name not in NOT_PUSHED}
        for event in events
    }
    for notification, is_known in seen:
        event: Any = notification.fetch_event()
        assert (event.id, event.type, is_known) == (notification.id, notification.type, True)
        twin = snapshots.pop(event.snapshot_event)
        assert (event.type, twin.api_version) == (f"v1.{twin.type}", "2024-06-20")
        related: Any = notification.fetch_related_object()
        assert (related.id, related.object) == (twin.data.object["id"], twin.data.object["object"])
    assert snapshots == {}


@pytest.mark.contract("10.5 payload")
def test_only_the_types_that_are_enabled_and_nothing_while_disabled(
    client: stripe.StripeClient, raw: Caller, receiver: Receiver, path: str
) -> None:
    destinations = client.v2.core.event_destinations
    made = create_destination(client, receiver.url(path), enabled_events=["v1.customer.updated"])
    marker = create_destination(client, receiver.url(f"{path}/all"))
    customer = raw.customer(name="one")["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=two"))
    receiver.wait_for(path, 1)
    destinations.disable(made.id)
    ok(raw.post(f"/v1/customers/{customer}", "name=three"))
    destinations.enable(made.id)
    destinations.update(made.id, {"enabled_events": ["v1.customer.deleted"]})
    ok(raw.post(f"/v1/customers/{customer}", "name=four"))
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert list_types(receiver.wait_for(path, 2)) == ["v1.customer.updated", "v1.customer.deleted"]
    assert len(receiver.wait_for(f"{path}/all", 5)) == 5
    assert len(receiver.requests_to(path)) == 2
    destinations.delete(marker.id)


@pytest.mark.contract("10.5 events_from")
def test_a_platform_gets_thin_events_of_its_own_and_of_connected_accounts(
    client: stripe.StripeClient,
    account: Account,
    service: Service,
    registrar: Registrar,
    receiver: Receiver,
    path: str,
) -> None:
    connected = registrar.account(platform=account.id)
    made = {
        name: create_destination(client, receiver.url(f"{path}/{name}"), events_from=events_from)
        for name, events_from in {
            "own": ["@self"],
            "theirs": ["@accounts"],
            "both": ["@accounts", "@self"],
        }.items()
    }
    own = client.v1.customers.create({"name": "own"})
    theirs = create_client(service, connected.secret).v1.customers.create({"name": "theirs"})

    def get_objects(name: str, count: int) -> set[tuple[str | None, str]]:
        """The contexts of what came, and the objects that a client fetches by them."""
        found = set()
        for received in receiver.wait_for(f"{path}/{name}", count):
            notification = parse(client, made[name], received)
            context = None if notification.context is None else str(notification.context)
            assert notification.fetch_event().context == context
            found.add((context, notification.fetch_related_object().id))
        return found

    assert get_objects("both", 2) == {(None, own.id), (connected.id, theirs.id)}
    assert get_objects("own", 1) == {(None, own.id)}
    assert get_objects("theirs", 1) == {(connected.id, theirs.id)}


@pytest.mark.contract("10.5 ping")
def test_a_ping_is_sent_whatever_the_types_are_and_can_be_fetched(
    client: stripe.StripeClient, raw: Caller, operator: Caller, receiver: Receiver, path: str
) -> None:
    made = create_destination(client, receiver.url(path), enabled_events=["v1.charge.failed"])
    settings = {"ordered": True, "standard_webhooks": True}
    ok(operator.http.post(
        f"/internal/v1/webhooks/endpoints/{made.id}",
        json=settings,
        headers={"authorization": f"Bearer {operator.key}"},
    ))  # fmt: skip
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(200)]
    body, headers = b"{}", {"content-type": "application/json", "idempotency-key": "ping-1"}
    answers = [
        raw.call("POST", f"/v2/core/event_destinations/{made.id}/ping", body, headers) for _ in range(2)
    ]
    ping = ok(answers[0])
    assert answers[1].json() == ping
    for received in receiver.wait_for(path, 2):  # tried again after a failure, as any other
        assert json.loads(received.body) == {
            name: value for name, value in ping.items() if name not in NOT_PUSHED
        }
        assert received.headers["webhook-id"] == ping["id"]
        assert "ledger-sequence" not in received.headers
    notification = parse(client, made, received)
    assert type(notification).__name__ == "V2CoreEventDestinationPingEventNotification"
    assert notification.fetch_event().to_dict() == ping
    assert notification.fetch_related_object().id == made.id
    assert list_thin_events(raw) == []
    (delivery,) = ok(operator.get(f"{DELIVERIES}?event={ping['id']}&type={PING}"))["data"]
    assert (delivery["event"], delivery["type"], delivery["endpoint"]) == (ping["id"], PING, made.id)
    wait_until(lambda: ok(operator.get(f"{DELIVERIES}/{delivery['id']}"))["state"] == "delivered")
    ok(operator.post(f"{DELIVERIES}/{delivery['id']}/retry"))
    assert len(receiver.wait_for(path, 3)) == 3

    client.v2.core.event_destinations.disable(made.id)
    with pytest.raises(stripe.InvalidRequestError, match="is disabled: nothing is sent to it"):
        client.v2.core.event_destinations.ping(made.id)


@pytest.mark.contract("10.5 ping")
def test_a_ping_is_read_by_nobody_else(
    client: stripe.StripeClient,
    live: Caller,
    account: Account,
    registrar: Registrar,
    http: Any,
    receiver: Receiver,
    path: str,
) -> None:
    made = create_destination(client, receiver.url(path))
    ping = client.v2.core.event_destinations.ping(made.id)
    for caller in (live, Caller(http, registrar.account().secret)):
        assert caller.get(f"/v2/core/events/{ping.id}").status_code == 404


@pytest.mark.contract("10.5 payload")
def test_order_and_the_headers_of_standard_webhooks_hold_for_thin_events(
    client: stripe.StripeClient, raw: Caller, operator: Caller, receiver: Receiver, path: str
) -> None:
    made = create_destination(client, receiver.url(path))
    settings = operator.http.post(
        f"/internal/v1/webhooks/endpoints/{made.id}",
        json={"ordered": True, "standard_webhooks": True},
        headers={"authorization": f"Bearer {operator.key}"},
    )
    assert ok(settings)["event_payload"] == "thin"
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(200)]
    customer = raw.customer(name="one")["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=two"))
    received = receiver.wait_for(path, 3)
    assert list_types(received) == ["v1.customer.created", "v1.customer.created", "v1.customer.updated"]
    numbers = [int(request.headers["ledger-sequence"]) for request in received]
    assert numbers[0] == numbers[1] < numbers[2]
    for request in received:
        verified = Webhook(made.webhook_endpoint.signing_secret).verify(request.body, request.headers)
        assert request.headers["webhook-id"] == verified["id"] == parse(client, made, request).id


@pytest.mark.contract("10.5 payload")
def test_deliveries_show_the_thin_event_and_a_replay_sends_it_again(
    client: stripe.StripeClient, raw: Caller, operator: Caller, receiver: Receiver, path: str
) -> None:
    made = create_destination(client, receiver.url(path))
    raw.customer(name="one")
    (event,) = list_thin_events(raw)
    receiver.wait_for(path, 1)
    for query in (f"event={event['id']}", f"event={event['snapshot_event']}", "type=v1.customer.*"):
        (delivery,) = ok(operator.get(f"{DELIVERIES}?{query}&endpoint={made.id}"))["data"]
        assert (delivery["event"], delivery["type"]) == (event["id"], "v1.customer.created")
    wait_until(lambda: ok(operator.get(f"{DELIVERIES}/{delivery['id']}"))["state"] == "delivered")
    replay = {"endpoint": made.id, "from": 0, "types": ["v1.customer.*"]}
    headers = {"authorization": f"Bearer {operator.key}"}
    preview = ok(operator.http.post(REPLAY, json={**replay, "dry_run": True}, headers=headers))
    assert (preview["by_type"], preview["events"]) == ({"v1.customer.created": 1}, [event["id"]])
    ok(operator.http.post(REPLAY, json=replay, headers=headers))
    receiver.wait_for(path, 2)
    ok(raw.post(f"/v1/events/{event['snapshot_event']}/retry", {"webhook_endpoint": made.id}))
    assert len({received.body for received in receiver.wait_for(path, 3)}) == 1
