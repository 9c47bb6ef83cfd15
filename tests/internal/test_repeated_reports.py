"""The same id or reference again: with the same content the same answer, with other content a refusal that
names the field; and ids that no caller may choose."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.api.service import Caller, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.internal.test_catalogue import CHARGE, create_id, ingest_charge, ingest_dispute, list_event_types
from tests.internal.test_import import import_lines

CUSTOMER = {"name": "Ada", "email": "ada@example.com", "metadata": {"tier": "gold"}, "source": "tok_visa"}
CONFLICT = "resource_already_exists"


def assert_conflict(answer: Any, field: str) -> None:
    assert_refused(answer, 409, code=CONFLICT, param=field)


@pytest.mark.contract("9 reference or id with other content")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Grace"),
        ("email", None),
        ("metadata", {"tier": "gold", "more": "1"}),
        ("source", "tok_mastercard"),
        ("source", None),
        ("address", {"city": "Berlin"}),
        ("balance", 5),
        ("created", 1_600_000_000),
    ],
)
def test_a_customer_with_other_content_is_refused(
    operator: InternalClient, raw: Caller, field: str, value: Any
) -> None:
    body = CUSTOMER | {"id": create_id("cus")}
    made = ok(operator.post("/customers", body))
    ok(raw.post(f"/v1/customers/{made['id']}", {"description": "Changed since, which does not matter."}))
    answer = operator.post("/customers", body | {field: value})
    assert_conflict(answer, field)
    assert "ada@example.com" not in answer.text
    assert ok(operator.post("/customers", body | {"balance": 0}))["id"] == made["id"]
    assert list_event_types(raw, made["id"]) == ["customer.created", "customer.updated"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 1),
        ("currency", "eur"),
        ("captured", False),
        ("status", "failed"),
        ("description", "Hats"),
        ("payment_intent", "pi_1"),
        ("payment_method_details", {"type": "klarna"}),
        ("outcome", {"type": "authorized"}),
        ("created", 1_600_000_000),
    ],
)
def test_a_charge_with_other_content_is_refused(operator: InternalClient, field: str, value: Any) -> None:
    made = ingest_charge(operator, id=create_id("ch"))
    assert_conflict(operator.post("/charges", CHARGE | {"id": made["id"], field: value}), field)
    same = CHARGE | {"id": made["id"], "captured": True, "status": "succeeded", "created": made["created"]}
    assert ok(operator.post("/charges", same | {"currency": "USD"})) == made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 4000),
        ("kind", "inquiry"),
        ("reason", "fraudulent"),
        ("network_reason_code", "10.4"),
        ("due_by", 4_000_000_001),
        ("created", 1_600_000_000),
        ("id", "du_other"),
    ],
)
def test_a_dispute_with_other_content_is_refused(
    operator: InternalClient, raw: Caller, field: str, value: Any
) -> None:
    body: dict[str, Any] = {
        "id": create_id("du"), "charge": ingest_charge(operator)["id"], "kind": "chargeback",
        "reference": create_id("net"), "due_by": 4_000_000_000,
    }  # fmt: skip
    made = ok(operator.post("/disputes", body))
    assert_conflict(operator.post("/disputes", body | {field: value}), field)
    for again in (body, body | {"reason": "general", "amount": 5000}, body | {"id": None}):
        assert ok(operator.post("/disputes", again)) == made
    assert_conflict(operator.post("/disputes", body | {"reference": create_id("net")}), "reference")
    assert_conflict(operator.post("/disputes", body | {"charge": ingest_charge(operator)["id"]}), "charge")
    assert list_event_types(raw, made["id"]) == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("fact", "inquiry_closed"), ("amount", 400), ("due_by", 4_000_000_001), ("created", 5)],
)
def test_a_fact_with_other_content_is_refused(operator: InternalClient, field: str, value: Any) -> None:
    opened = ingest_dispute(operator, kind="inquiry")
    path, reference = f"/disputes/{opened['id']}/facts", create_id("net")
    body = {"fact": "escalated", "reference": reference, "amount": 500, "due_by": 4_000_000_000}
    made = ok(operator.post(path, body))
    other = body | {field: value}
    if field == "fact":
        other = {"fact": value, "reference": reference}
    assert_conflict(operator.post(path, other), field)
    assert ok(operator.post(path, body)) == made
    assert ok(operator.post(path, {"fact": "escalated", "reference": reference})) == made


def test_lines_of_an_import_are_compared_in_the_same_group_and_in_the_next(
    operator: InternalClient, raw: Caller
) -> None:
    name = create_id("x")
    charge = {"op": "charge", "id": f"ch_{name}", "amount": 2000, "currency": "usd"}
    refund = {
        "op": "refund",
        "id": f"re_{name}",
        "charge": f"ch_{name}",
        "amount": 500,
        "metadata": {"a": "b"},
    }
    dispute = {"op": "dispute", "id": f"du_{name}", "charge": f"ch_{name}", "kind": "inquiry"}
    fact = {"op": "fact", "dispute": f"du_{name}", "fact": "escalated", "reference": "r1", "amount": 1000}
    others = [
        charge | {"amount": 1999},
        refund | {"metadata": {}},
        refund | {"reason": "duplicate"},
        refund | {"created": 5},
        dispute | {"reason": "fraudulent"},
        fact | {"amount": 999},
    ]
    padding = [{"op": "customer", "id": f"cus_{name}{number}"} for number in range(600)]
    lines = [charge, refund, dispute, fact]
    for results in (
        import_lines(operator, [*lines, *others, *lines, *padding, *others, *lines]),
        import_lines(operator, [*lines, *others, *lines, *padding, *others, *lines]),
    ):
        refused = [(each["error"]["code"], each["error"]["param"]) for each in results if "error" in each]
        fields = ("amount", "metadata", "reason", "created", "reason", "amount")
        assert refused == [(CONFLICT, field) for field in fields] * 2
    assert not any(result.get("changed") for result in results)
    assert ok(raw.get(f"/v1/charges/ch_{name}"))["amount_refunded"] == 500


RESERVED = (".", "..", "search")


@pytest.mark.contract("9 reserved ids")
@pytest.mark.parametrize("reserved", RESERVED)
def test_reserved_ids_are_refused_wherever_a_caller_chooses_one(
    operator: InternalClient, reserved: str
) -> None:
    text = rf"^Invalid id: '{re.escape(reserved)}' is reserved$"
    assert_refused(operator.post("/customers", {"id": reserved}), param="id", message=text)
    assert_refused(operator.post("/charges", CHARGE | {"id": reserved}), param="id", message="reserved")
    answer = operator.post("/charges", CHARGE | {"payment_intent": reserved})
    assert_refused(answer, param="payment_intent")
    charge = ingest_charge(operator)["id"]
    answer = operator.post("/disputes", {"id": reserved, "charge": charge, "kind": "inquiry"})
    assert_refused(answer, param="id", message="reserved")
    body = {"event_type": "invoice.created", "object": {}}
    if reserved == "search":  # the client itself resolves the others
        assert_refused(operator.call("PUT", f"/resources/invoice/{reserved}", body), param="id")
    lines: list[dict[str, Any]] = [
        {"op": "customer"},
        {"op": "charge", "amount": 2000, "currency": "usd"},
        {"op": "dispute", "charge": charge, "kind": "inquiry"},
        {"op": "refund", "charge": charge},
        {"op": "event", "type": "invoice.paid", "object": {}},
        {"op": "file", "purpose": "dispute_evidence", "content": ""},
        {"op": "webhook_endpoint", "url": "https://hooks.example.com/", "enabled_events": ["*"]},
    ]
    results = import_lines(operator, [line | {"id": reserved} for line in lines])
    assert [result["error"]["param"] for result in results] == ["id"] * len(lines)


@pytest.mark.contract("9 disputes in the past")
def test_a_dispute_of_the_past_has_all_its_times_there(operator: InternalClient, raw: Caller) -> None:
    created = int(time.time()) - 5 * 86_400
    charge = ingest_charge(operator, created=created - 10)["id"]
    opened = ingest_dispute(operator, charge=charge, created=created, amount=1000)
    assert opened["created"] == created
    (withdrawal,) = opened["balance_transactions"]
    assert (withdrawal["created"], withdrawal["available_on"]) == (created, created)
    assert withdrawal["status"] == "available"
    assert opened["evidence_details"]["due_by"] == (created // 86_400 + 9) * 86_400 - 1
    assert ok(raw.get(f"/v1/disputes?created={created}"))["data"] == [opened]
    shown = ok(raw.get(f"/v1/balance_transactions/{withdrawal['id']}"))
    assert shown == withdrawal
    won = {"fact": "won", "reference": create_id("net"), "created": created + 5}
    after = ok(operator.post(f"/disputes/{opened['id']}/facts", won))
    assert after["balance_transactions"][1]["created"] == created + 5
    for out_of_bounds in (created - 11, int(time.time()) + 1000):
        answer = operator.post("/disputes", {"charge": charge, "kind": "inquiry", "created": out_of_bounds})
        assert_refused(answer, param="created")
