"""`stripe listen` with thin events: alone, beside snapshots, and forwarded to a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from ledger.wire.thin_events import to_thin_id
from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.stripe_cli.cli import StripeCli, needs_stripe_cli
from tests.stripe_cli.test_listen import read_attempts
from tests.stripe_cli.test_triggers import DISPUTED, trigger
from tests.webhooks.receiver import ReceivedRequest, Receiver, ScriptedResponse, run_receiver, wait_until

pytestmark = needs_stripe_cli


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def parse(client: stripe.StripeClient, request: ReceivedRequest, secret: str) -> Any:
    """What the official client makes of a forwarded thin event, the signature verified."""
    return client.parse_event_notification(request.body.decode(), request.signature, secret)


def test_thin_events_are_forwarded_signed_and_responses_recorded(
    cli: StripeCli,
    client: stripe.StripeClient,
    raw: Caller,
    service: Service,
    account: Account,
    receiver: Receiver,
) -> None:
    receiver.scripts["/thin"] = [ScriptedResponse(500, b"not yet"), ScriptedResponse(200, b"thanks")]
    with cli.listen("--all-thin", "--forward-to", receiver.url("/thin"), "-H", "X-Shop: one") as listener:
        trigger(cli, "v1.charge.dispute.created")
        requests = receiver.wait_for("/thin", len(DISPUTED))
        listener.wait_for(r"<--.*\[(200|500)\].*evt_thin_", len(DISPUTED))
        shown = {match[1]: match[2] for match in listener.find(r"--> (\S+) \[(\w+)\]")}
        assert listener.stop().status == 0
    events = raw.events()
    assert shown == {f"v1.{event['type']}": to_thin_id(event["id"]) for event in events}
    by_id = {to_thin_id(event["id"]): event for event in events}
    for request in requests:
        notification = parse(client, request, listener.secret)
        subject = by_id[notification.id]["data"]["object"]
        assert notification.type == f"v1.{by_id[notification.id]['type']}"
        assert notification.fetch_related_object().id == subject["id"]
        assert notification.fetch_event().id == notification.id
        assert request.headers["x-shop"] == "one"
        assert request.headers["user-agent"].startswith("Stripe/1.0")
    assert len(requests) == len(DISPUTED) == len(by_id)
    attempts = wait_until(lambda: found if len(found := read_attempts(service, account)) == 4 else None)
    assert [attempt[0] for attempt in attempts] == [event["id"] for event in events]
    assert sorted(attempt[4:] for attempt in attempts) == [(200, "thanks")] * 3 + [(500, "not yet")]
    assert [event["pending_webhooks"] for event in raw.events()] == [0] * 4


def test_without_options_it_shows_each_event_as_a_snapshot_and_thin(cli: StripeCli, raw: Caller) -> None:
    with cli.start("listen", "-s") as listener:
        listener.wait_for("Ready!")
        for _ in range(2):
            raw.customer()
        shown = listener.wait_for(r"--> (\S+) \[(\w+)\]", 4)
        listener.stop()
    events = raw.events()
    assert sorted((match[1], match[2]) for match in shown) == sorted(
        [
            *((event["type"], event["id"]) for event in events),
            *((f"v1.{event['type']}", to_thin_id(event["id"])) for event in events),
        ]
    )
    assert len(listener.find("-->")) == 4


def test_chosen_snapshots_and_thin_events_go_to_destinations_of_their_own(
    cli: StripeCli, client: stripe.StripeClient, raw: Caller, receiver: Receiver
) -> None:
    """By the options of earlier releases: one `--forward-to` takes only one of the two."""
    with cli.listen("--events", "customer.created", "--forward-to", receiver.url("/snapshots"),
                    "--thin-events", "v1.customer.deleted,v1.charge.succeeded",
                    "--forward-thin-to", receiver.url("/notifications")) as listener:  # fmt: skip
        customer = raw.customer()
        ok(raw.post(f"/v1/customers/{customer['id']}", {"name": "Jenny Rosen"}))
        ok(raw.delete(f"/v1/customers/{customer['id']}"))
        (snapshot,) = receiver.wait_for("/snapshots", 1)
        (thin,) = receiver.wait_for("/notifications", 1)
    assert snapshot.event(listener.secret).type == "customer.created"
    notification = parse(client, thin, listener.secret)
    assert isinstance(notification, stripe.events.V1CustomerDeletedEventNotification)
    assert notification.fetch_related_object()["deleted"] is True
    refused = cli.run("listen", "-s", "--events", "customer.created,v1.customer.created", "--forward-to", "1")
    assert refused.status == 1
    assert "cannot forward both snapshot and thin events" in refused.output + refused.errors


@pytest.mark.parametrize("deprecated", [False, True], ids=["own options", "deprecated options"])
def test_a_platform_gets_the_thin_events_of_its_accounts_apart(
    deprecated: bool,
    cli: StripeCli,
    client: stripe.StripeClient,
    account: Account,
    registrar: Registrar,
    raw: Caller,
    receiver: Receiver,
) -> None:
    connected = registrar.account(platform=account.id)
    urls = [receiver.url(f"/{name}/{deprecated}") for name in ("own", "connected")]
    options = ["--all-thin", "--forward-to", urls[0], "--forward-connect-to", urls[1]]
    if deprecated:
        options = ["--thin-events", "*", "--forward-thin-to", urls[0], "--forward-thin-connect-to", urls[1]]
    with cli.start("listen", "-s", *options) as listener:
        secret = listener.wait_for(r"whsec_\w+")[0][0]
        own = raw.customer()
        theirs = cli.call("customers", "create", "--stripe-account", connected.id)
        (own_request,) = receiver.wait_for(f"/own/{deprecated}", 1)
        (their_request,) = receiver.wait_for(f"/connected/{deprecated}", 1)
        listener.wait_for("connect v1.customer.created")
    own_event, their_event = (parse(client, request, secret) for request in (own_request, their_request))
    assert own_event.context is None
    assert own_event.fetch_related_object().id == own["id"]
    assert str(their_event.context) == connected.id
    assert their_event.fetch_related_object().id == theirs["id"]


def test_a_thin_event_is_sent_again_by_the_id_of_either(
    cli: StripeCli, client: stripe.StripeClient, raw: Caller, receiver: Receiver
) -> None:
    with cli.listen("--all-thin", "--forward-to", receiver.url("/again")) as listener:
        raw.customer()
        (event,) = raw.events()
        receiver.wait_for("/again", 1)
        for count, name in enumerate((event["id"], to_thin_id(event["id"])), start=2):
            assert cli.call("events", "resend", name)["id"] == event["id"]
            requests = receiver.wait_for("/again", count)
    assert {parse(client, request, listener.secret).id for request in requests} == {to_thin_id(event["id"])}
    missing = cli.run("events", "resend", "evt_thin_none")
    assert (missing.status, missing.answer["error"]["code"]) == (0, "resource_missing")
