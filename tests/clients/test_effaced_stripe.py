"""effaced-stripe, which answers a person's request for their data, or to be forgotten: exports a customer and
their cards, and deletes the customer."""

from __future__ import annotations

import json
from pathlib import Path

import stripe

from tests.api.service import Account, Registrar, Service
from tests.clients.conftest import ListRefused
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success
from tests.clients.shop import ADDRESS, Shop

PROGRAM = "effaced-stripe"
pytestmark = needs(PROGRAM)
SCOPES = ("rak_customer_write", "rak_payment_method_read")


def test_a_customer_is_exported_whole_and_erased_once(
    service: Service,
    account: Account,
    registrar: Registrar,
    client: stripe.StripeClient,
    shop: Shop,
    list_refused: ListRefused,
    tmp_path: Path,
) -> None:
    python = find_python(PROGRAM)
    (method,) = client.v1.customers.payment_methods.list(shop.jenny).data
    output = run_to_success(
        [python, SCRIPTS / "export_and_erase.py", shop.jenny, "cus_nobody"],
        tmp_path,
        {
            "STRIPE_KEY": registrar.key(account.id, "rk", scopes=SCOPES)[1],
            "STRIPE_BASE": service.url,
        },
    )
    first, second, *nobody = (json.loads(line) for line in output.splitlines())
    assert first == {"exported": _describe(method), "already_absent": False}
    absent = {"exported": {}, "already_absent": True}
    assert [second, *nobody] == [absent] * 3
    assert client.v1.customers.retrieve(shop.jenny).to_dict() == {
        "id": shop.jenny,
        "object": "customer",
        "deleted": True,
    }
    jenny, unknown = f"/v1/customers/{shop.jenny}", "/v1/customers/cus_nobody"
    assert list_refused() == [
        ("DELETE", jenny, 404),
        *[("GET", unknown, 404), ("DELETE", unknown, 404)] * 2,
    ]


def _describe(method: stripe.PaymentMethod) -> dict[str, object]:
    """What the export says of Jenny: each field that she has, and her card."""
    assert method.card is not None
    person = {"customer.email": "jenny@example.com", "customer.name": "Jenny Rosen"}
    contact = {"customer.phone": "+49301234567", "customer.shipping.name": "J. Rosen"}
    addresses = {
        f"customer.{of}address.{field}": value for of in ("", "shipping.") for field, value in ADDRESS.items()
    }
    of_card = {
        f"payment_method.{method.id}.card.{field}": method.card[field]
        for field in ("brand", "last4", "exp_month", "exp_year")
    }
    assert of_card[f"payment_method.{method.id}.card.last4"] == "4242"
    return person | contact | addresses | {f"payment_method.{method.id}.type": "card"} | of_card
