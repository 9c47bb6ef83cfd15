"""What is about a person and sealed for, or kept by, somebody else: it is reached as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.keys.documents import find_subject
from tests.api.service import ok
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import wait_until

_NAMING = "SELECT count(*) FROM request_log.requests WHERE path LIKE '%%' || %s || '%%'"


@pytest.fixture
def text() -> str:
    return Person("Ada").mark("text")


def create_customer(stage: Stage) -> str:
    return str(ok(stage.raw.post("/v1/customers", {"source": "tok_visa"}))["id"])


def publish(operator: InternalClient, path: str, event_type: str, members: dict[str, Any]) -> None:
    ok(operator.call("PUT", f"/resources/{path}", {"event_type": event_type, "object": members}))


def import_line(stage: Stage, **line: Any) -> None:
    headers = {"authorization": f"Bearer {stage.operator.key}"}
    answer = stage.http.post("/internal/v1/import", content=json.dumps(line), headers=headers)
    assert "error" not in answer.json(), answer.text


def read_answers(stage: Stage) -> list[str]:
    """What receivers answered to the deliveries, once all have been tried."""
    deliveries = ok(stage.operator.get("/webhooks/deliveries?limit=100"))["data"]
    return [stage.operator.get(f"/webhooks/deliveries/{each['id']}").text for each in deliveries]


@pytest.mark.parametrize("member", ["charge", "payment_intent"])
def test_an_imported_event_about_what_names_a_payment_alone(stage: Stage, text: str, member: str) -> None:
    customer, event, review = create_customer(stage), f"evt_{uuid4().hex}", f"prv_{uuid4().hex}"
    form = {"amount": 500, "currency": "usd", "customer": customer}
    payment = ok(stage.raw.post(f"/v1/{member}s", form))["id"]
    if member == "payment_intent":
        ok(stage.raw.post(f"/v1/payment_intents/{payment}/cancel"))
    shown = {"id": review, "object": "review", member: payment, "billing_zip": text}
    import_line(stage, op="event", id=event, type="review.opened", object=shown)
    stage.wait_for_projections()
    assert text in stage.raw.get(f"/v1/events/{event}").text
    stage.erase(customers=[customer])
    answer = stage.raw.get(f"/v1/events/{event}")
    assert ok(answer)["data"]["object"] == {**shown, "billing_zip": "[redacted]"}
    for path in (f"/audit/objects/{event}", f"/audit/log?object={event}", "/feed?after=0&limit=10000"):
        assert text not in stage.operator.get(path).text


def test_what_was_answered_to_an_event_that_shows_the_customer_of_before(stage: Stage, text: str) -> None:
    ada, ben, invoice = create_customer(stage), create_customer(stage), f"in_{uuid4().hex}"
    of_ada = {"customer": ada, "customer_name": text}
    publish(stage.operator, f"invoice/{invoice}", "invoice.created", of_ada)
    publish(stage.operator, f"invoice/{invoice}", "invoice.updated", {"customer": ben, "customer_name": "B"})
    stage.wait_for_projections()
    wait_until(lambda: any("invoice.updated" in each and text in each for each in read_answers(stage)))
    stage.erase(customers=[ada])
    assert not any(text in each for each in read_answers(stage))


def test_the_kept_reply_of_who_has_an_object_by_now(stage: Stage, text: str) -> None:
    ada, ben, key = create_customer(stage), create_customer(stage), uuid4().hex
    form = {"amount": 500, "currency": "usd", "customer": ada, "description": text}
    path = f"/v1/payment_intents/{ok(stage.raw.post('/v1/payment_intents', form))['id']}"
    assert text in stage.raw.post(path, {"customer": ben}, idempotency_key=key).text
    ok(stage.raw.post(f"{path}/cancel"))
    stage.erase(customers=[ada])
    again = stage.raw.post(path, {"customer": ben}, idempotency_key=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert ok(again)["description"] == "[redacted]"


@pytest.mark.parametrize("path", ["", "/close"])
def test_the_kept_reply_about_a_guests_dispute_that_shows_the_charge(
    stage: Stage, text: str, path: str
) -> None:
    """Nothing personal was sealed for the dispute before, which had no key."""
    form = {"amount": 900, "currency": "usd", "source": "tok_createDispute", "description": text}
    charge, key = ok(stage.raw.post("/v1/charges", form))["id"], uuid4().hex
    dispute = ok(stage.raw.get(f"/v1/disputes?charge={charge}"))["data"][0]["id"]
    request = f"/v1/disputes/{dispute}{path}", {"expand[]": "charge"}
    assert text in stage.raw.post(*request, idempotency_key=key).text
    with psycopg.connect(stage.service.dsn) as conn:
        rows = conn.execute("SELECT compressed FROM ledger.replies WHERE key = %s", (key,)).fetchall()
    assert [find_subject(stored) for (stored,) in rows] == [dispute]
    if not path:
        ok(stage.operator.post(f"/disputes/{dispute}/facts", {"fact": "lost"}))
    stage.erase(charges=[charge])
    again = stage.raw.post(*request, idempotency_key=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert ok(again)["charge"]["description"] == "[redacted]"


def test_an_export_of_another_account_that_names_the_customer(
    stage: Stage, text: str, tmp_path: Path
) -> None:
    customer, invoice, file = create_customer(stage), f"in_{uuid4().hex}", tmp_path / "others.ndjson"
    other = stage.registrar.account().id
    operator = InternalClient(stage.http, stage.registrar.key(other, "rk", scopes=INTERNAL_SCOPES)[1])
    of_customer = {"customer": customer, "customer_name": text}
    publish(operator, f"invoice/{invoice}", "invoice.created", of_customer)
    publish(operator, f"invoice/in_{uuid4().hex}", "invoice.created", {"number": "of nobody"})
    stage.wait_for_projections()
    stage.service.run_command("export", str(file), "--account", other, "--unseal")
    assert text in file.read_text()
    erase = ("erase", customer, "--why", "request 1", "--yes", "--wait")
    stage.service.run_command(*erase)
    assert text not in file.read_text()
    assert "of nobody" in file.read_text()
    [export] = [
        each
        for each in json.loads(stage.service.run_command("erase", "exports", "list", "--json"))["data"]
        if each["path"] == str(file)
    ]
    assert export["account"] == other


@pytest.mark.parametrize("form", ["cus_{}-x", "cus-{}", "cus.{}", "{}"])
def test_failed_requests_that_name_an_id_of_any_form(stage: Stage, form: str) -> None:
    customer = form.format(uuid4().hex[:12])
    import_line(stage, op="customer", id=customer, name="Ada")
    assert stage.raw.post(f"/v1/customers/{customer}", {"source": "tok_none"}).status_code == 400

    def count() -> int:
        with psycopg.connect(stage.service.dsn) as conn:
            row = conn.execute(_NAMING, (customer,)).fetchone()
        assert row is not None
        return int(row[0])

    wait_until(count)
    stage.erase(customers=[customer])
    assert count() == 0
