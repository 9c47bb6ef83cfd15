"""A charge that got its customer later: what is older than that stands in the way of an erasure, too."""

from __future__ import annotations

import pytest

from tests.api.service import ok
from tests.erasure.stage import JOBS, PREVIEW, Stage


@pytest.fixture
def customer(stage: Stage) -> str:
    return str(ok(stage.raw.post("/v1/customers", {"name": "Ada"}))["id"])


def list_obstacles(stage: Stage, customer: str) -> list[str]:
    """The objects that keep the customer from being erased."""
    form = {"objects[customers][0]": customer, "validation_behavior": "error"}
    job = ok(stage.raw.call("POST", JOBS, form, PREVIEW))["id"]
    stage.wait_for_status(job, "ready", "failed")
    obstacles = [each["erroring_object"]["id"] for each in stage.list_errors(job)]
    ok(stage.raw.call("POST", f"{JOBS}/{job}/cancel", None, PREVIEW))
    return obstacles


def charge(stage: Stage, source: str) -> str:
    return str(ok(stage.raw.post("/v1/charges", {"amount": 500, "currency": "usd", "source": source}))["id"])


def test_an_open_dispute_that_names_no_customer(stage: Stage, customer: str) -> None:
    disputed = charge(stage, "tok_createDispute")
    dispute = ok(stage.raw.get(f"/v1/disputes?charge={disputed}"))["data"][0]["id"]
    ok(stage.raw.post(f"/v1/charges/{disputed}", {"customer": customer}))
    assert list_obstacles(stage, customer) == [dispute]
    ok(stage.operator.post(f"/disputes/{dispute}/facts", {"fact": "lost"}))
    assert list_obstacles(stage, customer) == []


def test_an_open_dispute_of_a_payment_intent_that_names_no_customer(stage: Stage, customer: str) -> None:
    form = {
        "amount": 500, "currency": "usd", "payment_method": "pm_card_createDispute", "confirm": "true",
        "return_url": "https://example.com",
    }  # fmt: skip
    intent = ok(stage.raw.post("/v1/payment_intents", form))
    dispute = ok(stage.raw.get(f"/v1/disputes?payment_intent={intent['id']}"))["data"][0]["id"]
    ok(stage.raw.post(f"/v1/charges/{intent['latest_charge']}", {"customer": customer}))
    assert list_obstacles(stage, customer) == [dispute]


def test_a_hold_that_was_placed_before(stage: Stage, customer: str) -> None:
    held = charge(stage, "tok_visa")
    hold = ok(stage.operator.post("/legal_holds", {"object": held, "reason": "case"}))["id"]
    ok(stage.raw.post(f"/v1/charges/{held}", {"customer": customer}))
    assert list_obstacles(stage, customer) == [held]
    ok(stage.operator.post(f"/legal_holds/{hold}/release", {"reason": "over"}))
    assert list_obstacles(stage, customer) == []
