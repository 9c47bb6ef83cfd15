"""Field tables of contract §2.2 and §2.5-§2.9: each object in full, member by member, and what sets a member.

`...` stands for values that differ each time. `test_shapes` checks shapes and types against the client's own.
"""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest

from ledger.domain.dispute_decisions import REASONS
from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.contract import rows

ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
DAY = 86_400
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
TEXTS = [
    "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_email_address", "customer_name", "customer_purchase_ip", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "refund_policy_disclosure", "refund_refusal_explanation",
    "service_date", "shipping_address", "shipping_carrier", "shipping_date", "shipping_tracking_number",
    "uncategorized_text",
]  # fmt: skip
FILES = [
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation",
    "receipt", "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
]  # fmt: skip


def _assert_shows(shown: Any, expected: Any, place: str = "") -> None:
    """Check that `shown` has exactly the members of `expected`, with any value where that says `...`."""
    if expected is ...:
        return
    if isinstance(expected, dict):
        assert isinstance(shown, dict), place
        assert set(shown) == set(expected), place
        for name, each in expected.items():
            _assert_shows(shown[name], each, f"{place}.{name}")
    elif isinstance(expected, list):
        assert len(shown) == len(expected), place
        for number, each in enumerate(expected):
            _assert_shows(shown[number], each, f"{place}[{number}]")
    else:
        assert (shown, type(shown)) == (expected, type(expected)), place


@pytest.fixture
def told(http: httpx.Client, account: Account, registrar: Registrar) -> Any:
    """Ingest facts, as another service."""
    key = registrar.key(account.id, "rk", scopes=["catalog", "network"])[1]

    def tell(path: str, **body: Any) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return ok(http.post(f"/internal/v1/{path}", json=body, headers=headers))

    return tell


def _upload(raw: Caller, name: str = "a.png", content: bytes = PNG, **fields: str) -> httpx.Response:
    return raw.http.post(
        "/v1/files",
        files={"file": (name, content, "application/x-whatever")},
        data={"purpose": "dispute_evidence", **fields},
        headers={"authorization": f"Bearer {raw.key}"},
    )


# -- disputes -----------------------------------------------------------------------------------------


@pytest.mark.contract(
    "2.2 GET /v1/disputes/{id}",
    "2.2 field id, object, created, livemode, metadata",
    "2.2 field amount, currency",
    "2.2 field balance_transactions",
    "2.2 field charge",
    "2.2 field payment_intent",
    "2.2 field is_charge_refundable",
    "2.2 field network_reason_code",
    "2.2 field intended_submission_method",
    "2.2 field enhanced_eligibility_types",
    "2.2 field evidence",
    "2.2 field evidence_details.due_by",
    "2.2 field evidence_details.has_evidence",
    "2.2 field evidence_details.submission_count",
    "2.2 field evidence_details.submission_method",
    "2.8 dispute withdrawal",
)
def test_a_dispute(raw: Caller) -> None:
    dispute = raw.dispute(amount=2345)
    _assert_shows(dispute, _new_dispute_of_2345(dispute))
    assert dispute["id"].startswith("du_")
    assert abs(dispute["created"] - time.time()) < 60
    assert ok(raw.get(f"/v1/disputes/{dispute['id']}")) == dispute


def _withdrawal_of_2345(dispute: dict[str, Any]) -> dict[str, Any]:
    """The balance transaction of a new dispute; `...` is anything."""
    return {
        "id": ...,
        "object": "balance_transaction",
        "amount": -2345,
        "available_on": dispute["created"],
        "balance_type": "payments",
        "created": dispute["created"],
        "currency": "usd",
        "description": f"Chargeback withdrawal for {dispute['charge']}",
        "exchange_rate": None,
        "fee": 1500,
        "fee_details": [
            {
                "amount": 1500,
                "application": None,
                "currency": "usd",
                "description": "Dispute fee",
                "type": "stripe_fee",
            }
        ],
        "net": -3845,
        "reporting_category": "dispute",
        "source": dispute["id"],
        "status": "available",
        "type": "adjustment",
    }


def _new_dispute_of_2345(dispute: dict[str, Any]) -> dict[str, Any]:
    """What the object has, member by member; `...` is anything."""
    created = dispute["created"]
    return {
        "id": ...,
        "object": "dispute",
        "amount": 2345,
        "balance_transactions": [_withdrawal_of_2345(dispute)],
        "charge": ...,
        "created": ...,
        "currency": "usd",
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys([*TEXTS, *FILES]), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": (created // DAY + 9) * DAY - 1,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "intended_submission_method": None,
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "network_reason_code": "10.4",
        "payment_intent": None,
        "payment_method_details": {
            "card": {
                "brand": "visa",
                "case_type": "chargeback",
                "network": "visa",
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "needs_response",
    }


@pytest.mark.contract("2.2 field reason")
def test_a_dispute_has_the_reason_of_its_report(told: Any) -> None:
    assert len(REASONS) == 15
    for reason in REASONS:
        charge = told("charges", amount=2000, currency="usd")["id"]
        assert told("disputes", charge=charge, kind="chargeback", reason=reason)["reason"] == reason


METHODS: dict[str, Any] = {
    "card": {
        "brand": "mastercard",
        "case_type": "inquiry",
        "network": "mastercard",
        "network_reason_code": "4853",
    },
    "amazon_pay": {"dispute_type": "chargeback"},
    "klarna": {"chargeback_loss_reason_code": None, "reason_code": "4853"},
    "paypal": {"case_id": None, "reason_code": "4853"},
}


@pytest.mark.contract("2.2 field payment_method_details")
@pytest.mark.parametrize("method", METHODS)
def test_a_dispute_shows_only_its_own_payment_method(told: Any, method: str) -> None:
    details = {"type": method, method: {"brand": "mastercard"} if method == "card" else {}}
    charge = told("charges", amount=2000, currency="usd", payment_method_details=details)["id"]
    shown = told("disputes", charge=charge, kind="inquiry", network_reason_code="4853")[
        "payment_method_details"
    ]
    assert set(shown) == {"type", method}
    assert shown["type"] == method
    assert set(shown[method]) == set(METHODS[method])
    if method == "card":
        assert shown[method] == METHODS[method]


@pytest.mark.contract("2.2 GET /v1/disputes")
def test_disputes_are_listed_by_charge_and_payment_intent(raw: Caller, told: Any) -> None:
    intent = f"pi_{time.time_ns()}"
    of_intent = told("charges", amount=2000, currency="usd", payment_intent=intent)["id"]
    dispute = told("disputes", charge=of_intent, kind="chargeback")
    assert dispute["payment_intent"] == intent
    other = raw.dispute()
    assert ok(raw.get(f"/v1/disputes?payment_intent={intent}"))["data"] == [dispute]
    assert ok(raw.get(f"/v1/disputes?charge={other['charge']}"))["data"] == [other]
    assert ok(raw.get("/v1/disputes?limit=1"))["data"] == [other]
    assert ok(raw.get(f"/v1/disputes?starting_after={other['id']}"))["data"] == [dispute]
    assert ok(raw.get(f"/v1/disputes?created[gt]={other['created']}"))["data"] == []
    for query, param in (("charge=ch_x", "charge"), ("payment_intent=pi_x", "payment_intent")):
        assert_refused(raw.get(f"/v1/disputes?{query}"), code="resource_missing", param=param)


@pytest.mark.contract("2.2 POST /v1/disputes/{id}")
def test_every_parameter_of_an_update_at_once(raw: Caller) -> None:
    form = {"evidence[customer_name]": "J", "submit": "false", "metadata[k]": "v", "expand[]": "charge"}
    for method in ("manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes"):
        dispute = raw.dispute()
        after = ok(raw.post(f"/v1/disputes/{dispute['id']}", form | {"intended_submission_method": method}))
        assert (after["intended_submission_method"], after["metadata"]) == (method, {"k": "v"})
        assert (after["evidence"]["customer_name"], after["status"]) == ("J", "needs_response")
        assert after["charge"]["id"] == dispute["charge"]
    assert len(raw.events("type=charge.dispute.updated")) == 4


@pytest.mark.contract("2.2 evidence appeal.card")
def test_an_appeal_names_its_reason_and_files(
    raw: Caller, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    dispute_id = raw.dispute()["id"]
    dispute = f"/v1/disputes/{dispute_id}"
    ok(raw.post(f"{dispute}/close"))
    key = registrar.key(account.id, "rk", scopes=["network"])[1]
    fact, headers = {"fact": "appeal_opened"}, {"authorization": f"Bearer {key}"}
    ok(http.post(f"/internal/v1/disputes/{dispute_id}/facts", json=fact, headers=headers))
    file = ok(_upload(raw))["id"]
    card = "evidence[appeal][card]"
    form = {f"{card}[reason_for_filing]": "R", f"{card}[supporting_files][0]": file, "submit": "false"}
    assert ok(raw.post(dispute, form))["evidence"]["appeal"] == {
        "card": {"reason_for_filing": "R", "supporting_files": [file]}
    }


# -- customers ----------------------------------------------------------------------------------------

CUSTOMER: dict[str, Any] = {
    "id": ..., "object": "customer", "address": None, "balance": 0, "business_name": None, "created": ...,
    "currency": None, "customer_account": None, "default_source": None, "delinquent": False,
    "description": None, "discount": None, "email": None, "individual_name": None, "invoice_prefix": ...,
    "invoice_settings": {
        "custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None,
    },
    "livemode": False, "metadata": {}, "name": None, "next_invoice_sequence": 1, "phone": None,
    "preferred_locales": [], "shipping": None, "tax_exempt": "none", "test_clock": None,
}  # fmt: skip


@pytest.mark.contract(
    "2.5 field id, object, created, livemode",
    "2.5 field currency",
    "2.5 field customer_account",
    "2.5 field delinquent",
    "2.5 field discount",
    "2.5 field test_clock",
    "2.5 fields that are absent",
)
def test_a_customer(raw: Caller) -> None:
    made = raw.customer()
    _assert_shows(made, CUSTOMER)
    assert made["id"].startswith("cus_")
    assert abs(made["created"] - time.time()) < 60
    for name in ("subscriptions", "tax_ids", "tax", "cash_balance"):
        assert raw.get(f"/v1/customers/{made['id']}?expand[]={name}").status_code in (200, 400)
    assert_refused(raw.get("/v1/customers?test_clock=clock_x"), param="test_clock", message="not supported")


# By row: what is set at creation, what is shown then, what an update changes, what is shown then.
FIELDS: dict[str, list[tuple[dict[str, str], dict[str, Any], dict[str, str], dict[str, Any]]]] = {
    "field name, description, phone": [
        ({name: "a"}, {name: "a"}, {name: ""}, {name: None}) for name in ("name", "description", "phone")
    ],
    "field email": [({"email": "e" * 512}, {"email": "e" * 512}, {"email": ""}, {"email": None})],
    "field address": [
        (
            {f"address[{name}]": name for name in ADDRESS},
            {"address": {name: name for name in ADDRESS}},
            {"address": ""},
            {"address": None},
        ),
        (
            {"address[city]": "B"},
            {"address": {**ADDRESS, "city": "B"}},
            {"address[line1]": "L", "address[city]": ""},
            {"address": {**ADDRESS, "line1": "L"}},
        ),
    ],
    "field shipping": [
        (
            {"shipping[name]": "N", "shipping[address][city]": "C", "shipping[phone]": "1"},
            {"shipping": {"name": "N", "phone": "1", "address": {**ADDRESS, "city": "C"}}},
            {"shipping": ""},
            {"shipping": None},
        )
    ],
    "field balance": [({"balance": "-5"}, {"balance": -5}, {"balance": "7"}, {"balance": 7})],
    "field business_name, individual_name": [
        ({name: "b" * 150}, {name: "b" * 150}, {name: ""}, {name: None})
        for name in ("business_name", "individual_name")
    ],
    "field invoice_prefix": [
        (
            {"invoice_prefix": "ABC"},
            {"invoice_prefix": "ABC"},
            {"invoice_prefix": "A1B2C3D4E5F6"},
            {"invoice_prefix": "A1B2C3D4E5F6"},
        )
    ],
    "field invoice_settings": [
        (
            {
                "invoice_settings[footer]": "f",
                "invoice_settings[custom_fields][0][name]": "n",
                "invoice_settings[custom_fields][0][value]": "v",
            },
            {
                "invoice_settings": {
                    "custom_fields": [{"name": "n", "value": "v"}],
                    "default_payment_method": None,
                    "footer": "f",
                    "rendering_options": None,
                }
            },
            {"invoice_settings[custom_fields]": "", "invoice_settings[footer]": ""},
            {"invoice_settings": CUSTOMER["invoice_settings"]},
        )
    ],
    "field metadata": [
        (
            {"metadata[a]": "1", "metadata[b]": "2"},
            {"metadata": {"a": "1", "b": "2"}},
            {"metadata[a]": "", "metadata[c]": "3"},
            {"metadata": {"b": "2", "c": "3"}},
        )
    ],
    "field next_invoice_sequence": [
        (
            {"next_invoice_sequence": "7"},
            {"next_invoice_sequence": 7},
            {"next_invoice_sequence": "9"},
            {"next_invoice_sequence": 9},
        )
    ],
    "field preferred_locales": [
        (
            {"preferred_locales[0]": "de", "preferred_locales[1]": "en"},
            {"preferred_locales": ["de", "en"]},
            {"preferred_locales[0]": "fr"},
            {"preferred_locales": ["fr"]},
        )
    ],
    "field tax_exempt": [
        ({"tax_exempt": one}, {"tax_exempt": one}, {"tax_exempt": other}, {"tax_exempt": other})
        for one, other in (("exempt", "reverse"), ("none", "exempt"))
    ],
}  # fmt: skip


@rows("2.5", FIELDS)
def test_a_field_of_a_customer_is_set_and_changed(raw: Caller, row: str) -> None:
    for creating, made, updating, after in FIELDS[row]:
        customer = raw.customer(**creating)
        _assert_shows(customer, CUSTOMER | made)
        path = f"/v1/customers/{customer['id']}"
        changed = ok(raw.post(path, updating))
        _assert_shows(changed, CUSTOMER | made | after)
        assert ok(raw.get(path)) == changed
        assert raw.events()[-1]["data"]["object"] == changed


@pytest.mark.contract("2.5 list by email")
def test_customers_are_listed_by_their_exact_email(raw: Caller) -> None:
    made = raw.customer(email="Ada@example.com")
    raw.customer(email="grace@example.com")
    assert ok(raw.get("/v1/customers?email=Ada@example.com"))["data"] == [made]
    for other in ("ada@example.com", "Ada@example.co", "%25"):
        assert ok(raw.get(f"/v1/customers?email={other}"))["data"] == []


# -- charges and refunds ------------------------------------------------------------------------------

CHARGE: dict[str, Any] = {
    "id": ..., "object": "charge", "amount": 2000, "amount_captured": 2000, "amount_refunded": 0,
    "application": None, "application_fee": None, "application_fee_amount": None,
    "balance_transaction": ...,
    "billing_details": {"address": ADDRESS, "email": None, "name": None, "phone": None, "tax_id": None},
    "calculated_statement_descriptor": ..., "captured": True, "created": ..., "currency": "usd",
    "customer": None, "description": None, "disputed": False, "failure_balance_transaction": None,
    "failure_code": None, "failure_message": None, "fraud_details": {}, "livemode": False, "metadata": {},
    "on_behalf_of": None,
    "outcome": {
        "advice_code": None, "network_advice_code": None, "network_decline_code": None,
        "network_status": "approved_by_network", "reason": None, "risk_level": "normal", "risk_score": ...,
        "seller_message": "Payment complete.", "type": "authorized",
    },
    "paid": True, "payment_intent": None, "payment_method": ...,
    "payment_method_details": {"card": ..., "type": "card"},
    "receipt_email": None, "receipt_number": None, "receipt_url": ..., "refunded": False, "review": None,
    "shipping": None, "source": ..., "source_transfer": None, "statement_descriptor": None,
    "statement_descriptor_suffix": None, "status": "succeeded", "transfer_data": None,
    "transfer_group": None,
}  # fmt: skip
CARD = {
    "amount_authorized", "authorization_code", "brand", "checks", "country", "exp_month", "exp_year",
    "extended_authorization", "fingerprint", "funding", "incremental_authorization", "installments", "last4",
    "mandate", "multicapture", "network", "network_token", "network_transaction_id", "overcapture",
    "regulated_status", "three_d_secure", "wallet",
}  # fmt: skip


@pytest.mark.contract(
    "2.6 always present",
    "2.6 status",
    "2.6 billing_details and outcome",
    "2.6 payment_method_details",
    "2.6 GET /v1/charges, /v1/charges/{id}",
)
def test_a_charge(raw: Caller) -> None:
    shown = raw.charge()
    _assert_shows(shown, CHARGE)
    card = shown["payment_method_details"]["card"]
    assert set(card) == CARD
    assert set(card["checks"]) == {"address_line1_check", "address_postal_code_check", "cvc_check"}
    assert ok(raw.get(f"/v1/charges/{shown['id']}")) == shown
    assert ok(raw.get("/v1/charges"))["data"] == [shown]
    declined = raw.post("/v1/charges", {"amount": 2000, "currency": "usd", "source": "tok_chargeDeclined"})
    failed = ok(raw.get(f"/v1/charges/{declined.json()['error']['charge']}"))
    assert set(failed) == set(shown)
    assert (failed["status"], failed["outcome"]["type"]) == ("failed", "issuer_declined")
    assert failed["balance_transaction"] is None


CREATED: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "description": ({"description": "d" * 40_000}, {"description": "d" * 40_000}),
    "metadata": ({"metadata[k]": "v"}, {"metadata": {"k": "v"}}),
    "receipt_email": ({"receipt_email": "r@example.com"}, {"receipt_email": "r@example.com"}),
    "shipping": (
        {"shipping[name]": "N", "shipping[address][city]": "C", "shipping[carrier]": "UPS"},
        {
            "shipping": {
                "address": {**ADDRESS, "city": "C"},
                "carrier": "UPS",
                "name": "N",
                "phone": None,
                "tracking_number": None,
            }
        },
    ),
    "statement_descriptor": (
        {"statement_descriptor": "S" * 22},
        {"statement_descriptor": "S" * 22, "calculated_statement_descriptor": "S" * 22},
    ),
    "statement_descriptor_suffix": (
        {"statement_descriptor_suffix": "SUFFIX"},
        {"statement_descriptor_suffix": "SUFFIX"},
    ),
    "transfer_group": ({"transfer_group": "g"}, {"transfer_group": "g"}),
    "capture": (
        {"capture": "false"},
        {"captured": False, "amount_captured": 0, "balance_transaction": None},
    ),
}


@pytest.mark.contract("2.6 POST /v1/charges")
@pytest.mark.parametrize("name", CREATED)
def test_a_charge_is_made_with(raw: Caller, name: str) -> None:
    form, shown = CREATED[name]
    _assert_shows(raw.charge(**form), CHARGE | shown)


@pytest.mark.contract("2.6 POST /v1/charges/{id}")
def test_a_charge_is_updated(raw: Caller) -> None:
    path = f"/v1/charges/{raw.charge()['id']}"
    customer = raw.customer()["id"]
    form = {name: value for each, _ in CREATED.values() for name, value in each.items()}
    for name in ("capture", "statement_descriptor", "statement_descriptor_suffix"):
        assert_refused(raw.post(path, {name: form.pop(name)}), code="parameter_unknown", param=name)
    expected = CHARGE | {name: CREATED[name][1][name] for name in ("description", "metadata", "receipt_email",
                                                                   "shipping", "transfer_group")}  # fmt: skip
    after = ok(raw.post(path, form | {"customer": customer, "fraud_details[user_report]": "fraudulent"}))
    _assert_shows(after, expected | {"customer": customer, "fraud_details": {"user_report": "fraudulent"}})
    assert raw.events()[-1]["type"] == "charge.updated"


@pytest.mark.contract("2.6 POST /v1/charges/{id}/capture")
def test_an_authorised_charge_is_captured(raw: Caller) -> None:
    path = f"/v1/charges/{raw.charge(capture='false')['id']}"
    form = {
        "amount": 1500, "receipt_email": "r@example.com", "statement_descriptor": "S",
        "statement_descriptor_suffix": "X", "transfer_group": "g",
    }  # fmt: skip
    assert_refused(raw.post(f"{path}/capture", form | {"amount": 2001}), param="amount")
    after = ok(raw.post(f"{path}/capture", form))
    assert {name: after[name] for name in form if name != "amount"} == {
        name: value for name, value in form.items() if name != "amount"
    }
    assert (after["captured"], after["amount"], after["amount_captured"]) == (True, 2000, 1500)
    event = raw.events()[-1]
    assert (event["type"], event["data"]) == ("charge.captured", {"object": after})


REFUSED: dict[str, tuple[dict[str, str], int, dict[str, Any]]] = {
    "amount missing": (
        {"currency": "usd", "source": "tok_visa"},
        400,
        {"code": "parameter_missing", "param": "amount"},
    ),
    "amount too small": (
        {"amount": "49", "currency": "usd", "source": "tok_visa"},
        400,
        {"code": "amount_too_small", "param": "amount"},
    ),
    "amount too large": (
        {"amount": "100000000", "currency": "usd", "source": "tok_visa"},
        400,
        {"code": "amount_too_large", "param": "amount"},
    ),
    "neither source nor customer": (
        {"amount": "2000", "currency": "usd"},
        400,
        {"code": "parameter_missing"},
    ),
    "unknown token": (
        {"amount": "2000", "currency": "usd", "source": "tok_x"},
        400,
        {"code": "resource_missing", "param": "source", "message": "^No such token: 'tok_x'$"},
    ),
    "unknown customer": (
        {"amount": "2000", "currency": "usd", "customer": "cus_x"},
        400,
        {"code": "resource_missing", "param": "customer"},
    ),
    "customer without card": (
        {"amount": "2000", "currency": "usd", "customer": "CUSTOMER"},
        402,
        {"kind": "card_error", "code": "missing", "param": "card"},
    ),
}


@rows("2.6", REFUSED)
def test_a_charge_that_is_refused(raw: Caller, row: str) -> None:
    form, status, error = REFUSED[row]
    if form.get("customer") == "CUSTOMER":
        form = form | {"customer": raw.customer()["id"]}
    assert_refused(raw.post("/v1/charges", form), status, **error)
    assert ok(raw.get("/v1/charges"))["data"] == []


@pytest.mark.contract("2.6 capture of a captured charge")
def test_a_captured_charge_is_not_captured_again(raw: Caller) -> None:
    path = f"/v1/charges/{raw.charge()['id']}/capture"
    assert_refused(raw.post(path), code="charge_already_captured")


@pytest.mark.contract(
    "2.7 fields", "2.7 POST /v1/refunds", "2.7 GET /v1/refunds, /v1/refunds/{id}", "2.7 POST /v1/refunds/{id}"
)
def test_a_refund(raw: Caller) -> None:
    charge = raw.charge()
    for reason in ("duplicate", "fraudulent", "requested_by_customer", None):
        form = {
            "charge": charge["id"],
            "amount": 100,
            "metadata[k]": "v",
            **({"reason": reason} if reason else {}),
        }
        shown = ok(raw.post("/v1/refunds", form))
        _assert_shows(
            shown,
            {
                "id": ..., "object": "refund", "amount": 100, "balance_transaction": ...,
                "charge": charge["id"], "created": ..., "currency": "usd", "customer": None,
                "customer_account": None, "destination_details": {"card": ..., "type": "card"},
                "metadata": {"k": "v"}, "payment_intent": None, "payment_method": ..., "reason": reason,
                "receipt_number": None, "source_transfer_reversal": None, "status": "succeeded",
                "transfer_reversal": None,
            },
        )  # fmt: skip
        assert ok(raw.get(f"/v1/refunds/{shown['id']}")) == shown
        assert ok(raw.get("/v1/refunds?limit=1"))["data"] == [shown]
    changed = ok(raw.post(f"/v1/refunds/{shown['id']}", {"metadata[k]": "w"}))
    assert changed == shown | {"metadata": {"k": "w"}}
    assert_refused(
        raw.post(f"/v1/refunds/{shown['id']}", {"reason": "duplicate"}),
        code="parameter_unknown",
        param="reason",
    )


# -- balance transactions -----------------------------------------------------------------------------


@pytest.mark.contract(
    "2.8 GET /v1/balance_transactions/{id}",
    "2.8 field id, object, created",
    "2.8 field amount, fee, net",
    "2.8 field currency, exchange_rate",
    "2.8 field available_on, status",
    "2.8 field balance_type",
    "2.8 field description",
    "2.8 field fee_details",
    "2.8 field type",
    "2.8 field reporting_category",
    "2.8 field source",
    "2.8 charge captured",
    "2.8 available_on",
)
def test_a_balance_transaction(raw: Caller) -> None:
    charge = raw.charge(description="A hat")
    shown = ok(raw.get(f"/v1/balance_transactions/{charge['balance_transaction']}"))
    _assert_shows(
        shown,
        {
            "id": charge["balance_transaction"], "object": "balance_transaction", "amount": 2000,
            "available_on": (charge["created"] // DAY + 2) * DAY, "balance_type": "payments",
            "created": charge["created"], "currency": "usd", "description": "A hat", "exchange_rate": None,
            "fee": 88,
            "fee_details": [
                {
                    "amount": 88, "application": None, "currency": "usd",
                    "description": "Stripe processing fees", "type": "stripe_fee",
                }
            ],
            "net": 1912, "reporting_category": "charge", "source": charge["id"], "status": "pending",
            "type": "charge",
        },
    )  # fmt: skip
    source = ok(raw.get(f"/v1/balance_transactions/{shown['id']}?expand[]=source"))["source"]
    assert source == charge
    at_once = raw.charge("tok_bypassPending", **{"expand[]": "balance_transaction"})["balance_transaction"]
    assert (at_once["status"], at_once["available_on"]) == ("available", at_once["created"])


@pytest.mark.contract("2.8 refund", "2.8 dispute reversal")
def test_refunds_and_won_disputes_have_no_fee(raw: Caller) -> None:
    dispute = raw.dispute(description="A hat")
    ok(raw.post(f"/v1/disputes/{dispute['id']}", {"evidence[uncategorized_text]": "winning_evidence"}))
    refund = ok(raw.post("/v1/refunds", {"charge": dispute["charge"], "amount": 700}))
    back, reversal, withdrawal, _ = ok(raw.get("/v1/balance_transactions"))["data"]
    assert ok(raw.get(f"/v1/disputes/{dispute['id']}"))["balance_transactions"] == [withdrawal, reversal]
    for shown, amount, kind, category, source, description in (
        (back, -700, "refund", "refund", refund["id"], "REFUND FOR CHARGE (A hat)"),
        (reversal, 2000, "adjustment", "dispute_reversal", dispute["id"],
         f"Chargeback reversal for {dispute['charge']}"),
    ):  # fmt: skip
        assert (shown["amount"], shown["fee"], shown["net"], shown["fee_details"]) == (amount, 0, amount, [])
        assert (shown["type"], shown["reporting_category"]) == (kind, category)
        assert (shown["source"], shown["description"]) == (source, description)


# -- files --------------------------------------------------------------------------------------------

PURPOSES = [
    "account_requirement", "additional_verification", "business_icon", "business_logo", "customer_signature",
    "dispute_evidence", "identity_document", "issuing_regulatory_reporting", "pci_document",
    "platform_terms_of_service", "tax_document_user_upload", "terminal_android_apk",
    "terminal_reader_splashscreen", "terminal_wifi_certificate", "terminal_wifi_private_key",
]  # fmt: skip


@pytest.mark.contract("2.9 file", "2.9 GET /v1/files, /v1/files/{id}", "2.9 GET /v1/files/{id}/contents")
def test_a_file(raw: Caller) -> None:
    shown = ok(_upload(raw, "receipt.png"))
    _assert_shows(
        shown,
        {
            "id": ..., "object": "file", "created": ..., "expires_at": None, "filename": "receipt.png",
            "links": {
                "object": "list", "data": [], "has_more": False, "url": f"/v1/file_links?file={shown['id']}",
            },
            "purpose": "dispute_evidence", "size": len(PNG), "title": None, "type": "png", "url": ...,
        },
    )  # fmt: skip
    assert re.fullmatch(rf"https?://.+/v1/files/{shown['id']}/contents", shown["url"])
    assert ok(raw.get(f"/v1/files/{shown['id']}")) == shown
    assert raw.get(f"/v1/files/{shown['id']}/contents").content == PNG
    other = ok(_upload(raw, purpose="pci_document"))
    assert ok(raw.get("/v1/files?purpose=dispute_evidence"))["data"] == [shown]
    assert ok(raw.get("/v1/files?limit=1"))["data"] == [other]
    assert ok(raw.get(f"/v1/files?created[lt]={shown['created']}"))["data"] == []
    for method in ("POST", "DELETE"):
        assert_refused(raw.call(method, f"/v1/files/{shown['id']}"), 404, message="^Unrecognized request URL")
    assert raw.events() == []


@pytest.mark.contract("2.9 purposes", "2.9 POST /v1/files")
def test_a_file_has_each_purpose_and_any_name(raw: Caller) -> None:
    for purpose in PURPOSES:
        shown = ok(_upload(raw, f"a b/ü {purpose}", b"abc", purpose=purpose))
        assert (shown["purpose"], shown["size"]) == (purpose, 3)
    assert_refused(
        _upload(raw, purpose="finance_report_run"), param="purpose", message="^Invalid purpose: must be"
    )


@pytest.mark.contract("2.9 file link", "2.9 POST /v1/file_links, GET, GET/POST {id}")
def test_a_file_link(raw: Caller) -> None:
    file, other = ok(_upload(raw))["id"], ok(_upload(raw))["id"]
    later = int(time.time()) + 3600
    shown = ok(raw.post("/v1/file_links", {"file": file, "expires_at": later, "metadata[k]": "v"}))
    _assert_shows(
        shown,
        {
            "id": ..., "object": "file_link", "created": ..., "expired": False, "expires_at": later,
            "file": file, "livemode": False, "metadata": {"k": "v"}, "url": ...,
        },
    )  # fmt: skip
    path = f"/v1/file_links/{shown['id']}"
    assert ok(raw.get(path)) == shown
    assert httpx.get(shown["url"]).content == PNG
    assert ok(raw.post(path, {"expires_at": ""})) == shown | {"expires_at": None}
    changed = ok(raw.post(path, {"expires_at": later + 1, "metadata[k]": ""}))
    assert changed == shown | {"expires_at": later + 1, "metadata": {}}
    ended = ok(raw.post(path, {"expires_at": "now"}))
    assert (ended["expired"], ended["expires_at"] <= time.time()) == (True, True)
    assert httpx.get(shown["url"]).status_code == 404
    usable = ok(raw.post("/v1/file_links", {"file": other}))
    assert [each["id"] for each in ok(raw.get("/v1/file_links?expired=true"))["data"]] == [shown["id"]]
    assert [each["id"] for each in ok(raw.get("/v1/file_links?expired=false"))["data"]] == [usable["id"]]
    assert [each["id"] for each in ok(raw.get(f"/v1/file_links?file={other}"))["data"]] == [usable["id"]]
    assert ok(raw.get(f"/v1/file_links?created[lt]={shown['created']}"))["data"] == []
    assert_refused(raw.post("/v1/file_links", {}), code="parameter_missing", param="file")
