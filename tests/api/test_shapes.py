"""Answers compared with the official client's own types: each required member is there, with its type."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import stripe

from tests.api.service import Service, create_client

PLAIN = (str, int, bool, float)
BEYOND = {("wallet", stripe.Card)}
"""Members that the service renders beyond the client's types."""


def _parts(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Union:
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def _differences(rendered: stripe.StripeObject, path: str) -> Iterator[str]:
    hints: dict[str, Any] = {}
    for cls in reversed(type(rendered).__mro__):
        if cls not in (stripe.StripeObject, object, dict) and issubclass(cls, stripe.StripeObject):
            hints |= {
                name: hint for name, hint in vars(cls).get("__annotations__", {}).items() if name[0] != "_"
            }
    hints.pop("OBJECT_NAME", None)
    if not hints:
        return
    members = rendered.to_dict(recursive=False)
    known = {"id", "object", *hints}
    for name, hint in hints.items():
        optional = NoneType in _parts(hint)
        if name == "deleted" or (optional and name not in members):
            continue
        if name not in members:
            yield f"{path}.{name} is missing"
            continue
        value = members[name]
        if value is None:
            if not optional:
                yield f"{path}.{name} is null"
            continue
        parts = list(_parts(hint))
        literals = [literal for part in parts if get_origin(part) is Literal for literal in get_args(part)]
        if literals and isinstance(value, str) and value not in literals:
            yield f"{path}.{name} is {value!r}"
        plain = [part for part in parts if part in PLAIN]
        if plain and len(plain) == len(parts) - optional and not isinstance(value, tuple(plain)):
            yield f"{path}.{name} is a {type(value).__name__}"
    for name in members:
        if name not in known and (name, type(rendered)) not in BEYOND:
            yield f"{path}.{name} is unknown to the client"
    for name, value in members.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, stripe.StripeObject) and name not in ("previous_attributes", "metadata"):
                yield from _differences(item, f"{path}.{name}")


@pytest.fixture(scope="module")
def rich(service: Service, registrar: Any) -> stripe.StripeClient:
    """An account that has objects of every kind, in many states."""
    client = create_client(service, registrar.account().secret)
    customer = client.v1.customers.create(
        {
            "name": "J",
            "source": "tok_createDispute",
            "address": {"city": "B"},
            "shipping": {"name": "N", "address": {"city": "C"}},
            "invoice_settings": {"custom_fields": [{"name": "n", "value": "v"}]},
        }
    )
    client.v1.customers.create()
    client.v1.charges.create(
        {
            "amount": 2000,
            "currency": "usd",
            "customer": customer.id,
            "shipping": {"name": "N", "address": {"city": "C"}},
        }
    )
    tokens = (
        "tok_createDisputeInquiry",
        "tok_createComplianceDispute",
        "tok_createCe3EligibleDispute",
        "tok_mastercard",
    )
    for token in tokens:
        client.v1.charges.create({"amount": 2000, "currency": "usd", "source": token})
    undisputed = client.v1.charges.list().data[0].id
    client.v1.refunds.create({"charge": undisputed, "amount": 500, "reason": "duplicate"})
    with pytest.raises(stripe.CardError):
        client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_chargeDeclined"})
    for dispute in client.v1.disputes.list().data:
        client.v1.disputes.update(
            dispute.id,
            {
                "evidence": {
                    "uncategorized_text": "winning_evidence",
                    "enhanced_evidence": {
                        "visa_compelling_evidence_3": {
                            "disputed_transaction": {"shipping_address": {"city": "B"}},
                            "prior_undisputed_transactions": [{"charge": "ch_1"}],
                        },
                        "visa_compliance": {"fee_acknowledged": True},
                    },
                }
            },
        )
    return client


def test_customers(rich: stripe.StripeClient) -> None:
    listed = rich.v1.customers.list({"expand": ["data.sources", "data.default_source"]})
    assert len(listed.data) == 2
    assert [each for customer in listed for each in _differences(customer, "customer")] == []


def test_customers_with_what_they_do_not_have(rich: stripe.StripeClient) -> None:
    members = ("subscriptions", "tax_ids", "tax", "cash_balance", "sources")
    for customer in rich.v1.customers.list({"expand": [f"data.{member}" for member in members]}):
        assert list(_differences(customer, "customer")) == []
        assert customer.tax is not None
        assert customer.tax.automatic_tax == "unrecognized_location"


def test_payment_methods(rich: stripe.StripeClient) -> None:
    listed = rich.v1.payment_methods.list({"expand": ["data.customer"]})
    charged = rich.v1.charges.list({"expand": ["data.payment_method"]})
    methods = [*listed, *(charge.payment_method for charge in charged)]
    assert len(methods) == 7
    assert [each for method in methods for each in _differences(method, "payment_method")] == []


def test_charges(rich: stripe.StripeClient) -> None:
    listed = rich.v1.charges.list({"expand": ["data.balance_transaction", "data.customer", "data.refunds"]})
    assert len(listed.data) == 6
    assert [each for charge in listed for each in _differences(charge, "charge")] == []


def test_disputes(rich: stripe.StripeClient) -> None:
    listed = rich.v1.disputes.list({"expand": ["data.charge", "data.balance_transactions.source"]})
    assert len(listed.data) == 4
    assert [each for dispute in listed for each in _differences(dispute, "dispute")] == []


def test_payment_intents(rich: stripe.StripeClient) -> None:
    form: Any = {"amount": 2000, "currency": "usd"}
    paid = form | {"payment_method": "pm_card_visa", "confirm": True}
    held = rich.v1.payment_intents.create(paid | {"capture_method": "manual"})
    made = [rich.v1.payment_intents.create(form), rich.v1.payment_intents.create(paid)]
    made += [held, rich.v1.payment_intents.cancel(held.id)]
    with pytest.raises(stripe.CardError):
        rich.v1.payment_intents.confirm(made[0].id, {"payment_method": "pm_card_chargeDeclined"})
    made += rich.v1.payment_intents.list({"expand": ["data.latest_charge"]}).data
    assert {intent.status for intent in made} > {"requires_payment_method", "requires_capture", "succeeded"}
    assert [each for intent in made for each in _differences(intent, "payment_intent")] == []


def test_refunds(rich: stripe.StripeClient) -> None:
    listed = rich.v1.refunds.list({"expand": ["data.charge", "data.balance_transaction.source"]})
    assert len(listed.data) == 1
    assert [each for refund in listed for each in _differences(refund, "refund")] == []


def test_accounts_and_the_balance(service: Service, registrar: Any) -> None:
    platform = registrar.account()
    registrar.account(platform=platform.id)
    client = create_client(service, platform.secret)
    client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_visa"})
    own, (connected,) = client.v1.accounts.retrieve_current(), client.v1.accounts.list().data
    assert [each for account in (own, connected) for each in _differences(account, "account")] == []
    for capability in client.v1.accounts.capabilities.list(own.id):
        assert list(_differences(capability, "capability")) == []
    assert list(_differences(client.v1.balance.retrieve(), "balance")) == []


def test_events(rich: stripe.StripeClient) -> None:
    events = list(rich.v1.events.list({"limit": 100}))
    assert len({event.type for event in events}) >= 8
    assert [each for event in events for each in _differences(event, "event")] == []


def test_webhook_endpoints(rich: stripe.StripeClient) -> None:
    made = rich.v1.webhook_endpoints.create({"url": "http://localhost/", "enabled_events": ["*"]})
    rich.v1.webhook_endpoints.update(made.id, {"description": "D", "metadata": {"a": "1"}})
    (listed,) = rich.v1.webhook_endpoints.list().data
    assert [each for rendered in (made, listed) for each in _differences(rendered, "webhook_endpoint")] == []


@pytest.mark.parametrize(
    "component",
    ["buy_button", "customer_sheet", "mobile_payment_element", "payment_element", "pricing_table"],
)
def test_customer_sessions(rich: stripe.StripeClient, component: str) -> None:
    customer = rich.v1.customers.list().data[0].id
    made = rich.raw_request(
        "post", "/v1/customer_sessions", customer=customer, components={component: {"enabled": True}}
    )
    session = rich.deserialize(made, api_mode="V1")
    assert isinstance(session, stripe.CustomerSession)
    assert list(_differences(session, "customer_session")) == []


def test_the_comparison_finds_a_missing_member() -> None:
    broken = stripe.Dispute.construct_from(
        {"id": "du_1", "object": "dispute", "status": "odd", "more": 1}, "key"
    )
    differences = list(_differences(broken, "dispute"))
    assert "dispute.amount is missing" in differences
    assert "dispute.status is 'odd'" in differences
    assert "dispute.more is unknown to the client" in differences
