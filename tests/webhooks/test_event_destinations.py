"""Event destinations, and thin events at a real receiver, by the official client (contract §10.5)."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from ledger.wire.aggregates import AGGREGATES
from tests.api.service import Account, Caller, Registrar, Service, create_client
from tests.webhooks.receiver import ReceivedRequest, Receiver, wait_until

SHOW_ALL = ["webhook_endpoint.signing_secret", "webhook_endpoint.url"]


def create_destination(client: stripe.StripeClient, url: str, **given: Any) -> Any:
    params = {
        "name": "Books",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["*"],
        "webhook_endpoint": {"url": url},
        "include": SHOW_ALL,
        **given,
    }
    return client.v2.core.event_destinations.create(params)


def parse(client: stripe.StripeClient, destination: Any, received: ReceivedRequest) -> Any:
    secret = destination.webhook_endpoint.signing_secret
    return client.parse_event_notification(received.body, received.signature, secret)


def test_a_thin_destination_gets_thin_events_whose_event_and_object_the_client_fetches(
    client: stripe.StripeClient, receiver: Receiver, path: str
) -> None:
    destination = create_destination(client, receiver.url(path), enabled_events=["v1.customer.created"])
    customer = client.v1.customers.create({"name": "Jenny"})
    (received,) = receiver.wait_for(path, 1)

    notification = parse(client, destination, received)
    assert type(notification).__name__ == "V1CustomerCreatedEventNotification"
    assert notification.related_object.id == customer.id
    event = notification.fetch_event()
    assert (event.id, event.type) == (notification.id, "v1.customer.created")
    assert client.v1.events.retrieve(event.snapshot_event).data.object["id"] == customer.id
    assert notification.fetch_related_object().name == "Jenny"


def test_snapshot_and_thin_destination_get_twins_of_each_change(
    client: stripe.StripeClient, receiver: Receiver, path: str
) -> None:
    thin = create_destination(client, receiver.url(f"{path}/thin"))
    snapshot = create_destination(client, receiver.url(f"{path}/full"), event_payload="snapshot")
    client.v1.customers.create({"name": "Jenny"})
    (received,) = receiver.wait_for(f"{path}/full", 1)
    event = received.event(snapshot.webhook_endpoint.signing_secret)
    (received,) = receiver.wait_for(f"{path}/thin", 1)
    twin = parse(client, thin, received).fetch_event()
    assert (twin.snapshot_event, twin.type) == (event.id, f"v1.{event.type}")
    assert event.pending_webhooks == 2


def test_ping_reaches_the_receiver_and_can_be_fetched(
    client: stripe.StripeClient, receiver: Receiver, path: str
) -> None:
    destination = create_destination(client, receiver.url(path), enabled_events=["v1.charge.failed"])
    ping = client.v2.core.event_destinations.ping(destination.id)
    (received,) = receiver.wait_for(path, 1)
    notification = parse(client, destination, received)
    assert notification.id == ping.id
    assert notification.fetch_event().type == "v2.core.event_destination.ping"
    assert notification.fetch_related_object().id == destination.id
