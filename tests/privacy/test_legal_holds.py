"""Legal holds: by operators over the internal API, and what they keep from being erased."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.api.service import Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.privacy.conftest import JOBS, PreviewCaller
from tests.privacy.test_redaction_jobs import list_errors

HOLDS = "/legal_holds"
REASON = "Ada Lovelace sues us"


def place(operator: InternalClient, object_id: str, **headers: str) -> Any:
    return ok(operator.post(HOLDS, {"object": object_id, "reason": REASON}, **headers))


def release(operator: InternalClient, hold_id: str) -> Any:
    return ok(operator.post(f"{HOLDS}/{hold_id}/release", {"reason": "it is settled"}))


def test_a_hold_is_placed_listed_and_released(preview: PreviewCaller, operator: InternalClient) -> None:
    customer, charge = preview.customer()["id"], preview.charge()["id"]
    hold = place(operator, customer, idempotency_key="hold")
    assert place(operator, customer, idempotency_key="hold") == hold
    assert hold["active"]
    assert hold["held_object"] == {"id": customer, "object_type": "customer"}
    assert (hold["reason"], hold["released_at"], hold["released_by"]) == (REASON, None, None)
    assert hold["placed_by"].startswith("key_")
    other = place(operator, charge)
    page = ok(operator.get(f"{HOLDS}?limit=1"))
    assert (page["data"], page["has_more"]) == ([other], True)
    assert ok(operator.get(f"{HOLDS}?starting_after={other['id']}"))["data"] == [hold]
    assert ok(operator.get(f"{HOLDS}?object={customer}"))["data"] == [hold]
    released = release(operator, hold["id"])
    assert not released["active"]
    assert (released["reason"], released["release_reason"]) == (REASON, "it is settled")
    assert ok(operator.get(f"{HOLDS}?active=true"))["data"] == [other]
    assert ok(operator.get(f"{HOLDS}?active=false"))["data"] == [released]
    again = place(operator, customer)
    assert (again["active"], again["release_reason"], again["id"]) == (True, None, hold["id"])


def test_what_cannot_be_held_is_refused_by_name(
    preview: PreviewCaller, live_preview: PreviewCaller, operator: InternalClient
) -> None:
    customer = preview.customer(source="tok_visa")["id"]
    charge = ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))["id"]
    for object_id in ("cus_nobody", live_preview.customer()["id"]):
        refusal = operator.post(HOLDS, {"object": object_id, "reason": REASON})
        assert_refused(refusal, code="resource_missing", param="object")
    assert_refused(
        operator.post(HOLDS, {"object": charge, "reason": REASON}), param="object", message=customer
    )
    assert_refused(operator.post(HOLDS, {"object": customer}), code="parameter_missing", param="reason")
    assert_refused(operator.post(HOLDS, {"object": customer, "reason": ""}), param="reason")
    hold = place(operator, customer)
    assert_refused(
        operator.post(HOLDS, {"object": customer, "reason": REASON}), param="object", message="already"
    )
    release(operator, hold["id"])
    assert_refused(operator.post(f"{HOLDS}/{hold['id']}/release", {"reason": "x"}), message="already")
    missing = operator.post(f"{HOLDS}/hold_cus_nobody/release", {"reason": "x"})
    assert_refused(missing, 404, code="resource_missing", param="id")
    assert operator.get(f"{HOLDS}?sort=asc").json()["error"]["param"] == "sort"


def test_of_an_object_that_cannot_be_held_it_is_said_what_can(
    preview: PreviewCaller, operator: InternalClient
) -> None:
    customer = preview.customer(source="tok_createDispute")["id"]
    charge = {"amount": 900, "currency": "usd", "customer": customer}
    of_customer = ok(preview.post("/v1/charges", charge))["id"]
    disputes = ok(preview.get(f"/v1/disputes?charge={of_customer}"))["data"]
    for dispute, instead in (
        (disputes[0]["id"], f"belongs to the customer {customer}"),
        (preview.dispute()["id"], "What can be held is a customer, or a charge"),
    ):
        refused = operator.post(HOLDS, {"object": dispute, "reason": REASON})
        error = assert_refused(refused, param="object", message=instead)
        assert error["message"].startswith(f"{dispute} (dispute) cannot be held by itself.")
        assert "code" not in error
    unknown = operator.post(HOLDS, {"object": "du_nothing", "reason": REASON})
    message = "No such object: 'du_nothing'. What can be held"
    assert_refused(unknown, code="resource_missing", param="object", message=message)


def test_the_scope_is_needed(preview: PreviewCaller, operator: InternalClient) -> None:
    plain = InternalClient(operator.http, str(preview.key))
    refusal = plain.post(HOLDS, {"object": preview.customer()["id"], "reason": REASON})
    assert "legal_holds" in assert_refused(refusal, 403, code="more_permissions_required")["message"]


@pytest.mark.contract("2.15 invalid_state")
def test_a_held_object_does_not_pass_the_validation(preview: PreviewCaller, operator: InternalClient) -> None:
    customer = preview.customer()["id"]
    hold = place(operator, customer)
    job = preview.validated_job(customer, validation_behavior="fix")
    assert list_errors(preview, job) == [("invalid_state", customer)]
    assert "legal hold" in job["validation_errors"]["data"][0]["message"]
    release(operator, hold["id"])
    ok(preview.post(f"{JOBS}/{job['id']}/validate"))
    preview.await_job(job["id"], "ready")


@pytest.mark.contract("2.15 checked again")
def test_a_hold_that_is_placed_after_the_validation_stops_the_run(
    preview: PreviewCaller, operator: InternalClient
) -> None:
    customer = preview.customer(name="Ada Lovelace")["id"]
    job = preview.validated_job(customer)
    place(operator, customer)
    assert_refused(preview.post(f"{JOBS}/{job['id']}/run"), message="legal hold")
    assert list_errors(preview, ok(preview.get(f"{JOBS}/{job['id']}"))) == [("invalid_state", customer)]
    assert ok(preview.get(f"/v1/customers/{customer}"))["name"] == "Ada Lovelace"


def test_the_reason_is_not_stored_in_the_clear(
    preview: PreviewCaller, operator: InternalClient, service: Service
) -> None:
    customer = preview.customer()["id"]
    hold = place(operator, customer, idempotency_key=f"hold {customer}")
    with psycopg.connect(service.dsn) as conn:
        (state,) = conn.execute(
            "SELECT state FROM ledger.events WHERE originator_id = %s", (hold["id"],)
        ).fetchone() or ("",)
    assert "Ada" not in bytes(state).decode()
    assert json.loads(state)["sealed"].startswith(f"{customer}:")
    assert ok(operator.get(f"{HOLDS}?object={customer}"))["data"][0]["reason"] == REASON
