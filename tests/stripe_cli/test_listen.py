"""`stripe listen`: Events as they happen, forwarded with a signature that the official client accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ledger.keys.documents import open_document
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, ok
from tests.keys.keyrings import read_keyring
from tests.stripe_cli.cli import Listener, RefusingProxy, StripeCli, needs_stripe_cli
from tests.stripe_cli.test_triggers import DISPUTED, trigger
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver, wait_until

pytestmark = needs_stripe_cli

ATTEMPTS = """
SELECT d.event, d.state, d.endpoint, a.number, a.status, coalesce(a.sealed_answer, a.answer)
FROM webhooks.deliveries d JOIN webhooks.attempts a ON a.delivery = d.id
WHERE d.account = %s ORDER BY d.position, d.ordinal, a.number
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def read_events(listener: Listener) -> list[Any]:
    """The Events among the lines that `--format json` has printed."""
    return [json.loads(line) for line in listener.output if line.startswith("{")]


def read_attempts(service: Service, account: Account) -> list[Any]:
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute(ATTEMPTS, (account.id,)).fetchall()
    keyring = read_keyring(service.dsn, SERVICE_KEY.encode())
    return [
        (*row, None if sealed is None else (open_document(keyring, sealed) or b"").decode())
        for *row, sealed in rows
    ]


def test_events_are_forwarded_signed_and_responses_recorded(
    cli: StripeCli, raw: Caller, service: Service, account: Account, receiver: Receiver
) -> None:
    receiver.scripts["/hooks"] = [ScriptedResponse(500, b"not yet"), ScriptedResponse(200, b"thanks")]
    with cli.listen("--forward-to", receiver.url("/hooks"), "-H", "X-Shop: one") as listener:
        trigger(cli, "charge.dispute.created")
        requests = receiver.wait_for("/hooks", len(DISPUTED))
        listener.wait_for(r"<--.*\[(200|500)\]", len(DISPUTED))
        shown = {match[1] for match in listener.find(r"-->.*(evt_\w+)")}
        ended = listener.stop()
    assert ended.status == 0
    events = {event["id"]: event for event in raw.events()}
    assert shown == events.keys()
    for request in requests:
        event = request.event(listener.secret)
        assert json.loads(request.body) == events[event.id]
        assert request.headers["user-agent"].startswith("Stripe/1.0")
        assert request.headers["x-shop"] == "one"
    assert len(requests) == len(DISPUTED) == len(events)
    attempts = wait_until(lambda: found if len(found := read_attempts(service, account)) == 4 else None)
    assert [attempt[0] for attempt in attempts] == list(events)
    assert {(state, number) for _, state, _, number, *_ in attempts} == {("forwarded", 1)}
    assert {re.match("wsl_", endpoint) is not None for _, _, endpoint, *_ in attempts} == {True}
    assert sorted(attempt[4:] for attempt in attempts) == [(200, "thanks")] * 3 + [(500, "not yet")]
    assert [event["pending_webhooks"] for event in raw.events()] == [0] * 4
    assert raw.events("delivery_success=false") == []


def test_the_secret_stays_the_same_for_an_account_and_a_device(
    cli: StripeCli, service: Service, registrar: Registrar, proxy: RefusingProxy
) -> None:
    print_secret = ("listen", "-s", "--all-snapshot", "--print-secret")
    printed = cli.run(*print_secret)
    assert printed.status == 0
    assert re.fullmatch(r"whsec_\w{20,}\n", printed.output)
    with cli.listen() as listener:
        assert listener.secret == printed.output.strip()
    other_device = cli.run(*print_secret, STRIPE_DEVICE_NAME="another").output
    other = StripeCli(cli.home, service.url, registrar.account().secret, proxy).run(*print_secret).output
    assert len({printed.output, other_device, other}) == 3


def test_only_chosen_events_are_forwarded_and_printed_as_json(
    cli: StripeCli, raw: Caller, receiver: Receiver
) -> None:
    with cli.listen("--events", "customer.updated,customer.deleted", "--format", "json",
                    "--forward-to", receiver.url("/chosen")) as listener:  # fmt: skip
        customer = raw.customer(name="Jenny")
        ok(raw.post(f"/v1/customers/{customer['id']}", {"name": "Jenny Rosen"}))
        ok(raw.delete(f"/v1/customers/{customer['id']}"))
        requests = receiver.wait_for("/chosen", 2)
        listener.wait_for(r'"customer\.(updated|deleted)"', 2)
    printed = read_events(listener)
    events = [event for event in raw.events() if event["type"] != "customer.created"]
    by_id = {event["id"]: event for event in events}
    assert {event["id"]: event for event in printed} == by_id
    assert {request.event(listener.secret).id for request in requests} == by_id.keys()


@pytest.mark.parametrize("options", [(), ("--latest",)], ids=["default version", "latest version"])
def test_an_event_is_shown_once_in_the_version_asked_for(
    options: tuple[str, ...], cli: StripeCli, raw: Caller
) -> None:
    with cli.listen("--format", "json", *options) as listener:
        customers = {raw.customer()["id"] for _ in range(2)}
        listener.wait_for(r'"evt_', 2)
        listener.stop()
    shown = [event["data"]["object"]["id"] for event in read_events(listener)]
    assert sorted(shown) == sorted(customers)


def test_a_platform_gets_the_events_of_its_accounts_apart(
    cli: StripeCli, service: Service, account: Account, registrar: Registrar, raw: Caller, receiver: Receiver
) -> None:
    connected = registrar.account(platform=account.id)
    with cli.listen("--forward-to", receiver.url("/own"), "--forward-connect-to",
                    receiver.url("/connected")) as listener:  # fmt: skip
        own = raw.customer()
        theirs = cli.call("customers", "create", "--stripe-account", connected.id)
        (own_request,) = receiver.wait_for("/own", 1)
        (their_request,) = receiver.wait_for("/connected", 1)
    own_event, their_event = (r.event(listener.secret) for r in (own_request, their_request))
    assert own_event.data.object["id"] == own["id"]
    assert "account" not in own_event
    assert (their_event.data.object["id"], their_event.account) == (theirs["id"], connected.id)


def test_paths_of_configured_endpoints_are_forwarded_to(
    cli: StripeCli, raw: Caller, receiver: Receiver
) -> None:
    for path, types in (("/a", ["customer.created"]), ("/b", ["customer.deleted", "customer.updated"])):
        form = {"url": f"http://127.0.0.1:9{path}", "enabled_events[]": types}
        ok(raw.post("/v1/webhook_endpoints", form))
    with cli.listen("--use-configured-webhooks", "--forward-to", receiver.url("/base")) as listener:
        customer = raw.customer()
        ok(raw.delete(f"/v1/customers/{customer['id']}"))
        (created,) = receiver.wait_for("/base/a", 1)
        (deleted,) = receiver.wait_for("/base/b", 1)
    assert created.event(listener.secret).type == "customer.created"
    assert deleted.event(listener.secret).type == "customer.deleted"


def test_an_event_is_sent_again_to_listeners_and_to_an_endpoint(
    cli: StripeCli, raw: Caller, service: Service, account: Account, receiver: Receiver
) -> None:
    form = {"url": receiver.url("/endpoint"), "enabled_events[]": "customer.created"}
    endpoint = ok(raw.post("/v1/webhook_endpoints", form))
    with cli.listen("--forward-to", receiver.url("/again")) as listener:
        raw.customer()
        (event,) = raw.events()
        receiver.wait_for("/again", 1)
        assert cli.call("events", "resend", event["id"])["id"] == event["id"]
        first, again = receiver.wait_for("/again", 2)
        assert first.event(listener.secret).id == again.event(listener.secret).id == event["id"]
        receiver.wait_for("/endpoint", 1)
        cli.call("events", "resend", event["id"], "--webhook-endpoint", endpoint["id"])
        assert receiver.wait_for("/endpoint", 2)[1].event(endpoint["secret"]).id == event["id"]
    missing = cli.run("events", "resend", "evt_none")
    assert (missing.status, missing.answer["error"]["code"]) == (0, "resource_missing")
    no_endpoint = cli.run("events", "resend", event["id"], "--webhook-endpoint", "we_none")
    assert no_endpoint.answer["error"]["param"] == "webhook_endpoint"
    attempts = wait_until(lambda: found if len(found := read_attempts(service, account)) == 4 else None)
    assert sorted((attempt[1], attempt[3]) for attempt in attempts) == [
        ("delivered", 1), ("delivered", 2), ("forwarded", 1), ("forwarded", 2),
    ]  # fmt: skip
