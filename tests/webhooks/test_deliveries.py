"""What endpoints receive, by the official client and a real receiver (contract §5.3-§5.6, §7.9, §7.14)."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import stripe

from ledger.keys.documents import find_subject, open_document
from ledger.webhooks.schedule.limits import START_DELIVERIES
from tests.api.service import (
    SERVICE_KEY,
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    create_client,
    ok,
)
from tests.keys.keyrings import read_keyring
from tests.webhooks.conftest import Ask
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until

ATTEMPTS = """
SELECT a.number, a.status, a.answer, a.error
FROM webhooks.attempts a JOIN webhooks.deliveries d ON d.id = a.delivery
WHERE d.event = %s ORDER BY a.at
"""


def get_newest_event(client: stripe.StripeClient) -> stripe.Event:
    return client.v1.events.list({"limit": 1}).data[0]


def get_pending_count(client: stripe.StripeClient, event: str) -> int:
    return client.v1.events.retrieve(event).pending_webhooks


def load_attempts(ask: Ask, event: str) -> list[tuple[Any, ...]]:
    """What was tried of an event, once something was."""
    found: list[tuple[Any, ...]] = wait_until(lambda: ask(ATTEMPTS, event))
    return found


def list_events_by_success(client: stripe.StripeClient, success: bool) -> list[str]:
    """Ids of the events that `delivery_success` finds, newest first."""
    return [event.id for event in client.v1.events.list({"delivery_success": success}).data]


def test_after_a_500_a_delivery_is_retried_with_a_new_signature_until_it_succeeds(
    client: stripe.StripeClient, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    """Contract §7.9."""
    assert endpoint.secret is not None
    receiver.scripts[path] = [ScriptedResponse(500, b"not now"), ScriptedResponse(200)]
    customer = client.v1.customers.create({"name": "Jenny"})
    event = get_newest_event(client)
    assert event.pending_webhooks == 1
    assert list_events_by_success(client, False) == [event.id]
    assert list_events_by_success(client, True) == []

    first, second = receiver.wait_for(path, 2)
    assert second.signed_at > first.signed_at
    assert second.received_at - first.received_at >= 1
    for received in (first, second):
        told = received.event(endpoint.secret)
        assert (told.id, told.type, told.data.object["id"]) == (event.id, "customer.created", customer.id)
    wait_until(lambda: get_pending_count(client, event.id) == 0)
    assert list_events_by_success(client, True) == [event.id]
    assert list_events_by_success(client, False) == []
    assert len(receiver.requests_to(path)) == 2


def test_the_event_that_is_sent_is_the_event_that_is_read(
    raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    raw.customer(name="Jérôme \u2028 \U0001f9fe", **{"metadata[k]": "v"})
    (received,) = receiver.wait_for(path, 1)
    event = json.loads(received.body)
    assert event["pending_webhooks"] == 1
    wait_until(lambda: ok(raw.get(f"/v1/events/{event['id']}"))["pending_webhooks"] == 0)
    read = raw.get(f"/v1/events/{event['id']}")
    assert received.body == read.content.replace(b'"pending_webhooks":0', b'"pending_webhooks":1')
    assert received.headers["content-type"] == "application/json; charset=utf-8"
    assert received.headers["user-agent"].startswith("Stripe/1.0 (+")
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert int(received.headers["content-length"]) == len(received.body)
    assert "authorization" not in received.headers


def test_an_event_is_sent_in_the_api_version_of_its_endpoint(
    client: stripe.StripeClient, receiver: Receiver, path: str
) -> None:
    client.v1.webhook_endpoints.create(
        {"url": receiver.url(path), "enabled_events": ["*"], "api_version": "2020-08-27"}
    )
    client.v1.customers.create({})
    (received,) = receiver.wait_for(path, 1)
    assert json.loads(received.body)["api_version"] == "2020-08-27"
    assert get_newest_event(client).api_version != "2020-08-27"


def test_an_endpoint_gets_only_events_of_its_types_mode_and_account(
    client: stripe.StripeClient,
    live: Caller,
    receiver: Receiver,
    registrar: Registrar,
    service: Service,
    path: str,
) -> None:
    client.v1.webhook_endpoints.create(
        {"url": receiver.url(path), "enabled_events": ["charge.dispute.created", "customer.deleted"]}
    )
    create_client(service, registrar.account().secret).v1.charges.create(
        {"amount": 2000, "currency": "usd", "source": "tok_createDispute"}
    )
    live.customer()
    client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_createDispute"})
    customer = client.v1.customers.create({})
    client.v1.customers.delete(customer.id)
    received = receiver.wait_for(path, 2)
    assert {json.loads(each.body)["type"] for each in received} == {
        "charge.dispute.created",
        "customer.deleted",
    }
    assert [event.pending_webhooks for event in client.v1.events.list({"type": "charge.succeeded"}).data] == [
        0
    ]


def test_a_connect_endpoint_gets_the_events_of_connected_accounts_and_only_those(
    client: stripe.StripeClient,
    account: Account,
    service: Service,
    registrar: Registrar,
    receiver: Receiver,
    path: str,
) -> None:
    """Contract §7.14."""
    connected = registrar.account(platform=account.id)
    theirs = client.v1.webhook_endpoints.create(
        {"url": receiver.url(path), "enabled_events": ["*"], "connect": True}
    )
    client.v1.webhook_endpoints.create({"url": receiver.url(path + "/own"), "enabled_events": ["*"]})
    create_client(service, connected.secret).v1.webhook_endpoints.create(
        {"url": receiver.url(path + "/connected"), "enabled_events": ["*"]}
    )
    own = client.v1.customers.create({"name": "own"})
    customer = client.v1.customers.create({"name": "theirs"}, {"stripe_account": connected.id})

    (received,) = receiver.wait_for(path, 1)
    assert theirs.secret is not None
    event = received.event(theirs.secret)
    assert event.account == connected.id
    assert event.data.object["id"] == customer.id
    assert json.loads(received.body)["pending_webhooks"] in (1, 2)
    (received,) = receiver.wait_for(path + "/connected", 1)
    assert "account" not in json.loads(received.body)
    assert json.loads(received.body)["data"]["object"]["id"] == customer.id
    (received,) = receiver.wait_for(path + "/own", 1)
    assert json.loads(received.body)["data"]["object"]["id"] == own.id
    assert "account" not in json.loads(received.body)
    assert len(receiver.requests_to(path)) == 1


def test_events_recorded_while_an_endpoint_is_disabled_are_never_sent(
    client: stripe.StripeClient, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    client.v1.customers.create({"name": "missed"})
    assert get_newest_event(client).pending_webhooks == 0
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": False})
    client.v1.customers.create({"name": "sent"})
    (received,) = receiver.wait_for(path, 1)
    assert json.loads(received.body)["data"]["object"]["name"] == "sent"


def test_an_attempt_on_a_disabled_endpoint_is_skipped_and_the_next_one_made(
    client: stripe.StripeClient, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str, ask: Ask
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(200)]
    client.v1.customers.create({})
    event = get_newest_event(client).id
    receiver.wait_for(path, 1)
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    wait_until(lambda: ask("SELECT tries FROM webhooks.deliveries WHERE event = %s", event) == [(2,)])
    assert len(receiver.requests_to(path)) == 1
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": False})
    receiver.wait_for(path, 2)
    wait_until(lambda: get_pending_count(client, event) == 0)
    assert ask(ATTEMPTS, event) == [(1, 500, b"", None), (3, 200, b"", None)]


def test_an_event_stays_pending_after_the_last_attempt_until_the_endpoint_is_deleted(
    service: Service,
    client: stripe.StripeClient,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
) -> None:
    receiver.scripts[path] = [ScriptedResponse(410, b"gone" * 1000)]
    customer = client.v1.customers.create({}).id
    event = get_newest_event(client).id
    receiver.wait_for(path, 3)
    wait_until(lambda: ask("SELECT state FROM webhooks.deliveries WHERE event = %s", event) == [("failed",)])
    assert get_pending_count(client, event) == 1
    assert ask(ATTEMPTS, event)[-1] == (3, 410, None, None)
    sealed = ask(ATTEMPTS.replace("a.answer", "a.sealed_answer"), event)[-1][2]
    assert find_subject(sealed) == customer, "it may repeat the Event"
    keyring = read_keyring(service.dsn, SERVICE_KEY.encode())
    assert open_document(keyring, sealed) == b"gone" * 512
    client.v1.webhook_endpoints.delete(endpoint.id)
    assert get_pending_count(client, event) == 0
    assert list_events_by_success(client, False) == []
    assert len(receiver.requests_to(path)) == 3


def test_deliveries_to_a_deleted_endpoint_are_not_sent(
    client: stripe.StripeClient, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str, ask: Ask
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]
    client.v1.customers.create({})
    receiver.wait_for(path, 1)
    event = get_newest_event(client).id
    client.v1.webhook_endpoints.delete(endpoint.id)
    assert get_pending_count(client, event) == 0
    wait_until(lambda: ask("SELECT state FROM webhooks.deliveries WHERE event = %s", event) == [("dropped",)])


@pytest.mark.parametrize(
    ("status", "headers", "taken"),
    [(204, (), True), (299, (), True), (302, (("location", "/hooks/elsewhere"),), False), (404, (), False)],
)
def test_only_2xx_is_success_and_no_redirect_is_followed(
    client: stripe.StripeClient,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
    status: int,
    headers: tuple[tuple[str, str], ...],
    taken: bool,
) -> None:
    receiver.scripts[path] = [ScriptedResponse(status, headers=headers)]
    client.v1.customers.create({})
    event = get_newest_event(client).id
    assert load_attempts(ask, event)[0][:2] == (1, status)
    assert get_pending_count(client, event) == (0 if taken else 1)
    assert receiver.requests_to("/hooks/elsewhere") == []
    client.v1.webhook_endpoints.delete(endpoint.id)


def test_an_attempt_without_a_response_is_recorded_with_its_kind_of_failure(
    client: stripe.StripeClient, receiver: Receiver, path: str, ask: Ask
) -> None:
    for url, error in (
        ("http://127.0.0.1:9/", "refused"),
        ("http://no-such-host.invalid/", "dns"),
        (receiver.url(path).replace("http", "https"), "tls"),
    ):
        endpoint = client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        client.v1.customers.create({})
        assert load_attempts(ask, get_newest_event(client).id)[0] == (1, None, None, error)
        client.v1.webhook_endpoints.delete(endpoint.id)


def test_an_endpoint_that_does_not_answer_delays_nobody_else(
    client: stripe.StripeClient, receiver: Receiver, path: str, ask: Ask
) -> None:
    hanging = threading.Event()
    receiver.scripts[path + "/slow"] = [ScriptedResponse(200, release=hanging)]
    slow = client.v1.webhook_endpoints.create({"url": receiver.url(path + "/slow"), "enabled_events": ["*"]})
    customer = client.v1.customers.create({})
    for number in range(20):
        client.v1.customers.update(customer.id, {"name": str(number)})
    receiver.wait_for(path + "/slow", START_DELIVERIES)
    client.v1.webhook_endpoints.create({"url": receiver.url(path), "enabled_events": ["*"]})
    client.v1.customers.update(customer.id, {"name": "last"})
    event = get_newest_event(client).id
    receiver.wait_for(path, 1)
    assert len(receiver.requests_to(path + "/slow")) == START_DELIVERIES
    wait_until(lambda: (1, 200, b"", None) in ask(ATTEMPTS, event))
    first = client.v1.events.list({"type": "customer.created"}).data[0].id
    assert load_attempts(ask, first)[0] == (1, None, None, "timeout")
    hanging.set()
    client.v1.webhook_endpoints.delete(slow.id)


def test_undelivered_events_are_listed_once_by_type_and_paged(
    raw: Caller, client: stripe.StripeClient, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    receiver.scripts[path] = receiver.scripts[path + "/other"] = [ScriptedResponse(500)]
    other = client.v1.webhook_endpoints.create(
        {"url": receiver.url(path + "/other"), "enabled_events": ["customer.updated"]}
    )
    customer = raw.customer()["id"]
    for number in range(3):
        ok(raw.post(f"/v1/customers/{customer}", f"name={number}"))
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    client.v1.webhook_endpoints.update(other.id, {"disabled": True})
    ok(raw.delete(f"/v1/customers/{customer}"))
    *owed, delivered = [event["id"] for event in raw.events()]

    def found(query: str) -> list[str]:
        return [event["id"] for event in ok(raw.get(f"/v1/events?{query}"))["data"]]

    assert found("delivery_success=false") == owed[::-1]
    assert found("delivery_success=true") == [delivered]
    assert found("delivery_success=false&type=customer.updated") == owed[:0:-1]
    assert found("delivery_success=false&limit=2") == owed[:1:-1]
    assert found(f"delivery_success=false&limit=2&starting_after={owed[2]}") == owed[1::-1]
    assert found(f"delivery_success=false&limit=1&ending_before={owed[0]}") == [owed[1]]
    assert found(f"delivery_success=false&starting_after={delivered}") == owed[::-1]
    assert found("delivery_success=false&type=charge.*") == []
    assert [event["pending_webhooks"] for event in raw.events()] == [1, 2, 2, 2, 0]
    assert_refused(raw.get("/v1/events?delivery_success=maybe"), param="delivery_success", message="boolean")


def test_metrics_show_the_deliveries_that_are_owed(
    client: stripe.StripeClient, raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]
    client.v1.customers.create({})
    receiver.wait_for(path, 1)
    told = raw.get("/metrics").text
    for name in (
        'deliveries{state="pending"} ',
        'deliveries{state="failed"} ',
        "due_seconds ",
        "lag_events ",
    ):
        assert f"\nledger_webhook_{name}" in told
