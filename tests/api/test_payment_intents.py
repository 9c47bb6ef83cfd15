"""Payment intents through the API (contract §2.12)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok

CARD = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa"}
PAID = CARD | {"confirm": "true"}
HELD = PAID | {"capture_method": "manual"}
UNEXPECTED_STATE = "payment_intent_unexpected_state"
CLI = {"description": "(created by Stripe CLI)", "payment_method_types[]": "card"}


def _create(raw: Caller, form: dict[str, Any] = PAID, **more: Any) -> Any:
    return ok(raw.post("/v1/payment_intents", form | more))


def _types(raw: Caller) -> list[str]:
    return [event["type"] for event in raw.events()]


@pytest.mark.contract("2.12 POST /v1/payment_intents", "2.12 events", "4.2 payment intent")
def test_an_intent_is_created_and_confirmed_at_once(client: stripe.StripeClient, raw: Caller) -> None:
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "description": "Hats",
            "metadata": {"order": "1"},
            "receipt_email": "a@example.com",
            "shipping": {"name": "Ada", "address": {"city": "Berlin"}, "carrier": "Mail"},
            "off_session": "one_off",
            "return_url": "https://example.com/",
            "transfer_group": "g",
            "expand": ["latest_charge.balance_transaction"],
        }
    )
    assert (intent.status, intent.amount_received, intent.next_action) == ("succeeded", 2000, None)
    assert intent.client_secret
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.payment_intent, charge.payment_method) == (intent.id, intent.payment_method)
    assert (charge.source, charge.description, charge.metadata["order"]) == (None, "Hats", "1")
    assert (charge.transfer_group, charge.shipping and charge.shipping["carrier"]) == ("g", "Mail")
    assert isinstance(charge.balance_transaction, stripe.BalanceTransaction)
    assert _types(raw) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    created, _, succeeded = (event["data"]["object"] for event in raw.events())
    assert (created["status"], created["latest_charge"]) == ("requires_confirmation", None)
    read = ok(raw.get(f"/v1/payment_intents/{intent.id}"))
    assert read["client_secret"] == intent.client_secret
    assert succeeded == read | {"client_secret": None}
    assert client.v1.payment_intents.list().data == [client.v1.payment_intents.retrieve(intent.id)]


@pytest.mark.contract(
    "2.12 POST /v1/payment_intents/{id}",
    "2.12 POST /v1/payment_intents/{id}/confirm",
    "2.12 requires_payment_method, requires_confirmation",
)
def test_an_intent_is_completed_step_by_step(raw: Caller) -> None:
    customer = raw.customer(source="tok_visa")
    intent = _create(raw, {"amount": 1000, "currency": "usd"})
    path = f"/v1/payment_intents/{intent['id']}"
    assert (intent["status"], intent["payment_method"]) == ("requires_payment_method", None)
    error = assert_refused(raw.post(f"{path}/confirm"), code=UNEXPECTED_STATE)
    assert error["payment_intent"] == intent | {"client_secret": None}
    form = {"customer": customer["id"], "payment_method": customer["default_source"], "amount": 1500}
    updated = ok(raw.post(path, form | {"currency": "eur", "metadata[a]": "1"}))
    assert (updated["status"], updated["amount"], updated["currency"]) == (
        "requires_confirmation",
        1500,
        "eur",
    )
    form = {"expand[]": "latest_charge", "expand[1]": "customer", "return_url": "https://example.com"}
    paid = ok(raw.post(f"{path}/confirm", form | {"receipt_email": "a@b.c"}))
    charge = paid["latest_charge"]
    assert (paid["status"], paid["customer"]["id"], charge["amount"]) == ("succeeded", customer["id"], 1500)
    assert (charge["payment_method"], charge["receipt_email"]) == (customer["default_source"], "a@b.c")
    assert ok(raw.post(path, {"description": "d", "metadata[a]": ""}))["metadata"] == {}
    assert_refused(raw.post(path, {"amount": 5000}), code=UNEXPECTED_STATE, param="amount")
    assert_refused(raw.post(path, {"payment_method": "pm_card_visa"}), code=UNEXPECTED_STATE,
                   param="payment_method")  # fmt: skip
    assert_refused(raw.post(f"{path}/confirm"), code=UNEXPECTED_STATE, message="already succeeded")
    assert _types(raw)[1:] == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.contract("2.12 POST /v1/payment_intents/{id}/capture", "2.12 requires_capture")
@pytest.mark.parametrize("by_charge", [False, True])
def test_a_manual_capture_by_either_route(raw: Caller, by_charge: bool) -> None:
    held = _create(raw, HELD)
    assert (held["status"], held["amount_capturable"], held["amount_received"]) == (
        "requires_capture",
        2000,
        0,
    )
    path = f"/v1/payment_intents/{held['id']}"
    charge_path = f"/v1/charges/{held['latest_charge']}"
    for amount in (2001, 0):
        answer = raw.post(f"{path}/capture", {"amount_to_capture": amount})
        assert_refused(answer, param="amount_to_capture")
    if by_charge:
        answer = raw.post(f"{charge_path}/capture", {"amount": 1500, "expand[]": "payment_intent"})
        assert ok(answer)["payment_intent"]["status"] == "succeeded"
    else:
        ok(raw.post(f"{path}/capture", {"amount_to_capture": 1500, "metadata[a]": "1"}))
    intent, charge = ok(raw.get(path)), ok(raw.get(charge_path))
    assert (intent["status"], intent["amount_capturable"], intent["amount_received"]) == (
        "succeeded",
        0,
        1500,
    )
    assert (charge["captured"], charge["amount_captured"]) == (True, 1500)
    assert _types(raw) == [
        "payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated",
        "charge.captured", "payment_intent.succeeded",
    ]  # fmt: skip
    error = assert_refused(raw.post(f"{path}/capture"), code=UNEXPECTED_STATE)
    assert error["payment_intent"]["id"] == held["id"]
    assert_refused(raw.post(f"{charge_path}/capture"), code="charge_already_captured")
    assert_refused(raw.post(f"{path}/cancel"), code=UNEXPECTED_STATE)


@pytest.mark.contract("2.12 POST /v1/payment_intents/{id}/cancel", "2.12 succeeded, canceled")
def test_a_cancellation_releases_the_authorization(raw: Caller) -> None:
    held = _create(raw, HELD)
    path = f"/v1/payment_intents/{held['id']}"
    assert_refused(raw.post("/v1/refunds", {"charge": held["latest_charge"]}), code="charge_not_refundable")
    assert_refused(raw.post("/v1/refunds", {"payment_intent": held["id"]}), param="payment_intent")
    assert_refused(raw.post(path, {"amount": 100}), code=UNEXPECTED_STATE, param="amount")
    canceled = ok(raw.post(f"{path}/cancel", {"cancellation_reason": "duplicate"}))
    assert (canceled["status"], canceled["amount_capturable"]) == ("canceled", 0)
    assert canceled["cancellation_reason"] == "duplicate"
    assert canceled["canceled_at"] - canceled["created"] in (0, 1)
    charge = ok(raw.get(f"/v1/charges/{held['latest_charge']}"))
    assert (charge["captured"], charge["refunded"], charge["amount_refunded"]) == (False, False, 0)
    assert_refused(raw.post(f"/v1/charges/{charge['id']}/capture"), code="charge_expired_for_capture")
    for verb in ("capture", "confirm", "cancel"):
        assert_refused(raw.post(f"{path}/{verb}"), code=UNEXPECTED_STATE)
    assert _types(raw)[-1] == "payment_intent.canceled"
    assert ok(raw.get("/v1/balance_transactions"))["data"] == []
    waiting = _create(raw, {"amount": 100, "currency": "usd"})["id"]
    assert ok(raw.post(f"/v1/payment_intents/{waiting}/cancel"))["cancellation_reason"] is None
    answer = raw.post(f"/v1/payment_intents/{waiting}/cancel", {"cancellation_reason": "expired"})
    assert_refused(answer, param="cancellation_reason")


@pytest.mark.contract("2.12 declined card")
def test_a_declined_card_leaves_the_intent_and_a_failed_charge(
    client: stripe.StripeClient, raw: Caller
) -> None:
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.payment_intents.create(
            {
                "amount": 2000,
                "currency": "usd",
                "confirm": True,
                "payment_method": "pm_card_visa_chargeDeclined",
                "allowed_payment_method_types": ["card"],
            }
        )
    assert refusal.value.http_status == 402
    error: Any = refusal.value.json_body["error"]  # type: ignore[index]  # the SDK has no type for it
    intent = error["payment_intent"]
    assert (error["code"], error["decline_code"]) == ("card_declined", "generic_decline")
    assert (intent["status"], intent["payment_method"]) == ("requires_payment_method", None)
    assert intent["latest_charge"] == intent["last_payment_error"]["charge"] == error["charge"]
    assert intent["last_payment_error"]["message"] == error["message"]
    charge = ok(raw.get(f"/v1/charges/{error['charge']}"))
    assert (charge["status"], charge["payment_intent"]) == ("failed", intent["id"])
    assert _types(raw) == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    path = f"/v1/payment_intents/{intent['id']}"
    assert_refused(raw.post("/v1/refunds", {"payment_intent": intent["id"]}), param="payment_intent",
                   message="does not have a successful charge")  # fmt: skip
    paid = ok(raw.post(f"{path}/confirm", {"payment_method": "pm_card_visa"}))
    assert (paid["status"], paid["last_payment_error"]) == ("succeeded", None)
    listed = ok(raw.get(f"/v1/charges?payment_intent={intent['id']}"))["data"]
    assert [each["status"] for each in listed] == ["succeeded", "failed"]
    refund = ok(raw.post("/v1/refunds", {"payment_intent": intent["id"], "expand[]": "payment_intent"}))
    assert (refund["charge"], refund["payment_intent"]["id"]) == (paid["latest_charge"], intent["id"])
    assert refund["payment_intent"]["client_secret"] is None
    assert ok(raw.get(f"/v1/refunds?payment_intent={intent['id']}"))["data"][0]["id"] == refund["id"]


@pytest.mark.parametrize("manual", [False, True])
def test_a_test_card_opens_its_dispute(raw: Caller, manual: bool) -> None:
    form = (HELD if manual else PAID) | CLI | {"payment_method": "pm_card_createDispute"}
    intent = _create(raw, form)
    query = f"/v1/disputes?payment_intent={intent['id']}"
    if manual:
        assert ok(raw.get(query))["data"] == []
        ok(raw.post(f"/v1/payment_intents/{intent['id']}/capture"))
    (dispute,) = ok(raw.get(f"{query}&expand[]=data.payment_intent"))["data"]
    assert (dispute["charge"], dispute["payment_intent"]["id"]) == (intent["latest_charge"], intent["id"])
    assert _types(raw)[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert raw.events()[-1]["request"] == {"id": None, "idempotency_key": None}


REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"amount": 49}, {"code": "amount_too_small", "param": "amount"}),
    ({"currency": "xxx"}, {"param": "currency"}),
    ({"payment_method": "pm_card_none"}, {"code": "resource_missing", "param": "payment_method"}),
    ({"payment_method": "tok_visa"}, {"code": "resource_missing", "param": "payment_method"}),
    ({"payment_method": "pm_card_threeDSecure2Required"},
     {"param": "payment_method", "message": "3-D Secure"}),
    ({"customer": "cus_x"}, {"code": "resource_missing", "param": "customer"}),
    ({"payment_method_types[0]": "card", "payment_method_types[1]": "link"},
     {"param": "payment_method_types[1]"}),
    ({"allowed_payment_method_types[]": "ideal"}, {"param": "allowed_payment_method_types[0]"}),
    ({"automatic_payment_methods[enabled]": "true", "payment_method_types[]": "card"},
     {"param": "payment_method_types"}),
    ({"automatic_payment_methods[allow_redirects]": "never"},
     {"code": "parameter_missing", "param": "automatic_payment_methods[enabled]"}),
    ({"capture_method": "later"}, {"param": "capture_method"}),
    ({"off_session": "maybe"}, {"param": "off_session"}),
    ({"mandate": "m"}, {"param": "mandate"}),
    ({"mandate_data[customer_acceptance][type]": "online"}, {"param": "mandate_data"}),
    ({"setup_future_usage": "off_session"}, {"param": "setup_future_usage"}),
    ({"payment_method_options[card][request_three_d_secure]": "any"}, {"param": "payment_method_options"}),
    ({"transfer_data[destination]": "acct_1"}, {"param": "transfer_data"}),
    ({"shipping[name]": "Ada"}, {"code": "parameter_missing", "param": "shipping[address]"}),
    ({"status": "succeeded"}, {"code": "parameter_unknown", "param": "status"}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "expected"), REFUSED, ids=lambda value: next(iter(value)))
def test_wrong_parameters_change_nothing(raw: Caller, form: dict[str, Any], expected: dict[str, Any]) -> None:
    assert_refused(raw.post("/v1/payment_intents", PAID | form), **expected)
    assert ok(raw.get("/v1/payment_intents"))["data"] == []
    assert raw.events() == []


def test_a_confirmation_without_payment_method_creates_nothing(raw: Caller) -> None:
    answer = raw.post("/v1/payment_intents", {"amount": 100, "currency": "usd", "confirm": "true"})
    error = assert_refused(answer, code=UNEXPECTED_STATE)
    assert "payment_intent" not in error
    assert raw.events() == []


def test_a_saved_card_is_charged_for_its_owner_only(raw: Caller) -> None:
    owner, other = raw.customer(source="tok_visa"), raw.customer(source="tok_visa")
    form = {"amount": 100, "currency": "usd", "payment_method": owner["default_source"]}
    missing: dict[str, Any] = {"code": "resource_missing", "param": "payment_method"}
    assert_refused(raw.post("/v1/payment_intents", form), **missing)
    assert_refused(raw.post("/v1/payment_intents", form | {"customer": other["id"]}), **missing)
    intent = _create(raw, form, customer=owner["id"])
    path = f"/v1/payment_intents/{intent['id']}"
    assert_refused(raw.post(path, {"customer": other["id"]}), param="customer")
    ok(raw.delete(f"/v1/customers/{owner['id']}"))
    assert_refused(raw.post(f"{path}/confirm"), code="resource_missing", param="customer")
    assert [each["id"] for each in ok(raw.get(f"/v1/payment_intents?customer={owner['id']}"))["data"]] == [
        intent["id"]
    ]


def test_a_customer_given_to_the_charge_is_the_intents_too(raw: Caller) -> None:
    intent, customer = _create(raw), raw.customer()["id"]
    ok(raw.post(f"/v1/charges/{intent['latest_charge']}", {"customer": customer}))
    assert ok(raw.get(f"/v1/payment_intents/{intent['id']}"))["customer"] == customer
    assert ok(raw.get(f"/v1/payment_intents?customer={customer}"))["data"][0]["id"] == intent["id"]


@pytest.mark.parametrize(("form", "verb"), [(CARD, "confirm"), (HELD, "capture"), (HELD, "cancel")])
def test_20_concurrent_commands_take_effect_once(raw: Caller, form: dict[str, Any], verb: str) -> None:
    path = f"/v1/payment_intents/{_create(raw, form)['id']}"
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: raw.post(f"{path}/{verb}"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    assert len(ok(raw.get("/v1/charges"))["data"]) == 1


def test_a_capture_and_a_cancellation_at_once_leave_intent_and_charge_in_agreement(raw: Caller) -> None:
    for _ in range(5):
        held = _create(raw, HELD)
        path = f"/v1/payment_intents/{held['id']}"
        charge_path = f"/v1/charges/{held['latest_charge']}"
        paths = [f"{path}/cancel", f"{path}/capture", f"{charge_path}/capture"] * 3
        with ThreadPoolExecutor(9) as pool:
            answers = list(pool.map(raw.post, paths))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 8
        intent, charge = ok(raw.get(path)), ok(raw.get(charge_path))
        assert (intent["status"] == "succeeded") is charge["captured"]
        assert intent["amount_received"] == charge["amount_captured"]


@pytest.mark.contract("2.12 client_secret")
def test_the_client_secret_is_in_the_answers_about_the_intent_and_nowhere_else(
    raw: Caller, service: Service
) -> None:
    first = raw.post("/v1/payment_intents", PAID, idempotency_key="k")
    again = raw.post("/v1/payment_intents", PAID, idempotency_key="k")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    intent = ok(first)
    path, secret = f"/v1/payment_intents/{intent['id']}", intent["client_secret"]
    assert ok(raw.get(path))["client_secret"] == secret
    assert ok(raw.get("/v1/payment_intents"))["data"][0]["client_secret"] == secret
    assert ok(raw.post(path, {"description": "d"}))["client_secret"] == secret
    charge_path = f"/v1/charges/{intent['latest_charge']}"
    nested = ok(raw.get(f"{charge_path}?expand[]=payment_intent.latest_charge"))["payment_intent"]
    assert (nested["client_secret"], nested["latest_charge"]["id"]) == (None, intent["latest_charge"])
    assert secret not in raw.get("/v1/events").text
    assert_refused(raw.get(f"{path}?client_secret={secret}"), param="client_secret")
    assert secret not in service.log


def test_the_payment_method_of_an_intent_can_be_read_and_expanded(raw: Caller) -> None:
    intent = _create(raw, CARD | {"expand[]": "payment_method"})
    method = intent["payment_method"]
    assert (method["object"], method["card"]["last4"], method["customer"]) == ("payment_method", "4242", None)
    assert ok(raw.get(f"/v1/payment_methods/{method['id']}")) == method
    form = {"payment_method": "pm_card_chargeDeclined"}
    error = raw.post(f"/v1/payment_intents/{intent['id']}/confirm", form).json()["error"]
    declined = error["payment_intent"]["last_payment_error"]["payment_method"]
    assert ok(raw.get(f"/v1/payment_methods/{declined['id']}")) == declined
    paid = _create(raw, PAID | {"expand[]": "payment_method", "expand[1]": "latest_charge.payment_method"})
    assert paid["latest_charge"]["payment_method"] == paid["payment_method"]


def test_a_declined_confirmation_is_replayed(raw: Caller) -> None:
    form = PAID | {"payment_method": "pm_card_chargeDeclined"}
    first, again = (raw.post("/v1/payment_intents", form, idempotency_key="k") for _ in range(2))
    assert (first.status_code, again.content) == (402, first.content)
    assert len(ok(raw.get("/v1/payment_intents"))["data"]) == 1


@pytest.mark.contract("2.12 GET /v1/payment_intents, /v1/payment_intents/{id}")
def test_intents_are_listed_newest_first_with_cursors(client: stripe.StripeClient) -> None:
    ids = [
        client.v1.payment_intents.create({"amount": 100 + number, "currency": "usd"}).id
        for number in range(5)
    ]
    listed = client.v1.payment_intents.list({"limit": 2})
    assert [each.id for each in listed.auto_paging_iter()] == ids[::-1]
    before = client.v1.payment_intents.list({"ending_before": ids[2], "limit": 10})
    assert [each.id for each in before.data] == [ids[4], ids[3]]
    created = listed.data[0].created
    assert client.v1.payment_intents.list({"created": {"gt": created + 5}}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.list({"starting_after": "pi_x"})


def test_it_needs_the_permissions_of_payment_intents(
    service: Service, registrar: Registrar, account: Account
) -> None:
    intent = create_client(service, account.secret).v1.payment_intents.create(
        {"amount": 100, "currency": "usd"}
    )

    def with_scopes(*scopes: str) -> stripe.StripeClient:
        return create_client(service, registrar.key(account.id, "rk", scopes=scopes)[1])

    reader = with_scopes("rak_payment_intent_read")
    assert reader.v1.payment_intents.retrieve(intent.id).id == intent.id
    for refused in (
        lambda: reader.v1.payment_intents.cancel(intent.id),
        lambda: reader.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]}),
        lambda: with_scopes("rak_charge_read").v1.charges.list({"expand": ["data.payment_intent"]}),
    ):
        with pytest.raises(stripe.PermissionError):
            refused()
    assert with_scopes("rak_payment_intent_write").v1.payment_intents.cancel(intent.id).status == "canceled"


TRIGGERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "charge.succeeded": [("", {"amount": 100, "payment_method": "pm_card_visa"})],
    "charge.captured": [
        ("", {"amount": 2000, "payment_method": "pm_card_visa", "capture_method": "manual"}),
        ("/capture", {}),
    ],
    "charge.dispute.created": [("", {"amount": 2000, "payment_method": "pm_card_createDisputeInquiry"})],
    "balance.available": [("", {"amount": 2000, "payment_method": "pm_card_bypassPending",
                                "shipping[name]": "Jenny", "shipping[address][line1]": "510 Townsend"})],
    "payment_intent.created": [("", {"amount": 2000, "confirm": None})],
    "payment_intent.canceled": [
        ("", {"amount": 2000, "confirm": None}),
        ("/cancel", {"cancellation_reason": "requested_by_customer"}),
    ],
    "payment_intent.amount_capturable_updated": [
        ("", {"amount": 2000, "payment_method": "pm_card_visa", "capture_method": "manual"})
    ],
}  # fmt: skip
"""What Stripe's CLI sends for these triggers."""


@pytest.mark.parametrize("trigger", sorted(TRIGGERS))
def test_the_calls_of_the_triggers_of_stripes_cli(raw: Caller, trigger: str) -> None:
    path = "/v1/payment_intents"
    for verb, parameters in TRIGGERS[trigger]:
        form = CLI | {"currency": "usd", "confirm": "true"} | parameters if not verb else parameters
        answer = raw.post(path + verb, {name: value for name, value in form.items() if value is not None})
        path = f"/v1/payment_intents/{ok(answer)['id']}"
    if trigger != "balance.available":
        assert trigger in _types(raw)
