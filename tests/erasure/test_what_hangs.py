"""What hangs on the objects of a person without naming the person."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import ok
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.erasure.test_late_customers import list_obstacles
from tests.internal.conftest import InternalClient

SESSION = "identity.verification_session"


@pytest.fixture
def text() -> str:
    return Person("Ada").mark("text")


@pytest.fixture
def customer(stage: Stage) -> str:
    return str(ok(stage.raw.post("/v1/customers", {"name": "Ada", "source": "tok_visa"}))["id"])


def publish(operator: InternalClient, object_type: str, event: str, **members: Any) -> str:
    """The id of a new object."""
    object_id = f"{object_type.rpartition('.')[2]}_{uuid4().hex}"
    body = {"event_type": f"{object_type}.{event}", "object": members}
    ok(operator.call("PUT", f"/resources/{object_type}/{object_id}", body))
    return object_id


def test_a_hold_of_what_names_a_charge(stage: Stage, customer: str) -> None:
    form = {"amount": 500, "currency": "usd", "customer": customer}
    charge = ok(stage.raw.post("/v1/charges", form))["id"]
    review = publish(stage.operator, "review", "opened", charge=charge)
    hold = ok(stage.operator.post("/legal_holds", {"object": review, "reason": "case"}))["id"]
    assert list_obstacles(stage, customer) == [review]
    ok(stage.operator.post(f"/legal_holds/{hold}/release", {"reason": "over"}))
    assert list_obstacles(stage, customer) == []


def test_the_reasons_of_a_hold_of_a_published_object(stage: Stage, text: str) -> None:
    session = publish(stage.operator, SESSION, "created", status="verified")
    hold = ok(stage.operator.post("/legal_holds", {"object": session, "reason": text}))["id"]
    ok(stage.operator.post(f"/legal_holds/{hold}/release", {"reason": text}))
    stage.wait_for_projections()
    stage.erase(identity_verification_sessions=[session])
    shown = stage.operator.get(f"/audit/objects/{hold}")
    assert ok(shown)
    assert text not in shown.text
    assert "[redacted]" in shown.text


def test_what_hangs_on_an_object_of_another_account(stage: Stage, customer: str, text: str) -> None:
    """It is that account's payment intent that names the customer: only an operator may erase it."""
    account = stage.registrar.account().id
    scopes = (*INTERNAL_SCOPES, "rak_dispute_read")
    operator = InternalClient(stage.http, stage.registrar.key(account, "rk", scopes=scopes)[1])
    intent = publish(operator, "payment_intent", "created", customer=customer, description=text)
    charge = f"ch_{uuid4().hex}"
    body = {"id": charge, "amount": 5, "currency": "usd", "payment_intent": intent, "description": text}
    ok(operator.post("/charges", body))
    review = publish(operator, "review", "opened", payment_intent=intent, billing_zip=text)
    stage.wait_for_projections()
    erase = ("erase", customer, "--why", "request 1", "--yes", "--wait", "--json")
    assert json.loads(stage.service.run_command(*erase))["status"] == "succeeded"
    for each in (intent, charge, review):
        shown = operator.get(f"/audit/objects/{each}")
        assert ok(shown)
        assert text not in shown.text
