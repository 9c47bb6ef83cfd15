"""`ledger trigger` makes every Event that the ledger knows, for real: the API shows each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.cli.events.scenarios import SCENARIOS
from ledger.wire.aggregates import AGGREGATES
from ledger.wire.event_types import PREVIEW_EVENT_TYPES
from tests.api.service import SERVICE_KEY, Account, Caller, Service
from tests.serving.process import run_refused

OF_DISPUTES = {
    f"charge.dispute.{name}" for name in ("created", "closed", "funds_withdrawn", "funds_reinstated")
}
"""The types that depend on the content of the domain event, which the registry has as functions."""


def trigger(service: Service, account: Account, *event_types: str) -> list[Any]:
    output = service.run_command("trigger", *event_types, "--account", account.id, "--json")
    return [json.loads(line) for line in output.splitlines()]


def test_there_is_a_scenario_for_each_type_that_the_ledger_makes() -> None:
    made = {
        event_type
        for row in AGGREGATES
        for event_types in row.public_event_types.values()
        if not callable(event_types)
        for event_type in event_types
    } - PREVIEW_EVENT_TYPES
    assert set(SCENARIOS) == made | OF_DISPUTES
    assert list(SCENARIOS) == sorted(SCENARIOS)


def test_every_type_is_made_and_the_api_shows_it(service: Service, account: Account, raw: Caller) -> None:
    results = trigger(service, account, *SCENARIOS)
    assert [result["type"] for result in results] == list(SCENARIOS)
    made = {event["id"]: event for result in results for event in result["events"]}
    shown = {event["id"]: event for event in raw.events()}
    assert shown.keys() == made.keys()
    for event_id, event in shown.items():
        assert event["type"] == made[event_id]["type"]
        assert event["data"]["object"]["id"] == made[event_id]["object"]
        assert event["livemode"] is False
    for result in results:
        assert shown[result["event"]]["type"] == result["type"]
        assert {each["object"] for each in result["events"]} <= {each["id"] for each in result["objects"]}


def test_an_event_has_the_request_that_made_it_or_none(
    service: Service, account: Account, raw: Caller
) -> None:
    (refunded, expired) = trigger(service, account, "charge.refunded", "charge.expired")
    by_id = {event["id"]: event for event in raw.events()}
    requests = [by_id[event["id"]]["request"]["id"] for event in refunded["events"]]
    assert [request[:4] for request in requests] == ["req_"] * 3
    assert requests[0] != requests[1] == requests[2], "a charge, and its refund with what that changes"
    assert by_id[expired["event"]]["request"] == {"id": None, "idempotency_key": None}
    log = json.loads(
        service.run_command(
            "audit", "history", refunded["objects"][0]["id"], "--account", account.id, "--json"
        )
    )
    assert {change["actor"]["id"] for change in log["data"]} == {"cli"}


def test_people_read_what_was_done_and_which_event_they_asked_for(service: Service, account: Account) -> None:
    arguments = ("events", "trigger", "v1.charge.dispute.closed", "--account", account.id)
    lines = service.run_command(*arguments).splitlines()
    assert lines[0] == "POST /v1/charges"
    assert lines[1].startswith("POST /v1/disputes/du_")
    assert [line.split()[0] for line in lines[2:]] == [
        "charge.succeeded",
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]
    assert [line.endswith("<- as asked") for line in lines[2:]] == [False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("charge.dispute.create",), "no such type; did you mean charge.dispute.created?"),
        (("customer.*",), "did you mean one of customer.created, customer.deleted, customer.updated?"),
        (("nonsense",), "EVENT_TYPE nonsense: no such type; --list prints the types that can be made"),
        (("invoice.paid",), "EVENT_TYPE invoice.paid: the ledger makes no such Event by itself"),
        ((), "EVENT_TYPE: required; --list prints the types that can be made"),
        (("charge.updated", "--live"), "--live: Events are triggered in test mode only"),
        (("charge.updated",), "--account: required, there are "),
        (("charge.updated", "--account", "acct_none"), "--account: no such account: acct_none"),
    ],
    ids=lambda value: " ".join(value) if type(value) is tuple else "",
)
def test_what_cannot_be_made_is_refused_in_one_line(
    service: Service, account: Account, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    settings = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    assert line in run_refused(tmp_path / "data", "trigger", *arguments, **settings)


def test_the_types_are_listed_without_a_database(service: Service) -> None:
    assert service.run_command("trigger", "--list").split() == list(SCENARIOS)
    assert json.loads(service.run_command("trigger", "--list", "--json")) == {"data": list(SCENARIOS)}
