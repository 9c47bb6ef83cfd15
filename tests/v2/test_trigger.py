"""Stripe-Request-Trigger: which Event a caller reacts to (contract §10.1)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import stripe

from tests.api.conftest import parse_log
from tests.api.service import Account, Caller, Service, ok
from tests.v2.conftest import EVENTS


def read_history(operator: Caller, object_id: str) -> Any:
    headers = {"authorization": f"Bearer {operator.key}"}
    return ok(operator.http.get(f"/internal/v1/audit/objects/{object_id}/history", headers=headers))["data"]


@pytest.mark.contract("10.1 Stripe-Request-Trigger")
def test_a_command_records_the_event_that_it_reacts_to(
    raw: Caller, operator: Caller, service: Service, account: Account
) -> None:
    raw.charge()
    (thin,) = ok(raw.get(EVENTS))["data"]
    answer = raw.post(
        "/v1/customers", "name=Ada", stripe_request_trigger=f"event={thin['id']}", idempotency_key="k"
    )
    (change,) = read_history(operator, ok(answer)["id"])
    assert change["causation"] == {
        "type": "event",
        "event": thin["id"],
        "snapshot_event": thin["snapshot_event"],
    }
    assert (change["request_id"], change["idempotency_key"]) == (answer.headers["request-id"], "k")
    printed = service.run_command("audit", "history", ok(answer)["id"], "--account", account.id)
    assert f"in reaction to {thin['id']}" in printed
    snapshot = raw.events()[-1]
    assert snapshot["request"] == {"id": answer.headers["request-id"], "idempotency_key": "k"}


@pytest.mark.contract("10.1 Stripe-Request-Trigger")
def test_a_dispute_of_a_request_names_its_charge_all_the_same(raw: Caller, operator: Caller) -> None:
    form = {"amount": 2000, "currency": "usd", "source": "tok_createDispute"}
    charge = ok(raw.post("/v1/charges", form, stripe_request_trigger="event=evt_1"))["id"]
    dispute = ok(raw.get(f"/v1/disputes?charge={charge}"))["data"][0]["id"]
    causes = [read_history(operator, each)[0]["causation"] for each in (charge, dispute)]
    assert causes[0] == {"type": "event", "event": "evt_1", "snapshot_event": "evt_1"}
    assert causes[1] == {"type": "change", "object": charge, "version": 1}


@pytest.mark.contract("10.1 Stripe-Request-Trigger")
@pytest.mark.parametrize(
    "trigger",
    [
        "",
        "evt_1",
        "event=",
        "event=cus_1",
        "event=evt_1;x",
        "event=evt_ 1",
        "event=evt_" + "1" * 260,
        "event=evt_ü",
    ],
)
def test_any_other_content_means_nothing(raw: Caller, operator: Caller, trigger: str) -> None:
    headers = {b"authorization": f"Bearer {raw.key}".encode()}
    headers[b"stripe-request-trigger"] = trigger.encode("latin-1")
    answer = raw.http.post("/v1/customers", headers=headers)
    (change,) = read_history(operator, ok(answer)["id"])
    assert change["causation"] is None


@pytest.mark.contract("10.1 Stripe-Request-Trigger")
def test_a_repeated_request_may_have_another_trigger(raw: Caller) -> None:
    def create(trigger: str) -> Any:
        return ok(
            raw.post(
                "/v1/customers", "name=Ada", idempotency_key="k", stripe_request_trigger=f"event={trigger}"
            )
        )

    assert create("evt_1") == create("evt_2")
    assert len(raw.events()) == 1


def test_reads_of_the_sdk_are_logged_with_the_event_that_they_follow(
    raw: Caller, client: stripe.StripeClient, service: Service, account: Account
) -> None:
    raw.customer(name="Ada")
    (thin,) = ok(raw.get(EVENTS))["data"]
    pushed = {name: value for name, value in thin.items() if name not in ("changes", "snapshot_event")}
    notification: Any = client.parse_event_notification_without_verification(json.dumps(pushed))
    notification.fetch_event()
    notification.fetch_related_object()

    def list_paths() -> list[str]:
        return [
            entry["path"]
            for entry in parse_log(service.log)
            if entry.get("account") == account.id and entry.get("reaction_to") == thin["id"]
        ]

    deadline = time.monotonic() + 60
    while len(list_paths()) < 2 and time.monotonic() < deadline:  # a line follows its answer
        time.sleep(0.02)
    assert list_paths() == [f"{EVENTS}/{thin['id']}", thin["related_object"]["url"]]
