"""`ledger listen` prints every new Event once and forwards it signed, whatever happens meanwhile."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import stripe

from ledger.cli.events.forwarder import CONCURRENT_MAX
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, create_client
from tests.events.listener import run_listening
from tests.serving.process import run_refused
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver, wait_until

LOSE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger events'"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def test_new_events_are_printed_and_forwarded_with_a_signature_that_the_sdk_verifies(
    service: Service, account: Account, raw: Caller, live: Caller, receiver: Receiver, tmp_path: Path
) -> None:
    raw.charge(description="before it listens")
    url = receiver.url("/signed").removeprefix("http://")
    of_account = ("--account", account.id)
    arguments = ("--forward-to", url, "--events", "charge.*,customer.deleted", *of_account, "--json")
    with run_listening(service, tmp_path, "listen", *arguments) as listening:
        live.customer()
        raw.customer()
        refund = raw.refund()
        forwarded = listening.wait_for("forward", 2)
        printed = listening.wait_for("event", 2)
        assert listening.stop(signal.SIGINT) == 0
    assert [event["type"] for event in printed] == ["charge.succeeded", "charge.refunded"]
    shown = {event["id"]: event for event in raw.events()}
    assert printed == [shown[event["id"]] for event in printed]
    assert printed[1]["data"]["object"]["id"] == refund["charge"]
    secret = service.run_command("listen", "--print-secret", *of_account).strip()
    assert f"signing secret: {secret};" in listening.errors
    received = [request.event(secret) for request in receiver.wait_for("/signed", 2)]
    assert {event.id for event in received} == {event["id"] for event in printed}
    assert {(each["event"], each["status"], each["error"]) for each in forwarded} == {
        (event["id"], 200, None) for event in printed
    }
    in_live_mode = service.run_command("listen", "--print-secret", "--live", *of_account)
    assert re.fullmatch(r"whsec_\w{32}\n", in_live_mode)
    assert in_live_mode.strip() != secret


def test_thin_events_are_printed_and_forwarded_for_the_parser_of_the_sdk(
    service: Service,
    account: Account,
    client: stripe.StripeClient,
    raw: Caller,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    types = ("--thin", "--events", "v1.charge.*,customer.deleted")
    arguments = (*types, "--forward-to", receiver.url("/thin"), "--account", account.id, "--json")
    with run_listening(service, tmp_path, "listen", *arguments) as listening:
        raw.customer()
        charge = raw.charge()
        (forwarded,) = listening.wait_for("forward", 1)
        (printed,) = listening.wait_for("v2.core.event", 1)
        assert listening.stop(signal.SIGINT) == 0
    secret = service.run_command("listen", "--print-secret", "--account", account.id).strip()
    (request,) = receiver.wait_for("/thin", 1)
    notification = client.parse_event_notification(request.body.decode(), request.signature, secret)
    assert isinstance(notification, stripe.events.V1ChargeSucceededEventNotification)
    assert notification.id == printed["id"] == forwarded["event"]
    assert notification.fetch_related_object().id == charge["id"]


def test_people_read_a_line_for_each_thin_event_of_a_platform(
    service: Service, registrar: Registrar, tmp_path: Path
) -> None:
    platform = registrar.account()
    connected = registrar.account(platform.id)
    with run_listening(service, tmp_path, "listen", "--thin", "--account", platform.id) as listening:
        theirs = create_client(service, connected.secret).v1.customers.create().id
        own = create_client(service, platform.secret).v1.customers.create().id
        wait_until(lambda: len(listening.lines) == 2)
    cells = [line.rstrip("\n").split("\t") for line in listening.lines]
    assert [cell[3] for cell in cells] == [f"{theirs} of {connected.id}", own]
    assert {cell[1] for cell in cells} == {"v1.customer.created"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", cell[0]) for cell in cells)
    assert all(cell[2].startswith("evt_thin_") for cell in cells)


def test_a_platform_hears_of_connected_accounts_whose_events_name_them(
    service: Service, registrar: Registrar, tmp_path: Path
) -> None:
    platform = registrar.account()
    connected = registrar.account(platform.id)
    with run_listening(service, tmp_path, "listen", "--account", platform.id, "--json") as listening:
        create_client(service, connected.secret).v1.customers.create()
        create_client(service, platform.secret).v1.customers.create()
        events = listening.wait_for("event", 2)
    assert [event.get("account") for event in events] == [connected.id, None]


def test_a_receiver_that_hangs_holds_up_neither_the_lines_nor_what_comes_after(
    service: Service, account: Account, raw: Caller, receiver: Receiver, tmp_path: Path
) -> None:
    release = threading.Event()
    receiver.scripts["/hang"] = [ScriptedResponse(status=500, release=release)]
    arguments = ("--forward-to", receiver.url("/hang"), "--account", account.id, "--json")
    count = CONCURRENT_MAX + 3
    with run_listening(service, tmp_path, "listen", *arguments) as listening:
        customers = [raw.customer()["id"] for _ in range(count)]
        events = listening.wait_for("event", count)
        receiver.wait_for("/hang", CONCURRENT_MAX)
        assert len(receiver.requests_to("/hang")) == CONCURRENT_MAX
        release.set()
        outcomes = listening.wait_for("forward", count)
    assert [event["data"]["object"]["id"] for event in events] == customers
    assert {outcome["status"] for outcome in outcomes} == {500}
    assert len({outcome["event"] for outcome in outcomes}) == count


def test_it_goes_on_where_it_was_when_the_database_is_back(
    service: Service, account: Account, raw: Caller, tmp_path: Path
) -> None:
    with run_listening(service, tmp_path, "listen", "--account", account.id) as listening:
        first = raw.customer()["id"]
        wait_until(lambda: listening.lines)
        with psycopg.connect(service.dsn, autocommit=True) as conn:
            assert conn.execute(LOSE).rowcount >= 1
        second = raw.customer()["id"]
        wait_until(lambda: len(listening.lines) >= 2)
        assert listening.stop(signal.SIGTERM) == 0
    assert [line.split("\t")[1:] for line in listening.lines] == [
        ["customer.created", event["id"], f"{customer}\n"]
        for event, customer in zip(raw.events(), (first, second), strict=True)
    ]
    assert "the database is lost, trying again: " in listening.errors
    assert listening.errors.endswith("ledger: the database is back\n")


def test_a_list_that_follows_begins_with_the_newest_and_has_each_once(
    service: Service, account: Account, raw: Caller, client: stripe.StripeClient, tmp_path: Path
) -> None:
    charges = [raw.charge()["id"] for _ in range(3)]
    raw.events()  # waits until they are listed
    arguments = ("--account", account.id, "--limit", "2", "--type", "charge.*", "--follow", "--json")
    with run_listening(service, tmp_path, "events", "list", *arguments) as listening:
        raw.customer()
        client.v1.charges.update(charges[0], {"description": "new"})
        events = listening.wait_for("event", 3)
        assert listening.stop(signal.SIGINT) == 0
    assert [(event["type"], event["data"]["object"]["id"]) for event in events] == [
        ("charge.succeeded", charges[1]),
        ("charge.succeeded", charges[2]),
        ("charge.updated", charges[0]),
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("listen", "--forward-to", "ftp://x/?token=1"), "--forward-to: Invalid URL: an explicit scheme"),
        (("listen", "--forward-to", "70000/x"), "--forward-to: Invalid URL: it must have a host"),
        (("listen", "--events", ","), "--events: name at least one type, or leave it out for all"),
        (("listen", "--events", "charge.open"), "Invalid type: must be one of charge.captured, "),
        (
            ("listen", "--events", "v1.charge.captured"),
            "Invalid type: must be charge.captured, of which v1.charge.captured is the thin event",
        ),
        (("listen", "--account", "acct_none"), "--account: no such account: acct_none"),
        (("events", "list", "--follow", "--until", "2026-01-01"), "--follow: leave out --until"),
    ],
    ids=lambda value: " ".join(value) if type(value) is tuple else "",
)
def test_what_cannot_be_listened_to_is_refused_in_one_line(
    service: Service, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    settings = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    said = run_refused(tmp_path / "data", *arguments, **settings)
    assert line in said
    assert "token" not in said
