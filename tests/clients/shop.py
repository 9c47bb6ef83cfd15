"""The history of a small shop: what an account has when a program is pointed at it."""

from __future__ import annotations

import io
import json
import time
from typing import Any, NamedTuple

import pytest
import stripe

from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import wait_until

RECEIPT = b"\x89PNG\r\n\x1a\n" + bytes(64)
ADDRESS: Any = {"line1": "1 Main", "city": "Berlin", "postal_code": "10115", "country": "DE"}
ORDERS = 12
"""More than the ten that a list shows by default, so that programs must ask for a second page."""


class Shop(NamedTuple):
    """Ids of what tests change or look at."""

    jenny: str
    deleted_customer: str
    refundable_charge: str
    open_dispute: str


def open_shop(client: stripe.StripeClient, operator: InternalClient) -> Shop:
    """Give the account its history, and wait until the last of it is decided."""
    jenny, deleted_customer = _create_customers(client)
    orders = _create_charges(client, jenny, deleted_customer)
    _create_payment_intent(client, jenny)
    client.v1.customers.delete(deleted_customer)
    client.v1.refunds.create({"charge": orders[0]})
    client.v1.refunds.create({"charge": orders[1], "amount": 700, "reason": "requested_by_customer"})
    open_dispute = _create_disputes(client)
    client.v1.customer_sessions.create({"customer": jenny, "components": {"buy_button": {"enabled": True}}})
    endpoint = client.v1.webhook_endpoints.create(
        {"url": "https://shop.example.com/hooks", "enabled_events": ["charge.refunded"]}
    )
    client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    _publish(operator, jenny, orders[2])
    return Shop(jenny, deleted_customer, orders[3], open_dispute)


def list_all(client: stripe.StripeClient, resource: str) -> dict[str, Any]:
    """All objects of a resource by id, as the API shows them."""
    objects = getattr(client.v1, resource).list({"limit": 100}).auto_paging_iter()
    return {one.id: json.loads(str(one)) for one in objects}


def _create_customers(client: stripe.StripeClient) -> tuple[str, str]:
    """One with all that a customer can have, one without a card, and one to be deleted."""
    jenny = client.v1.customers.create(
        {
            "name": "Jenny Rosen",
            "email": "jenny@example.com",
            "phone": "+49301234567",
            "source": "tok_visa",
            "address": ADDRESS,
            "shipping": {"name": "J. Rosen", "address": ADDRESS},
            "metadata": {"tier": "gold"},
        }
    )
    client.v1.customers.create({"name": "Bo", "description": "pays later"})
    deleted = client.v1.customers.create({"email": "gone@example.com", "source": "tok_mastercard"})
    return jenny.id, deleted.id


def _create_charges(client: stripe.StripeClient, jenny: str, deleted_customer: str) -> list[str]:
    """Jenny's orders, whose ids it returns, and one charge of every other kind."""
    orders = [
        client.v1.charges.create(
            {"amount": 2000 + number, "currency": "usd", "customer": jenny, "description": f"Order {number}"}
        ).id
        for number in range(ORDERS)
    ]
    client.v1.charges.create({"amount": 5000, "currency": "jpy", "source": "tok_visa"})
    client.v1.charges.create({"amount": 1500, "currency": "eur", "customer": deleted_customer})
    client.v1.charges.create({"amount": 1600, "currency": "eur", "customer": jenny, "capture": False})
    captured = client.v1.charges.create(
        {"amount": 1700, "currency": "eur", "customer": jenny, "capture": False}
    )
    client.v1.charges.capture(captured.id, {"amount": 1200})
    with pytest.raises(stripe.CardError):
        client.v1.charges.create({"amount": 1800, "currency": "usd", "source": "tok_chargeDeclined"})
    return orders


def _create_payment_intent(client: stripe.StripeClient, jenny: str) -> None:
    client.v1.payment_intents.create(
        {
            "amount": 4200,
            "currency": "usd",
            "customer": jenny,
            "payment_method": "pm_card_visa",
            "confirm": True,
        }
    )


def _create_disputes(client: stripe.StripeClient) -> str:
    """One won with a file, one lost, an inquiry, and one with staged evidence, whose id it returns."""
    won, lost, _, staged = (
        _create_dispute(client, f"tok_createDispute{kind}")
        for kind in ("", "ProductNotReceived", "Inquiry", "")
    )
    file = io.BytesIO(RECEIPT)
    file.name = "receipt.png"
    receipt = client.v1.files.create({"purpose": "dispute_evidence", "file": file})
    client.v1.file_links.create({"file": receipt.id})
    client.v1.disputes.update(
        won, {"evidence": {"receipt": receipt.id, "uncategorized_text": "winning_evidence"}}
    )
    client.v1.disputes.close(lost)
    client.v1.disputes.update(
        staged, {"evidence": {"customer_name": "Jenny Rosen", "receipt": receipt.id}, "submit": False}
    )
    wait_until(lambda: client.v1.disputes.retrieve(won).status == "won")
    return staged


def _create_dispute(client: stripe.StripeClient, source: str) -> str:
    charge = client.v1.charges.create({"amount": 3000, "currency": "usd", "source": source})
    return client.v1.disputes.list({"charge": charge.id}).data[0].id


def _publish(operator: InternalClient, jenny: str, charge: str) -> None:
    """What other services of the house publish: a product, and the invoice that a charge has paid."""
    unique = jenny.removeprefix("cus_")  # an id belongs to one account of all
    created = int(time.time()) - 4 * 3600
    product = {"name": "Tea", "active": True, "created": created, "livemode": False, "metadata": {}}
    line = {
        "id": "il_tea", "object": "line_item", "amount": 2002, "currency": "usd", "description": "Tea",
        "discountable": True, "discounts": [], "livemode": False, "metadata": {}, "quantity": 1,
        "period": {"start": created, "end": created},
    }  # fmt: skip
    lines = {
        "object": "list",
        "data": [line],
        "has_more": False,
        "url": f"/v1/invoices/in_{unique}/lines",
    }
    invoice = {
        "number": "R-0001", "status": "paid", "created": created, "livemode": False, "currency": "usd",
        "total": 2002, "customer": jenny, "customer_name": "Jenny Rosen", "charge": charge,
        "invoice_pdf": "https://shop.example.com/R-0001.pdf",
        "lines": lines,
    }  # fmt: skip
    for kind, named, event_type, content in (
        ("product", f"prod_{unique}", "product.created", product),
        ("invoice", f"in_{unique}", "invoice.paid", invoice),
    ):
        body = {"event_type": event_type, "object": content}
        answer = operator.call("PUT", f"/resources/{kind}/{named}", body)
        assert answer.status_code == 200, answer.text
