"""`stripe v2 …`: the commands that send and read JSON, and `get` with a path under /v2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import stripe

from ledger.wire.thin_events import to_thin_id
from tests.api.service import Caller, ok
from tests.stripe_cli.cli import StripeCli, needs_stripe_cli
from tests.webhooks.receiver import Receiver, run_receiver

pytestmark = needs_stripe_cli

EVENTS = ("v2", "core", "events")
DESTINATIONS = ("v2", "core", "event_destinations")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def test_thin_events_are_listed_by_object_and_type_page_by_page(cli: StripeCli, raw: Caller) -> None:
    customer, other = raw.customer(), raw.customer()
    ok(raw.post(f"/v1/customers/{customer['id']}", {"name": "Jenny Rosen"}))
    newest, *older = [to_thin_id(event["id"]) for event in raw.events()[::-1]]
    page = cli.call(*EVENTS, "list", "--limit", "1")
    assert [event["id"] for event in page["data"]] == [newest]
    (token,) = parse_qs(urlsplit(page["next_page_url"]).query)["page"]
    rest = cli.call(*EVENTS, "list", "--limit", "5", "--page", token)
    assert [event["id"] for event in rest["data"]] == older
    types = ("--types", "v1.customer.created", "--types", "v1.customer.deleted")
    (created,) = cli.call(*EVENTS, "list", "--object-id", customer["id"], *types)["data"]
    assert (created["type"], created["related_object"]["id"]) == ("v1.customer.created", customer["id"])
    assert cli.call(*EVENTS, "list", "--object-id", other["id"])["data"][0]["id"] in older
    since = cli.call("get", f"/v2/core/events?limit=1&created[gte]={created['created']}")
    assert since["data"] == page["data"]


def test_a_thin_event_is_retrieved(cli: StripeCli, raw: Caller) -> None:
    raw.customer()
    (snapshot,) = raw.events()
    thin = cli.call(*EVENTS, "retrieve", to_thin_id(snapshot["id"]))
    assert (thin["object"], thin["type"]) == ("v2.core.event", "v1.customer.created")
    assert thin["snapshot_event"] == snapshot["id"]
    assert thin["reason"]["request"]["id"] == snapshot["request"]["id"]
    assert cli.call("get", f"/v2/core/events/{thin['id']}") == thin


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((*EVENTS, "retrieve", "evt_thin_none"), "No such thin event: 'evt_thin_none'"),
        ((*EVENTS, "list", "--types", "v1.charge.capture"), "v1.charge.captured"),
    ],
    ids=["unknown event", "unknown type"],
)
def test_what_is_refused_says_why(arguments: tuple[str, ...], part: str, cli: StripeCli) -> None:
    completed = cli.run(*arguments)
    assert part in completed.answer["error"]["message"]


def test_an_event_destination_lives_from_its_creation_to_its_deletion(
    cli: StripeCli, client: stripe.StripeClient, raw: Caller, receiver: Receiver
) -> None:
    created = cli.call(
        *DESTINATIONS, "create", "--name", "Orders", "--type", "webhook_endpoint", "--event-payload", "thin",
        "--enabled-events", "v1.customer.created", "--enabled-events", "v1.charge.captured",
        "--webhook-endpoint.url", receiver.url("/orders"),
        "--include", "webhook_endpoint.signing_secret", "--include", "webhook_endpoint.url",
    )  # fmt: skip
    assert created["enabled_events"] == ["v1.customer.created", "v1.charge.captured"]
    assert created["webhook_endpoint"]["url"] == receiver.url("/orders")
    raw.customer()
    (request,) = receiver.wait_for("/orders", 1)
    secret = created["webhook_endpoint"]["signing_secret"]
    notification = client.parse_event_notification(request.body.decode(), request.signature, secret)
    assert isinstance(notification, stripe.events.V1CustomerCreatedEventNotification)
    name = created["id"]
    assert cli.call(*DESTINATIONS, "ping", name)["related_object"]["id"] == name
    assert json.loads(receiver.wait_for("/orders", 2)[1].body)["type"] == "v2.core.event_destination.ping"
    updated = cli.call(*DESTINATIONS, "update", name, "--name", "All orders", "-d", '{"metadata":{"a":"b"}}')
    assert (updated["name"], updated["metadata"]) == ("All orders", {"a": "b"})
    assert cli.call(*DESTINATIONS, "disable", name)["status"] == "disabled"
    assert cli.call(*DESTINATIONS, "enable", name)["status"] == "enabled"
    shown = cli.call(*DESTINATIONS, "retrieve", name, "--include", "webhook_endpoint.url")
    assert shown["webhook_endpoint"] == {"signing_secret": None, "url": receiver.url("/orders")}
    assert [each["id"] for each in cli.call(*DESTINATIONS, "list", "--limit", "2")["data"]] == [name]
    deleted = cli.run(*DESTINATIONS, "delete", name, "--confirm")
    assert (deleted.status, f'"id": "{name}"' in deleted.output) == (0, True)
    assert cli.call(*DESTINATIONS, "list")["data"] == []


def test_post_sends_a_body_of_json_once_per_key(cli: StripeCli, receiver: Receiver) -> None:
    body = {
        "name": "Orders", "type": "webhook_endpoint", "event_payload": "snapshot",
        "enabled_events": ["customer.created"], "webhook_endpoint": {"url": receiver.url("/posted")},
    }  # fmt: skip
    post = ("post", "/v2/core/event_destinations", "-i", "a key", "-d")
    first, again = (cli.run(*post, json.dumps(body)) for _ in range(2))
    assert first.output == again.output
    name = first.answer["id"]
    assert cli.call("post", f"/v2/core/event_destinations/{name}/disable")["status"] == "disabled"
    refused = cli.run("post", "/v2/core/event_destinations", "-d", json.dumps(body | {"enabled_events": "x"}))
    assert (refused.status, "enabled_events" in refused.answer["error"]["message"]) == (0, True)
    by_cli = cli.run("post", "/v2/core/event_destinations", "-d", "name=Orders")
    assert (by_cli.status, "full JSON string" in by_cli.output + by_cli.errors) == (1, True)
    cli.call("delete", f"/v2/core/event_destinations/{name}", "--confirm")
