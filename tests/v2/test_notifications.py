"""Thin webhooks in the hands of the unchanged SDK: parsed, handled, followed to their event and object
(contract §10.4)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
import stripe

from ledger.webhooks.signature import sign
from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.v2.conftest import EVENTS

SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdHM"
NOT_PUSHED = {"changes", "snapshot_event"}

Notification = Any
Webhook = tuple[bytes, str]


def make_webhook(thin: dict[str, Any]) -> Webhook:
    """What a receiver gets of a thin event: body and signature."""
    pushed = {name: value for name, value in thin.items() if name not in NOT_PUSHED}
    body = json.dumps(pushed).encode()
    return body, sign([SECRET], int(time.time()), body)


def list_webhooks(caller: Caller, **headers: str) -> list[Webhook]:
    """Those of all Events, oldest first."""
    page = ok(caller.call("GET", f"{EVENTS}?limit=100", headers=headers))
    return [make_webhook(thin) for thin in page["data"][::-1]]


def tell_a_story(raw: Caller) -> None:
    """Most types of Events that the ledger makes by requests."""
    customer = raw.customer(name="Ada")["id"]
    ok(raw.post(f"/v1/customers/{customer}", "name=Grace"))
    held = raw.charge(capture="false")["id"]
    ok(raw.post(f"/v1/charges/{held}/capture"))
    ok(raw.post(f"/v1/charges/{held}", "description=x"))
    refund = ok(raw.post("/v1/refunds", {"charge": held, "amount": 500}))["id"]
    ok(raw.post(f"/v1/refunds/{refund}", "metadata[a]=1"))
    assert raw.post("/v1/charges", "amount=500&currency=usd&source=tok_chargeDeclined").status_code == 402
    won = raw.dispute()["id"]
    ok(raw.post(f"/v1/disputes/{won}", "evidence[uncategorized_text]=winning_evidence&submit=true"))
    lost = raw.dispute()["id"]
    ok(raw.post(f"/v1/disputes/{lost}/close"))
    form = "amount=500&currency=usd&payment_method=pm_card_visa&confirm=true&payment_method_types[0]=card"
    ok(raw.post("/v1/payment_intents", form))
    canceled = ok(raw.post("/v1/payment_intents", "amount=500&currency=usd"))["id"]
    ok(raw.post(f"/v1/payment_intents/{canceled}/cancel"))
    ok(raw.delete(f"/v1/customers/{customer}"))


@pytest.mark.contract("10.4 SDKs")
def test_each_notification_leads_to_its_event_and_its_object(
    raw: Caller, client: stripe.StripeClient
) -> None:
    tell_a_story(raw)
    webhooks = list_webhooks(raw)
    types = set()
    for body, signature in webhooks:
        notification: Notification = client.parse_event_notification(body, signature, SECRET)
        event: Any = notification.fetch_event()
        assert (event.id, event.type) == (notification.id, notification.type)
        assert type(event).__name__ == type(notification).__name__.removesuffix("Notification")
        for related in (notification.fetch_related_object(), event.fetch_related_object()):
            assert (related.id, related.object) == (event.related_object.id, event.related_object.type)
        snapshot = client.v1.events.retrieve(event.snapshot_event)
        assert event.type == f"v1.{snapshot.type}"
        request: Any = snapshot.request
        assert (
            event.reason and event.reason.request.id
        ) == request.id  # null after a decision of the network
        if event.changes is not None:
            assert event.changes["before"] == snapshot.data.previous_attributes
        types.add(notification.type.removeprefix("v1."))
    assert types >= {
        "customer.created", "customer.updated", "customer.deleted", "charge.succeeded", "charge.captured",
        "charge.updated", "charge.refunded", "charge.failed", "refund.created", "refund.updated",
        "charge.refund.updated", "charge.dispute.created", "charge.dispute.funds_withdrawn",
        "charge.dispute.updated", "charge.dispute.closed", "payment_intent.created",
        "payment_intent.succeeded", "payment_intent.canceled",
    }  # fmt: skip


@pytest.mark.contract("10.4 SDKs")
def test_a_handler_gets_its_types_and_the_fallback_the_others(
    raw: Caller, client: stripe.StripeClient
) -> None:
    raw.customer(name="Ada")
    charge = raw.charge()["id"]
    seen: list[Any] = []
    handler = client.notification_handler(
        SECRET, lambda notification, _, details: seen.append((notification.type, details.is_known_event_type))
    )

    @handler.on_v1_charge_succeeded
    def see(notification: Notification, its_client: stripe.StripeClient) -> None:
        seen.append(its_client.v1.charges.retrieve(notification.related_object.id).id)

    for body, signature in list_webhooks(raw):
        handler.handle(body, signature)
    assert seen == [("v1.customer.created", True), charge]
    with pytest.raises(stripe.SignatureVerificationError):
        handler.handle(body + b" ", signature)


@pytest.mark.contract("10.1 usage", "10.4 SDKs")
def test_an_async_handler_does_the_same(service: Service, account: Account, raw: Caller) -> None:
    charge = raw.charge()["id"]
    client = create_client(service, account.secret, http_client=stripe.HTTPXClient())
    seen: list[Any] = []

    async def see_other(*_: Any) -> None:
        raise AssertionError("no other Event")

    handler = client.async_notification_handler(SECRET, see_other)

    @handler.on_v1_charge_succeeded
    async def see(notification: Notification, _: stripe.StripeClient) -> None:
        event = await notification.fetch_event_async()
        related = await notification.fetch_related_object_async()
        seen.append((event.id, related.id))

    async def handle() -> None:
        for body, signature in list_webhooks(raw):
            await handler.handle_async(body, signature)

    asyncio.run(handle())
    (thin,) = ok(raw.get(EVENTS))["data"]
    assert seen == [(thin["id"], charge)]


@pytest.mark.contract("10.4 context", "10.4 SDKs")
def test_a_platform_follows_notifications_of_connected_accounts(
    http: httpx.Client, account: Account, registrar: Registrar, service: Service
) -> None:
    connected = registrar.account(platform=account.id)
    charge = Caller(http, connected.secret).charge()["id"]
    platform = Caller(http, account.secret)
    (webhook,) = list_webhooks(platform, **{"stripe-context": connected.id})
    client = create_client(service, account.secret)
    notification: Notification = client.parse_event_notification(*webhook, SECRET)
    assert str(notification.context) == connected.id
    assert notification.fetch_related_object().id == charge
    assert notification.fetch_event().context == connected.id


def test_a_type_that_the_sdk_does_not_know_is_followed_all_the_same(
    raw: Caller, operator: Caller, client: stripe.StripeClient
) -> None:
    headers = {"authorization": f"Bearer {operator.key}"}
    path = "/internal/v1/resources/treasury.received_credit/rc_1"
    body = {"event_type": "treasury.received_credit.created", "object": {"id": "rc_1", "amount": 5}}
    body["object"] |= {"object": "treasury.received_credit"}  # type: ignore[operator]
    ok(operator.http.put(path, json=body, headers=headers))
    (webhook,) = list_webhooks(raw)
    notification: Notification = client.parse_event_notification(*webhook, SECRET)
    assert type(notification).__name__ == "UnknownEventNotification"
    assert notification.fetch_related_object().amount == 5
    assert notification.fetch_event().snapshot_event == raw.events()[0]["id"]


def test_the_sdk_tells_thin_from_snapshot(raw: Caller, client: stripe.StripeClient) -> None:
    raw.customer(name="Ada")
    (webhook,) = list_webhooks(raw)
    with pytest.raises(ValueError, match="parse_event_notification"):
        client.construct_event(*webhook, SECRET)
