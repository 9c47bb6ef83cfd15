"""Customers through the API (contract §2.5)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.service import Caller, assert_refused, ok

PLAIN = {
    "name": "Jenny", "description": "d", "phone": "+1", "email": "j@example.com", "business_name": "B",
    "individual_name": "I",
}  # fmt: skip
UNSET: dict[str, Any] = {
    "address": None, "balance": 0, "business_name": None, "currency": None, "customer_account": None,
    "default_source": None, "delinquent": False, "description": None, "discount": None, "email": None,
    "individual_name": None, "livemode": False, "metadata": {}, "name": None, "next_invoice_sequence": 1,
    "phone": None, "preferred_locales": [], "shipping": None, "tax_exempt": "none", "test_clock": None,
    "invoice_settings": {
        "custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None,
    },
}  # fmt: skip


def test_without_parameters_every_field_has_its_default(raw: Caller) -> None:
    made = raw.customer()
    own = {"id", "object", "created", "invoice_prefix"}
    assert {name: value for name, value in made.items() if name not in own} == UNSET
    assert made["object"] == "customer"
    assert re.fullmatch("[A-Z0-9]{3,12}", made["invoice_prefix"])


def test_every_field_is_stored_updated_and_unset(raw: Caller) -> None:
    made = raw.customer(**PLAIN, balance="-500", next_invoice_sequence="7", tax_exempt="reverse")
    assert {name: made[name] for name in PLAIN} == PLAIN
    assert (made["balance"], made["next_invoice_sequence"], made["tax_exempt"]) == (-500, 7, "reverse")
    path = f"/v1/customers/{made['id']}"
    changed = ok(raw.post(path, dict.fromkeys(PLAIN, "other")))
    assert {changed[name] for name in PLAIN} == {"other"}
    cleared = ok(raw.post(path, dict.fromkeys(PLAIN, "")))
    assert {cleared[name] for name in PLAIN} == {None}
    assert (cleared["balance"], cleared["next_invoice_sequence"]) == (-500, 7)
    assert ok(raw.post(path, "tax_exempt="))["tax_exempt"] == "none"


def test_hashes_merge_and_are_cleared_whole(raw: Caller) -> None:
    path = f"/v1/customers/{raw.customer()['id']}"
    ok(raw.post(path, "address[city]=B&address[country]=DE"))
    after = ok(raw.post(path, "address[line1]=L&address[city]="))["address"]
    assert after == {
        "city": None, "country": "DE", "line1": "L", "line2": None, "postal_code": None, "state": None,
    }  # fmt: skip
    assert ok(raw.post(path, "address="))["address"] is None
    shipping = "shipping[name]=N&shipping[address][city]=C"
    after = ok(raw.post(path, f"{shipping}&shipping[phone]=1"))["shipping"]
    assert (after["name"], after["phone"], after["address"]["city"]) == ("N", "1", "C")
    for missing, form in (("name", "shipping[address][city]=C"), ("address", "shipping[name]=N")):
        assert_refused(raw.post(path, form), code="parameter_missing", param=f"shipping[{missing}]")
    assert ok(raw.post(path, "shipping="))["shipping"] is None


def test_invoice_settings(raw: Caller) -> None:
    path = f"/v1/customers/{raw.customer()['id']}"
    field = "invoice_settings[custom_fields][0]"
    after = ok(raw.post(path, f"{field}[name]=n&{field}[value]=v&invoice_settings[footer]=f"))
    assert after["invoice_settings"]["custom_fields"] == [{"name": "n", "value": "v"}]
    after = ok(
        raw.post(path, "invoice_settings[custom_fields]=&invoice_settings[rendering_options][template]=t")
    )
    assert after["invoice_settings"] == {
        "custom_fields": None, "default_payment_method": None, "footer": "f",
        "rendering_options": {"amount_tax_display": None, "template": "t"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("email=" + "e" * 513, {"param": "email"}),
        ("business_name=" + "b" * 151, {"param": "business_name"}),
        ("individual_name=" + "b" * 151, {"param": "individual_name"}),
        ("invoice_prefix=ab", {"param": "invoice_prefix"}),
        ("balance=", {"code": "parameter_invalid_empty", "param": "balance"}),
        ("next_invoice_sequence=0", {"code": "parameter_invalid_integer", "param": "next_invoice_sequence"}),
        ("source=tok_x", {"code": "resource_missing", "param": "source"}),
        ("id=cus_mine", {"code": "parameter_unknown", "param": "id"}),
        ("payment_method=pm_x", {"param": "payment_method"}),
        ("tax_id_data[0][type]=eu_vat", {"param": "tax_id_data"}),
    ],
)
def test_wrong_parameters_are_refused(raw: Caller, form: str, expected: dict[str, Any]) -> None:
    assert_refused(raw.post("/v1/customers", form), **expected)
    assert ok(raw.get("/v1/customers"))["data"] == []


@pytest.mark.contract("2.5 field default_source")
def test_sources_are_attached_and_one_is_the_default(raw: Caller) -> None:
    made = raw.customer(source="tok_visa")
    path = f"/v1/customers/{made['id']}"
    visa = made["default_source"]
    assert visa.startswith("card_")
    mastercard = ok(raw.post(path, "source=tok_mastercard"))["default_source"]
    assert mastercard != visa
    assert ok(raw.post(path, f"default_source={visa}"))["default_source"] == visa
    sources = ok(raw.get(f"{path}?expand[]=sources"))["sources"]["data"]
    assert {each["id"]: each["brand"] for each in sources} == {visa: "Visa", mastercard: "MasterCard"}
    assert_refused(raw.post(path, "default_source=card_x"), code="resource_missing", param="default_source")


def test_a_card_that_declines_is_not_attached(raw: Caller) -> None:
    error = raw.post("/v1/customers", "source=tok_chargeDeclined")
    assert error.status_code == 402
    assert error.json()["error"]["type"] == "card_error"
    assert raw.events() == []
    kept = raw.customer(source="tok_chargeCustomerFail")["id"]
    form = {"amount": 100, "currency": "usd", "customer": kept}
    assert raw.post("/v1/charges", form).status_code == 402


@pytest.mark.contract("2.5 events", "4.2 no change, no event")
def test_an_update_that_changes_nothing_makes_no_event(raw: Caller) -> None:
    made = raw.customer(name="x", **{"address[city]": "B", "metadata[a]": "1"})
    path = f"/v1/customers/{made['id']}"
    for form in ("", "name=x", "address[city]=B&metadata[a]=1", "description=", "metadata[none]="):
        assert ok(raw.post(path, form)) == made
    assert [event["type"] for event in raw.events()] == ["customer.created"]


@pytest.mark.contract("2.5 deleted", "2.5 events")
def test_a_deleted_customer_is_a_stub_everywhere(raw: Caller) -> None:
    made = raw.customer(name="x", email="a@b.c", source="tok_visa")
    charge = ok(raw.post("/v1/charges", {"amount": 100, "currency": "usd", "customer": made["id"]}))
    path = f"/v1/customers/{made['id']}"
    stub = {"id": made["id"], "object": "customer", "deleted": True}
    assert ok(raw.delete(path)) == stub
    assert ok(raw.get(path)) == stub
    assert ok(raw.get("/v1/customers"))["data"] == []
    assert ok(raw.get("/v1/customers?email=a@b.c"))["data"] == []
    for method, form in (("POST", "name=y"), ("DELETE", None)):
        assert_refused(raw.call(method, path, form), 404, code="resource_missing", param="id")
    assert_refused(
        raw.post("/v1/charges", {"amount": 100, "currency": "usd", "customer": made["id"]}),
        code="resource_missing",
        param="customer",
    )
    assert ok(raw.get(f"/v1/charges/{charge['id']}"))["customer"] == made["id"]
    event = raw.events()[-1]
    assert (event["type"], event["data"]) == ("customer.deleted", {"object": made})
