"""Customers, charges and disputes from other systems, and the card network's facts about disputes."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.internal.conftest import InternalClient

CHARGE = {
    "amount": 5000,
    "currency": "usd",
    "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242"}},
}


def create_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def ingest_charge(operator: InternalClient, **given: Any) -> Any:
    return ok(operator.post("/charges", {**CHARGE, **given}))


def ingest_dispute(operator: InternalClient, **given: Any) -> Any:
    named = {"charge": ingest_charge(operator)["id"]} if "charge" not in given else {}
    return ok(
        operator.post("/disputes", {"kind": "chargeback", "reference": create_id("net"), **named, **given})
    )


def list_event_types(raw: Caller, object_id: str) -> list[str]:
    return [event["type"] for event in raw.events() if event["data"]["object"]["id"] == object_id]


def test_an_ingested_customer_is_like_any_other(operator: InternalClient, raw: Caller) -> None:
    given = {
        "id": create_id("cus"),
        "name": "Ada",
        "email": "ada@example.com",
        "address": {"city": "Berlin", "line2": None},
        "metadata": {"tier": "gold"},
        "source": "tok_visa",
    }
    made = ok(operator.post("/customers", given))
    assert made == ok(raw.get(f"/v1/customers/{given['id']}"))
    assert (made["address"]["city"], made["metadata"]) == ("Berlin", {"tier": "gold"})
    assert ok(raw.get("/v1/customers?email=ada@example.com"))["data"] == [made]
    assert list_event_types(raw, made["id"]) == ["customer.created"]


def test_an_ingested_customer_has_the_given_creation_time(operator: InternalClient, raw: Caller) -> None:
    given = {"id": create_id("cus"), "created": 1_700_000_000}
    made = ok(operator.post("/customers", given))
    assert made["created"] == 1_700_000_000
    younger = ok(operator.post("/customers", {}))
    assert abs(younger["created"] - time.time()) < 60
    assert ok(raw.get("/v1/customers"))["data"] == [younger, made]
    assert ok(raw.get("/v1/customers?created[lt]=1700000001"))["data"] == [made]
    assert ok(operator.post("/customers", {"id": given["id"]})) == made
    (event,) = [event for event in raw.events() if event["data"]["object"]["id"] == made["id"]]
    assert event["data"]["object"] == made
    assert abs(event["created"] - time.time()) < 60
    updated = ok(raw.post(f"/v1/customers/{made['id']}", "name=Ada"))
    assert updated["created"] == made["created"]


def test_a_creation_time_in_the_future_is_refused(operator: InternalClient) -> None:
    later = int(time.time()) + 1000
    assert_refused(operator.post("/customers", {"created": later}), param="created", message="future")
    assert_refused(operator.post("/charges", {**CHARGE, "created": later}), param="created", message="future")


def test_the_same_id_again_changes_nothing(operator: InternalClient, raw: Caller) -> None:
    given = {"id": create_id("cus"), "name": "Ada"}
    first = ok(operator.post("/customers", given))
    ok(raw.post(f"/v1/customers/{given['id']}", {"name": "Grace"}))
    again = ok(operator.post("/customers", given))
    assert again == first | {"name": "Grace"}
    assert list_event_types(raw, given["id"]) == ["customer.created", "customer.updated"]
    paid = ingest_charge(operator, id=create_id("ch"))
    assert ingest_charge(operator, id=paid["id"]) == paid


def test_an_id_of_another_object_account_or_mode_is_refused(
    operator: InternalClient, http: httpx.Client, registrar: Registrar, account: Account
) -> None:
    taken = ingest_charge(operator)["id"]
    answer = operator.post("/customers", {"id": taken})
    assert_refused(answer, 409, code="resource_already_exists", param="id")
    for stranger, livemode in ((registrar.account().id, False), (account.id, True)):
        other = InternalClient(http, registrar.key(stranger, "rk", livemode=livemode, scopes=["catalog"])[1])
        answer = other.post("/charges", {**CHARGE, "id": taken})
        assert_refused(answer, 409, code="resource_already_exists", param="id")


def test_an_ingested_charge_shows_every_given_field(operator: InternalClient, raw: Caller) -> None:
    customer = ok(operator.post("/customers", {}))
    given = {
        "id": create_id("ch"),
        "created": 1_700_000_000,
        "customer": customer["id"],
        "payment_intent": create_id("pi"),
        "billing_details": {"name": "Ada", "address": {"city": "Berlin"}},
        "metadata": {"order": "17"},
    }
    made = ingest_charge(operator, **given)
    assert made == ok(raw.get(f"/v1/charges/{given['id']}"))
    assert {name: made[name] for name in ("created", "customer", "payment_intent", "metadata")} == {
        name: given[name] for name in ("created", "customer", "payment_intent", "metadata")
    }
    assert made["billing_details"]["address"]["city"] == "Berlin"
    assert made["payment_method_details"] == CHARGE["payment_method_details"]
    assert made["balance_transaction"].startswith("txn_")
    failed = ingest_charge(operator, status="failed", failure_code="expired_card")
    assert (failed["status"], failed["failure_code"]) == ("failed", "expired_card")


def test_a_charge_of_an_unknown_customer_is_refused(operator: InternalClient) -> None:
    answer = operator.post("/charges", {**CHARGE, "customer": "cus_none"})
    assert_refused(answer, code="resource_missing", param="customer", message="No such customer: 'cus_none'")


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/customers", {"nam": "Ada"}, "nam", "parameter_unknown"),
        ("/customers", {"address": {"town": "Berlin"}}, "address[town]", "parameter_unknown"),
        ("/customers", {"balance": "5"}, "balance", None),
        ("/customers", {"email": "a\x00b"}, "email", None),
        ("/customers", {"id": "a b"}, "id", None),
        ("/charges", {"currency": "usd"}, "amount", "parameter_missing"),
        ("/charges", {**CHARGE, "payment_method_details": {"type": "card", "card": "visa"}},
         "payment_method_details", None),
        ("/charges", {**CHARGE, "amount": 0}, "amount", None),
        ("/charges", {**CHARGE, "status": "failed", "failure_code": "Ada's card"}, "failure_code", None),
        ("/disputes", {"charge": "ch_1", "kind": "quarrel"}, "kind", None),
        ("/disputes/du_1/facts", {"fact": "drawn"}, "fact", None),
    ],
)  # fmt: skip
def test_undeclared_fields_are_refused_by_name(
    operator: InternalClient, path: str, body: Any, param: str, code: str | None
) -> None:
    assert_refused(operator.post(path, body), param=param, code=code)


@pytest.mark.parametrize("body", [b"{", b'{"name": "Ada"', b"{\xff}", b"\x00"])
def test_a_body_that_is_not_json_is_refused(operator: InternalClient, body: bytes) -> None:
    headers = {"authorization": f"Bearer {operator.key}"}
    typed = headers | {"content-type": "application/json"}
    assert_refused(
        operator.http.post("/internal/v1/customers", content=body, headers=typed),
        message="^The request body is not valid UTF-8 JSON",
    )
    assert_refused(operator.http.post("/internal/v1/customers", content=body, headers=headers), param="body")


@pytest.mark.parametrize(
    ("path", "scope"),
    [("/customers", "catalog"), ("/charges", "catalog"), ("/disputes", "network"),
     ("/disputes/du_1/facts", "network")],
)  # fmt: skip
def test_each_call_needs_its_scope(
    http: httpx.Client, raw: Caller, account: Account, registrar: Registrar, path: str, scope: str
) -> None:
    others = [name for name in ("catalog", "network", "publish") if name != scope]
    for key in (raw.key, registrar.key(account.id, "rk", scopes=others)[1]):
        assert key is not None
        answer = InternalClient(http, key).post(path, {})
        assert_refused(answer, 403, code="more_permissions_required", message=f"scope '{scope}'")
    assert http.post(f"/internal/v1{path}", json={}).status_code == 401


def test_a_dispute_opened_by_the_network_takes_the_money_and_names_no_request(
    operator: InternalClient, raw: Caller
) -> None:
    paid = ingest_charge(operator)
    opened = ok(
        operator.post(
            "/disputes",
            {
                "id": create_id("du"),
                "charge": paid["id"],
                "kind": "chargeback",
                "reason": "product_not_received",
                "network_reason_code": "13.1",
                "amount": 1200,
                "due_by": 4_000_000_000,
                "reference": "net-1",
            },
        )
    )
    assert opened == ok(raw.get(f"/v1/disputes/{opened['id']}"))
    assert (opened["status"], opened["amount"], opened["reason"]) == (
        "needs_response",
        1200,
        "product_not_received",
    )
    assert opened["evidence_details"]["due_by"] == 4_000_000_000
    assert [txn["amount"] for txn in opened["balance_transactions"]] == [-1200]
    events = [event for event in raw.events() if event["data"]["object"]["id"] == opened["id"]]
    assert [event["type"] for event in events] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
    ]
    assert all(event["request"] == {"id": None, "idempotency_key": None} for event in events)


def test_concurrent_reports_with_one_reference_open_one_dispute(
    operator: InternalClient, raw: Caller
) -> None:
    paid = ingest_charge(operator)
    body = {"charge": paid["id"], "kind": "chargeback", "reference": create_id("net")}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ok(operator.post("/disputes", body)), range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert len(ok(raw.get(f"/v1/disputes?charge={paid['id']}"))["data"]) == 1


def test_at_most_the_disputable_rest_of_a_paid_charge_is_disputed(operator: InternalClient) -> None:
    paid = ingest_charge(operator)
    ingest_dispute(operator, charge=paid["id"], amount=4000)
    more = {"charge": paid["id"], "kind": "inquiry", "amount": 1001}
    assert_refused(operator.post("/disputes", more), param="amount", message="Only .10.00")
    authorized = ingest_charge(operator, captured=False)
    answer = operator.post("/disputes", {"charge": authorized["id"], "kind": "chargeback"})
    assert_refused(answer, 409, code="dispute_state", param="charge")
    missing = operator.post("/disputes", {"charge": "ch_none", "kind": "chargeback"})
    assert_refused(missing, code="resource_missing", param="charge")


@pytest.mark.parametrize(
    ("kind", "facts", "status", "amounts"),
    [
        ("chargeback", ["won"], "won", [-5000, 5000]),
        ("chargeback", ["lost"], "lost", [-5000]),
        ("inquiry", ["escalated", "lost"], "lost", [-5000]),
        ("inquiry", ["inquiry_closed"], "warning_closed", []),
        ("chargeback", ["lost", "appeal_opened"], "appeal_needs_response", [-5000]),
    ],
)
def test_facts_change_the_status_of_a_dispute_as_the_contract_says(
    operator: InternalClient, raw: Caller, kind: str, facts: list[str], status: str, amounts: list[int]
) -> None:
    opened = ingest_dispute(operator, kind=kind)
    for fact in facts:
        told = ok(
            operator.post(f"/disputes/{opened['id']}/facts", {"fact": fact, "reference": create_id("net")})
        )
    assert told == ok(raw.get(f"/v1/disputes/{opened['id']}"))
    assert told["status"] == status
    assert [txn["amount"] for txn in told["balance_transactions"]] == amounts
    last = [event for event in raw.events() if event["data"]["object"]["id"] == opened["id"]][-1]
    assert last["request"] == {"id": None, "idempotency_key": None}


def test_a_fact_reported_twice_moves_money_once_even_concurrently(
    operator: InternalClient, raw: Caller
) -> None:
    opened = ingest_dispute(operator)
    body = {"fact": "won", "reference": create_id("net")}
    path = f"/disputes/{opened['id']}/facts"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ok(operator.post(path, body)), range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]["balance_transactions"]) == 2
    assert list_event_types(raw, opened["id"]).count("charge.dispute.funds_reinstated") == 1
    other = operator.post(path, body | {"fact": "lost"})
    assert_refused(other, 409, code="resource_already_exists", param="fact", message=body["reference"])


def test_a_fact_that_the_status_does_not_allow_is_refused(operator: InternalClient, raw: Caller) -> None:
    opened = ingest_dispute(operator)
    path = f"/disputes/{opened['id']}/facts"
    for fact in ("escalated", "inquiry_closed", "appeal_opened", "prevented"):
        assert_refused(
            operator.post(path, {"fact": fact, "reference": create_id("net")}), 409, code="dispute_state"
        )
    assert ok(raw.get(f"/v1/disputes/{opened['id']}")) == opened
    assert_refused(operator.post(path, {"fact": "won", "due_by": 4_000_000_000}), param="due_by")
    answer = operator.post("/disputes/du_none/facts", {"fact": "won"})
    assert_refused(answer, 404, code="resource_missing", param="dispute")


def test_an_idempotency_key_replays_the_answer_and_refuses_another_body(
    operator: InternalClient, raw: Caller
) -> None:
    key = create_id("key")
    first = operator.post("/customers", {"name": "Ada"}, idempotency_key=key)
    again = operator.post("/customers", {"name": "Ada"}, idempotency_key=key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"]
    other = operator.post("/customers", {"name": "Grace"}, idempotency_key=key)
    assert_refused(other, kind="idempotency_error", message="Try using a key other than")
    (event,) = [event for event in raw.events() if event["data"]["object"]["id"] == first.json()["id"]]
    assert event["request"] == {"id": first.headers["request-id"], "idempotency_key": key}


def test_a_platform_ingests_for_its_connected_accounts(
    http: httpx.Client, operator: InternalClient, account: Account, registrar: Registrar
) -> None:
    connected, stranger = registrar.account(platform=account.id), registrar.account()
    made = ok(operator.post("/customers", {"name": "Ada"}, stripe_account=connected.id))
    assert ok(Caller(http, connected.secret).get(f"/v1/customers/{made['id']}")) == made
    answer = operator.post("/customers", {"name": "Ada"}, stripe_account=stranger.id)
    assert_refused(answer, 403, code="account_invalid")


def test_stripe_context_means_the_same_as_stripe_account(
    http: httpx.Client, operator: InternalClient, account: Account, registrar: Registrar
) -> None:
    connected, stranger = registrar.account(platform=account.id), registrar.account()
    made = ok(operator.post("/customers", {"name": "Ada"}, stripe_context=connected.id))
    assert ok(Caller(http, connected.secret).get(f"/v1/customers/{made['id']}")) == made
    answer = operator.post("/customers", {"name": "Ada"}, stripe_context=stranger.id)
    assert_refused(answer, 403, code="account_invalid")
    both = {"stripe_account": connected.id, "stripe_context": connected.id}
    assert_refused(operator.post("/customers", {"name": "Ada"}, **both), message="not both")


def test_the_routes_are_described_with_examples(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    schema = document["components"]["schemas"]
    for name in ("CustomerBody", "ChargeBody", "DisputeBody", "FactBody"):
        assert schema[name]["examples"]
        assert schema[name]["additionalProperties"] is False
    assert set(document["paths"]) >= {
        f"/internal/v1/{path}" for path in ("customers", "charges", "disputes", "disputes/{id}/facts")
    }


def test_an_ingested_id_shows_no_object_of_another_account(
    operator: InternalClient, raw: Caller, http: httpx.Client, registrar: Registrar
) -> None:
    stranger = InternalClient(http, registrar.key(registrar.account().id, "rk", scopes=["catalog"])[1])
    theirs = ok(stranger.post("/customers", {"id": create_id("cus"), "name": "Not yours"}))
    own = ingest_charge(operator, payment_intent=theirs["id"])
    shown = ok(raw.get(f"/v1/charges/{own['id']}?expand[]=payment_intent"))
    assert shown["payment_intent"] == theirs["id"]
