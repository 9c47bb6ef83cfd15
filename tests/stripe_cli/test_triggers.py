"""`stripe trigger`: each event that it can make here, with everything that is made on the way to it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Caller, ok
from tests.stripe_cli.cli import StripeCli, needs_stripe_cli

pytestmark = needs_stripe_cli

BY_CLI = {"description": "(created by Stripe CLI)"}
CREATED = "payment_intent.created"
PAID = [CREATED, "charge.succeeded", "payment_intent.succeeded"]
AUTHORIZED = [CREATED, "charge.succeeded", "payment_intent.amount_capturable_updated"]
DECLINED = [CREATED, "charge.failed", "payment_intent.payment_failed"]
REFUNDED = [*PAID, "refund.created", "charge.refunded"]
DISPUTED = [*PAID, "charge.dispute.created"]
INQUIRY = {"amount": 100, "reason": "general", "is_charge_refundable": True, "balance_transactions": []}
TRIGGERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "customer.created": (["customer.created"], BY_CLI),
    "v1.customer.created": (["customer.created"], BY_CLI),
    "customer.updated": (["customer.created", "customer.updated"], BY_CLI | {"metadata": {"foo": "bar"}}),
    "customer.deleted": (["customer.created", "customer.deleted"], BY_CLI),
    "charge.succeeded": (PAID, BY_CLI | {"amount": 100, "currency": "usd", "paid": True}),
    "charge.failed": (DECLINED, {"status": "failed", "failure_code": "card_declined"}),
    "charge.captured": (
        [*AUTHORIZED, "charge.captured", "payment_intent.succeeded"],
        {"amount": 2000, "amount_captured": 2000, "captured": True},
    ),
    "charge.refunded": (REFUNDED, {"amount_refunded": 100, "refunded": True}),
    "charge.refund.updated": (
        [*REFUNDED, "refund.updated", "charge.refund.updated"],
        {"amount": 100, "metadata": {"order_id": "6735"}},
    ),
    "charge.dispute.created": (DISPUTED, INQUIRY | {"status": "warning_needs_response"}),
    "charge.dispute.updated": ([*DISPUTED, "charge.dispute.updated"], INQUIRY | {"metadata": {"foo": "bar"}}),
    "charge.dispute.closed": ([*DISPUTED, "charge.dispute.closed"], INQUIRY | {"status": "warning_closed"}),
    "payment_intent.canceled": ([CREATED, "payment_intent.canceled"], {"status": "canceled"}),
    "payment_intent.amount_capturable_updated": (AUTHORIZED, {"amount_capturable": 2000}),
}
"""For each trigger the types of all Events that it makes, in order, and members of its own Event's object."""


def trigger(cli: StripeCli, *arguments: str) -> None:
    completed = cli.run("trigger", *arguments)
    assert "Trigger succeeded!" in completed.output, completed
    assert completed.status == 0, completed


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_makes_its_event(name: str, cli: StripeCli, raw: Caller) -> None:
    types, members = TRIGGERS[name]
    trigger(cli, name)
    events = raw.events()
    assert [event["type"] for event in events] == types
    (event,) = [event for event in events if event["type"] == name.removeprefix("v1.")]
    shown = event["data"]["object"]
    assert {member: shown[member] for member in members} == members


def test_the_trigger_of_an_available_balance_makes_funds_available(cli: StripeCli, raw: Caller) -> None:
    """There is no Event of a balance here: funds become available as time passes, in silence."""
    trigger(cli, "balance.available")
    assert [event["type"] for event in raw.events()] == PAID
    (transaction,) = ok(raw.get("/v1/balance_transactions"))["data"]
    assert (transaction["amount"], transaction["status"]) == (2000, "available")
    assert ok(raw.get("/v1/balance"))["available"][0]["amount"] == transaction["net"]


def test_options_change_what_a_trigger_sends(cli: StripeCli, raw: Caller) -> None:
    """With a dot: the CLI sends what `metadata[foo]` names beside the trigger's own, in random order."""
    trigger(
        cli, "customer.updated",
        "--override", "customer:name=Jenny Rosen", "--add", "customer:phone=+15550100",
        "--remove", "customer:description", "--override", "customer_updated:metadata.foo=baz",
    )  # fmt: skip
    (customer,) = ok(raw.get("/v1/customers"))["data"]
    expected = {"name": "Jenny Rosen", "phone": "+15550100", "description": None, "metadata": {"foo": "baz"}}
    assert {name: customer[name] for name in expected} == expected
    trigger(cli, "customer.updated", "--skip", "customer_updated", "--api-version", "2020-08-27")
    assert [event["type"] for event in raw.events()][2:] == ["customer.created"]


def test_what_cannot_be_triggered_is_refused(cli: StripeCli, raw: Caller) -> None:
    unknown_to_cli = cli.run("trigger", "refund.created")
    assert unknown_to_cli.status == 1
    assert "The event `refund.created` is not supported by Stripe CLI" in unknown_to_cli.errors
    unknown_to_us = cli.run("trigger", "product.created")
    assert unknown_to_us.status == 1
    assert "Trigger failed: Request failed, status=404" in unknown_to_us.errors
    assert "Ledger does not have products of its own" in unknown_to_us.errors
    assert raw.events() == []
