"""Published objects and imported Events that name their customer elsewhere than in `customer` are theirs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.service import ok
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.erasure.test_other_owners import create_customer, import_line, publish

SESSION = "identity.verification_session"
ACCOUNT = "financial_connections.account"


@pytest.fixture
def text() -> str:
    return Person("Ada").mark("text")


def show_all(stage: Stage, object_id: str) -> str:
    """Whatever shows the object or Event."""
    stage.wait_for_projections()
    answers = [stage.raw.get("/v1/events?limit=100")]
    answers += [
        stage.operator.get(path)
        for path in (
            f"/audit/objects/{object_id}",
            f"/audit/log?object={object_id}",
            "/audit/export",
            "/feed?after=0&limit=10000",
        )
    ]
    assert {answer.status_code for answer in answers} == {200}
    return "".join(answer.text for answer in answers)


def name_customer(kind: str, customer: str) -> dict[str, Any]:
    if kind == SESSION:
        return {"related_customer": customer}
    return {"account_holder": {"type": "customer", "customer": customer}}


@pytest.mark.parametrize("kind", [SESSION, ACCOUNT])
def test_a_published_object(stage: Stage, text: str, kind: str) -> None:
    customer, other, object_id = create_customer(stage), create_customer(stage), f"obj_{uuid4().hex}"
    members = name_customer(kind, customer)
    publish(stage.operator, f"{kind}/{object_id}", f"{kind}.created", {**members, "display_name": text})
    of_other = {**name_customer(kind, other), "display_name": "of the other one"}
    publish(stage.operator, f"{kind}/obj_{uuid4().hex}", f"{kind}.created", of_other)
    assert text in show_all(stage, object_id)
    path = f"/v1/{kind.replace('.', '/')}s/{object_id}"
    assert ok(stage.raw.get(path))["display_name"] == text
    stage.erase(customers=[customer])
    shown = show_all(stage, object_id)
    assert text not in shown
    assert "of the other one" in shown
    erased = ok(stage.raw.get(path))
    assert erased["display_name"] == "[redacted]"
    assert erased | members == erased, "ids stay"


def test_an_object_that_names_the_customer_only_by_now(stage: Stage, text: str) -> None:
    """As one that a release has stored which did not look there."""
    customer, object_id = create_customer(stage), f"obj_{uuid4().hex}"
    path = f"{SESSION}/{object_id}"
    publish(stage.operator, path, f"{SESSION}.created", {"name": text})
    publish(stage.operator, path, f"{SESSION}.verified", {"name": text, "related_customer": customer})
    assert text in show_all(stage, object_id)
    stage.erase(customers=[customer])
    assert text not in show_all(stage, object_id)


@pytest.mark.parametrize(
    ("kind", "previous"),
    [
        (None, "customer"),
        (None, "related_customer"),
        (SESSION, None),
        (ACCOUNT, None),
    ],
)
def test_an_imported_event(stage: Stage, text: str, kind: str | None, previous: str | None) -> None:
    customer, event, object_id = create_customer(stage), f"evt_{uuid4().hex}", f"pm_{uuid4().hex}"
    members = {"customer": None} if kind is None else name_customer(kind, customer)
    shown = {"id": object_id, "object": "payment_method", "billing_details": {"name": text}, **members}
    before = {} if previous is None else {"previous_attributes": {previous: customer}}
    import_line(stage, op="event", id=event, type="payment_method.detached", object=shown, **before)
    assert text in show_all(stage, event)
    stage.erase(customers=[customer])
    assert text not in show_all(stage, event)
    data = ok(stage.raw.get(f"/v1/events/{event}"))["data"]
    assert data["object"] == {**shown, "billing_details": {"name": "[redacted]"}}
    import_line(stage, op="event", id=event, type="payment_method.detached", object=shown, **before)
