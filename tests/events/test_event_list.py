"""`ledger events list` and `show`: the Events of an account as the API has them, newest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.wire.event_types import EVENT_TYPES
from ledger.wire.thin_events import to_thin_id
from tests.api.service import SERVICE_KEY, Account, Caller, Service
from tests.serving.process import open_unread_pipe, run_into, run_refused


@pytest.fixture
def refund(account: Account, raw: Caller) -> Any:
    """A refund between two customers: five Events, two of them about its charge."""
    raw.customer(email="jenny@example.com")
    refund = raw.refund()
    raw.customer()
    return refund


def list_events(service: Service, account: Account, *options: str) -> list[Any]:
    output = service.run_command("events", "list", "--account", account.id, "--json", *options)
    return [json.loads(line) for line in output.splitlines()]


def test_the_list_is_that_of_the_api_with_filters_of_its_own(
    service: Service, account: Account, raw: Caller, refund: Any
) -> None:
    shown = raw.events()[::-1]
    assert len(shown) == 5
    assert list_events(service, account, "--limit", "4") == shown[:4]
    by_type = list_events(service, account, "--type", "charge.*", "--type", "refund.created")
    assert [event["type"] for event in by_type] == ["charge.refunded", "refund.created", "charge.succeeded"]
    of_charge = list_events(service, account, "--object", refund["charge"])
    assert [event["type"] for event in of_charge] == ["charge.refunded", "charge.succeeded"]
    last = str(shown[0]["created"])
    assert list_events(service, account, "--since", last, "--until", last)[0] == shown[0]
    assert list_events(service, account, "--until", "2026-01-01") == []
    assert list_events(service, account, "--live") == []


def test_people_read_a_line_for_each_event(service: Service, account: Account, refund: Any) -> None:
    output = service.run_command("events", "list", "--account", account.id, "--object", refund["id"])
    header, line = output.splitlines()
    assert header == "time\ttype\tevent\tobject"
    time, event_type, event_id, object_id = line.split("\t")
    assert time.endswith("Z")
    assert (event_type, object_id) == ("refund.created", refund["id"])
    shown = service.run_command("events", "show", event_id, "--account", account.id)
    assert json.loads(shown)["data"]["object"] == refund
    thin = service.run_command("events", "show", to_thin_id(event_id), "--account", account.id)
    assert json.loads(thin)["related_object"]["id"] == refund["id"]
    accesses = service.run_command("audit", "accesses", "--account", account.id)
    assert f'ledger events show\t{{"event": "{event_id}", "account": "{account.id}"}}' in accesses


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("list", "--type", "charge.dispute.open"), "Invalid type: must be one of charge.captured, "),
        (("list", "--type", "nothing.*"), "Invalid type: no event type matches 'nothing.*'."),
        (("list", "--since", "tomorrow"), "Invalid time: 'tomorrow' is neither a unix time nor an ISO 8601"),
        (("show", "evt_none"), "No such event: 'evt_none'"),
        (("show", "evt_thin_none"), "No such thin event: 'evt_thin_none'"),
    ],
    ids=lambda value: " ".join(value) if type(value) is tuple else "",
)
def test_what_there_is_not_is_named(
    service: Service, account: Account, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    settings = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    said = run_refused(tmp_path / "data", "events", *arguments, "--account", account.id, **settings)
    assert line in said


def test_a_pattern_without_an_event_is_no_error(service: Service, account: Account) -> None:
    assert "invoice.paid" in EVENT_TYPES
    assert list_events(service, account, "--type", "invoice.*") == []


def test_who_reads_no_more_of_a_list_ends_it(
    service: Service, raw: Caller, account: Account, tmp_path: Path
) -> None:
    raw.customer()
    assert list_events(service, account)
    settings = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    arguments = ("events", "list", "--account", account.id)
    with open_unread_pipe() as pipe:
        assert run_into(pipe, tmp_path / "data", *arguments, **settings) == (0, "")
