"""Charges through the API (contract §2.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Caller, assert_refused, ok

FIELDS = [
    "amount", "amount_captured", "amount_refunded", "application", "application_fee",
    "application_fee_amount", "balance_transaction", "billing_details", "calculated_statement_descriptor",
    "captured", "created", "currency", "customer", "description", "disputed",
    "failure_balance_transaction", "failure_code", "failure_message", "fraud_details", "id", "livemode",
    "metadata", "object", "on_behalf_of", "outcome", "paid", "payment_intent", "payment_method",
    "payment_method_details", "receipt_email", "receipt_number", "receipt_url", "refunded", "review",
    "shipping", "source", "source_transfer", "statement_descriptor", "statement_descriptor_suffix",
    "status", "transfer_data", "transfer_group",
]  # fmt: skip


def _create(raw: Caller, **form: Any) -> Any:
    return raw.post("/v1/charges", {"amount": 2000, "currency": "usd", "source": "tok_visa", **form})


def test_every_field_is_there_and_the_unused_are_null(raw: Caller) -> None:
    charge = raw.charge()
    assert sorted(charge) == FIELDS
    assert charge["billing_details"] == {
        "address": dict.fromkeys(["city", "country", "line1", "line2", "postal_code", "state"]),
        "email": None, "name": None, "phone": None, "tax_id": None,
    }  # fmt: skip
    assert (charge["status"], charge["paid"], charge["captured"], charge["disputed"]) == (
        "succeeded", True, True, False,
    )  # fmt: skip
    assert (charge["outcome"]["type"], charge["outcome"]["network_status"]) == (
        "authorized", "approved_by_network",
    )  # fmt: skip
    details = charge["payment_method_details"]
    assert (details["type"], details["card"]["brand"], details["card"]["last4"]) == ("card", "visa", "4242")


@pytest.mark.contract("2.6 events", "4.2 charge")
def test_parameters_are_stored_and_updated(raw: Caller) -> None:
    given = {"description": "d", "receipt_email": "r@example.com", "transfer_group": "g"}
    charge = ok(_create(raw, **given, statement_descriptor="SHOP"))
    assert {name: charge[name] for name in given} == given
    assert charge["calculated_statement_descriptor"] == charge["statement_descriptor"] == "SHOP"
    path = f"/v1/charges/{charge['id']}"
    changed = ok(raw.post(path, "description=e&receipt_email=&fraud_details[user_report]=safe"))
    assert (changed["description"], changed["receipt_email"]) == ("e", None)
    assert changed["fraud_details"] == {"user_report": "safe"}
    assert ok(raw.post(path, "fraud_details[user_report]="))["fraud_details"] == {}
    types = [event["type"] for event in raw.events()]
    assert types == ["charge.succeeded", "charge.updated", "charge.updated"]


def test_the_customer_of_a_charge_is_set_once(raw: Caller) -> None:
    charge, first, second = raw.charge()["id"], raw.customer()["id"], raw.customer()["id"]
    path = f"/v1/charges/{charge}"
    assert ok(raw.post(path, f"customer={first}"))["customer"] == first
    assert_refused(raw.post(path, f"customer={second}"), param="customer")
    assert_refused(raw.post(path, "customer=cus_x"), code="resource_missing", param="customer")


@pytest.mark.parametrize(
    ("form", "status", "expected"),
    [
        ({"amount": 49}, 400, {"code": "amount_too_small", "param": "amount"}),
        ({"amount": 0}, 400, {"code": "amount_too_small", "param": "amount"}),
        ({"amount": 100_000_000}, 400, {"code": "amount_too_large", "param": "amount"}),
        ({"amount": 2**63 - 1}, 400, {"code": "amount_too_large", "param": "amount"}),
        ({"currency": "xxx"}, 400, {"param": "currency"}),
        ({"currency": "dollar"}, 400, {"param": "currency"}),
        ({"statement_descriptor": "s" * 23}, 400, {"param": "statement_descriptor"}),
        ({"description": "d" * 40_001}, 400, {"param": "description"}),
        ({"application_fee_amount": 1}, 400, {"param": "application_fee_amount"}),
        ({"source": "card_x"}, 400, {"code": "resource_missing", "param": "source"}),
        ({"refunded": "true"}, 400, {"code": "parameter_unknown", "param": "refunded"}),
    ],
)
def test_wrong_parameters_are_refused(
    raw: Caller, form: dict[str, Any], status: int, expected: dict[str, Any]
) -> None:
    answer = _create(raw, **form)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error")
    assert error.get("param") == expected["param"]
    assert "code" not in expected or error["code"] == expected["code"]
    assert ok(raw.get("/v1/charges"))["data"] == []


def test_a_source_or_a_customer_with_a_card_is_needed(raw: Caller) -> None:
    form = {"amount": 100, "currency": "usd"}
    assert raw.post("/v1/charges", form).status_code == 400
    customer = raw.customer()["id"]
    assert_refused(
        raw.post("/v1/charges", {**form, "customer": customer}),
        402,
        kind="card_error",
        code="missing",
        param="card",
    )


@pytest.mark.parametrize("amount", [50, 99_999_999])
def test_the_smallest_and_the_largest_amount(raw: Caller, amount: int) -> None:
    assert ok(_create(raw, amount=amount))["amount"] == amount


@pytest.mark.parametrize(("currency", "shown"), [("USD", "usd"), ("jpy", "jpy"), ("eUr", "eur")])
def test_currencies_are_lower_case(raw: Caller, currency: str, shown: str) -> None:
    assert ok(_create(raw, currency=currency))["currency"] == shown


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("tok_chargeDeclined", "card_declined", "generic_decline"),
        ("tok_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("tok_chargeDeclinedExpiredCard", "expired_card", None),
        ("tok_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("tok_chargeDeclinedProcessingError", "processing_error", None),
    ],
)
@pytest.mark.contract("2.6 declining token", "4.2 charge")
def test_a_declining_card_leaves_a_failed_charge_and_an_event(
    raw: Caller, token: str, code: str, decline_code: str | None
) -> None:
    answer = _create(raw, source=token)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (402, "card_error", code)
    assert decline_code in (None, error.get("decline_code"))
    charge = ok(raw.get(f"/v1/charges/{error['charge']}"))
    assert (charge["status"], charge["paid"], charge["captured"]) == ("failed", False, False)
    assert (charge["failure_code"], charge["failure_message"]) == (code, error["message"])
    assert charge["outcome"]["network_status"] == "declined_by_network"
    (event,) = raw.events()
    assert (event["type"], event["data"]) == ("charge.failed", {"object": charge})
    assert event["request"]["id"] == answer.headers["request-id"]
    assert_refused(raw.post(f"/v1/charges/{charge['id']}/capture"))


@pytest.mark.contract("2.6 events", "4.2 charge")
def test_capture_takes_at_most_what_was_authorised(raw: Caller) -> None:
    charge = ok(_create(raw, capture="false"))
    path = f"/v1/charges/{charge['id']}/capture"
    assert_refused(raw.post(path, "amount=2001"), param="amount")
    assert_refused(raw.post(path, "amount=0"), param="amount")
    taken = ok(raw.post(path, "amount=500&statement_descriptor=S&expand[]=balance_transaction"))
    assert (taken["amount"], taken["amount_captured"], taken["statement_descriptor"]) == (2000, 500, "S")
    assert taken["balance_transaction"]["amount"] == 500
    assert_refused(raw.post(path), code="charge_already_captured")
    assert [event["type"] for event in raw.events()] == ["charge.succeeded", "charge.captured"]


def test_balance_transactions_add_up(raw: Caller) -> None:
    for amount, currency in ((2000, "usd"), (50, "usd"), (1234, "eur"), (5000, "jpy")):
        transaction = ok(
            _create(raw, amount=amount, currency=currency, **{"expand[]": "balance_transaction"})
        )["balance_transaction"]
        assert transaction["net"] == transaction["amount"] - transaction["fee"]
        assert transaction["amount"] == amount
        assert sum(detail["amount"] for detail in transaction["fee_details"]) == transaction["fee"]
        assert transaction["status"] == "pending"
        assert transaction["available_on"] % 86_400 == 0
