"""`stripe fixtures`: the files in `examples/stripe-cli/`, and what the CLI makes of a file."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.api.service import ROOT, Caller, ok
from tests.stripe_cli.cli import StripeCli, needs_stripe_cli

pytestmark = needs_stripe_cli

FILES = ROOT / "examples" / "stripe-cli"
WITHDRAWN = ["charge.succeeded", "charge.dispute.created", "charge.dispute.funds_withdrawn"]
UPDATED, CLOSED = "charge.dispute.updated", "charge.dispute.closed"
REFUNDED = ["charge.succeeded", "refund.created", "charge.refunded"]
MADE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "charge.updated": (["charge.succeeded", "charge.updated"], {"metadata": {"order": "6735"}}),
    "refund.created": (REFUNDED, {"refunded": False, "amount_refunded": 500}),
    "refund.updated": (
        [*REFUNDED, "refund.updated", "charge.refund.updated"], {"metadata": {"order": "6735"}},
    ),
    "charge.dispute.funds_withdrawn": (WITHDRAWN, {"status": "needs_response"}),
    "charge.dispute.funds_reinstated": (
        [*WITHDRAWN, UPDATED, "charge.dispute.funds_reinstated", CLOSED], {"status": "won"},
    ),
    "charge.dispute.closed-lost": ([*WITHDRAWN, UPDATED, CLOSED], {"status": "lost"}),
    "charge.dispute.escalated": (
        [*WITHDRAWN[:2], UPDATED, UPDATED, WITHDRAWN[2]], {"status": "needs_response"},
    ),
}  # fmt: skip
"""For each file the types of all Events that it makes, in order, and members of the last one's object."""


def run_steps(cli: StripeCli, *steps: dict[str, Any]) -> Any:
    """How the CLI ends with a file of these steps."""
    place = cli.home / "fixtures.json"
    fixtures = [{"name": f"step_{number}"} | step for number, step in enumerate(steps)]
    place.write_text(json.dumps({"_meta": {"template_version": 0}, "fixtures": fixtures}))
    return cli.run("fixtures", str(place))


@pytest.mark.parametrize("name", MADE)
def test_a_file_makes_what_its_row_says(name: str, cli: StripeCli, raw: Caller) -> None:
    types, members = MADE[name]
    completed = cli.run("fixtures", str(FILES / f"{name}.json"))
    assert completed.status == 0, completed
    events = raw.events()
    assert [event["type"] for event in events] == types
    shown = events[-1]["data"]["object"]
    assert {member: shown[member] for member in members} == members


def test_every_file_has_a_row() -> None:
    rows = re.findall(r"^\| `(\S+)\.json` \|.* \|$", (FILES / "README.md").read_text(), re.M)
    assert sorted(rows) == sorted(MADE) == sorted(place.stem for place in FILES.glob("*.json"))


def test_a_refused_step_ends_the_file(cli: StripeCli, raw: Caller) -> None:
    charge = {"path": "/v1/charges", "method": "post", "params": {"amount": 1, "currency": "usd"}}
    completed = run_steps(cli, charge, {"path": "/v1/customers", "method": "post"})
    assert completed.status == 1
    assert "status=400" in completed.errors
    assert "parameter_missing" in completed.errors
    assert raw.events() == []


def test_an_expected_error_does_not_end_the_file(cli: StripeCli, raw: Caller) -> None:
    declined = {
        "path": "/v1/charges",
        "method": "post",
        "params": {"amount": 100, "currency": "usd", "source": "tok_chargeDeclined"},
        "expected_error_type": "card_error",
    }
    completed = run_steps(cli, declined, {"path": "/v1/customers", "method": "post"})
    assert completed.status == 0, completed
    assert [event["type"] for event in raw.events()] == ["charge.failed", "customer.created"]


def test_references_and_numbers_as_the_cli_sends_them(cli: StripeCli, raw: Caller) -> None:
    """What the README of the examples warns of."""
    first = {"path": "/v1/customers", "method": "post", "params": {"name": "Jenny"}}
    metadata = {
        "two": "${step_0:name} and ${step_0:id}",
        "missing": "${step_0:nothing}",
        "number": 12345678901234567890,
        "text": "12345678901234567890",
    }
    second = {"path": "/v1/customers", "method": "post", "params": {"metadata": metadata}}
    completed = run_steps(cli, first, second)
    assert completed.status == 0, completed
    sent = ok(raw.get("/v1/customers?limit=1"))["data"][0]["metadata"]
    assert sent == {
        "two": "Jenny",
        "missing": "${step_0:nothing}",
        "number": "12345678901234567000",
        "text": "12345678901234567890",
    }
