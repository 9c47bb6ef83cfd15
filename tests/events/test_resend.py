"""`ledger events resend` sends an Event once more, to whom it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ledger.wire.thin_events import to_thin_id
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, ok
from tests.serving.process import run_refused
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

OTHER_TYPE = {"enabled_events[]": "file.created"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def create_endpoint(caller: Caller, url: str, **fields: str) -> str:
    return str(ok(caller.post("/v1/webhook_endpoints", {"url": url, **OTHER_TYPE, **fields}))["id"])


def test_an_endpoint_gets_an_event_of_before_it_was_created(
    service: Service, account: Account, raw: Caller, receiver: Receiver
) -> None:
    raw.customer()
    (event,) = raw.events()
    endpoint = create_endpoint(raw, receiver.url("/own"))
    arguments = ("events", "resend", event["id"], "--endpoint", endpoint, "--account", account.id)
    assert service.run_command(*arguments) == f"{event['id']} is due to {endpoint} now.\n"
    receiver.wait_for("/own", 1)
    wait_until(lambda: raw.events() == [event])
    assert json.loads(service.run_command(*arguments, "--json")) == {
        "event": event["id"], "endpoint": endpoint, "listeners": 0,
    }  # fmt: skip
    first, second = (json.loads(request.body) for request in receiver.wait_for("/own", 2))
    assert first == second == {**event, "pending_webhooks": 1}


def test_a_platforms_endpoint_gets_an_event_of_a_connected_account(
    service: Service, registrar: Registrar, raw: Caller, receiver: Receiver
) -> None:
    platform = registrar.account()
    connected = registrar.account(platform.id)
    theirs = Caller(raw.http, connected.secret)
    theirs.customer()
    (event,) = theirs.events()
    endpoint = create_endpoint(Caller(raw.http, platform.secret), receiver.url("/connect"), connect="true")
    service.run_command("events", "resend", event["id"], "--endpoint", endpoint, "--account", connected.id)
    (request,) = receiver.wait_for("/connect", 1)
    assert json.loads(request.body)["account"] == connected.id


def test_without_an_endpoint_it_goes_to_the_listeners_of_the_stripe_cli(
    service: Service, account: Account, raw: Caller
) -> None:
    raw.customer()
    (event,) = raw.events()
    session = {"device_name": "a laptop", "websocket_features[]": "webhooks"}
    ok(httpx.post(f"{service.url}/v1/stripecli/sessions", data=session, auth=(account.secret, "")))
    said = service.run_command("events", "resend", event["id"], "--account", account.id)
    assert said == f"{event['id']} goes to 1 listener again.\n"
    by_thin_id = ("events", "resend", to_thin_id(event["id"]), "--account", account.id)
    assert service.run_command(*by_thin_id) == f"{to_thin_id(event['id'])} goes to 1 listener again.\n"


@pytest.mark.parametrize(
    ("event", "options", "line"),
    [
        ("evt_none", ("--endpoint", "we_x"), "No such event: 'evt_none'"),
        ("", ("--endpoint", "we_none"), "No such webhook endpoint: 'we_none'"),
        ("", (), "nobody listens to acct_"),
        ("", ("--live",), "No such event: "),
    ],
    ids=["unknown event", "unknown endpoint", "no listener", "other mode"],
)
def test_what_cannot_be_sent_is_refused_in_one_line(
    service: Service,
    account: Account,
    raw: Caller,
    tmp_path: Path,
    event: str,
    options: tuple[str, ...],
    line: str,
) -> None:
    raw.customer()
    (known,) = raw.events()
    arguments = ("events", "resend", event or known["id"], *options, "--account", account.id)
    settings = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    assert line in run_refused(tmp_path / "data", *arguments, **settings)
    assert raw.events() == [known]
