"""Secrets replaced, and settings of endpoints, over HTTP and on the command line (internal API §4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from standardwebhooks import Webhook

from tests.api.conftest import parse_log
from tests.api.service import (
    SERVICE_KEY,
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    ok,
    read_stored_replies,
)
from tests.serving.process import run_refused
from tests.webhooks.conftest import Ask
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until

DEPLOYMENT = {"secret_key": SERVICE_KEY, "test_clock": True}
ENDPOINTS = "/internal/v1/webhooks/endpoints"
VERSION = "SELECT max(originator_version) FROM ledger.events WHERE originator_id = %s"


def send(caller: Caller, path: str, body: Any, **headers: str) -> httpx.Response:
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"content-type": "application/json"}
    return caller.call("POST", f"{ENDPOINTS}/{path}", json.dumps(body), content | own)


def rotate(caller: Caller, endpoint: str, overlap_seconds: int, **headers: str) -> dict[str, Any]:
    answer: dict[str, Any] = ok(
        send(caller, f"{endpoint}/rotate_secret", {"overlap_seconds": overlap_seconds}, **headers)
    )
    return answer


def verifies(received: Any, secret: str) -> bool:
    try:
        received.event(secret)
    except stripe.SignatureVerificationError:
        return False
    return True


def test_both_secrets_sign_during_the_overlap_the_newest_first(
    client: stripe.StripeClient,
    operator: Caller,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    service: Service,
) -> None:
    first = endpoint.secret
    assert first is not None
    rotated = rotate(operator, endpoint.id, 3600)
    second = rotated["secret"]
    assert second.startswith("whsec_")
    assert len({first, second, len(first)} | {len(second)}) == 3
    assert (rotated["secret_version"], rotated["ordered"]) == (2, False)
    assert rotated["previous_secret_valid_until"] > 0
    client.v1.customers.create({})
    (received,) = receiver.wait_for(path, 1)
    assert verifies(received, first)
    assert verifies(received, second)
    assert received.signature.count("v1=") == 2
    refused = send(operator, f"{endpoint.id}/rotate_secret", {})
    assert_refused(
        refused, 409, code="webhook_state", param="overlap_seconds", message="overlap_seconds of 0"
    )
    third = rotate(operator, endpoint.id, 0)
    assert third["previous_secret_valid_until"] is None
    client.v1.customers.create({})
    (_, received) = receiver.wait_for(path, 2)
    assert [verifies(received, secret) for secret in (first, second, third["secret"])] == [False, False, True]
    line = wait_until(lambda: find_lines(service, "webhook_endpoint_secret_rotated", endpoint.id))[0]
    assert set(line) >= {"endpoint", "position"}
    for secret in (first, second, third["secret"]):
        assert secret not in service.log


def find_lines(service: Service, event: str, endpoint: str) -> list[dict[str, Any]]:
    return [
        entry
        for entry in parse_log(service.log)
        if (entry["event"], entry.get("endpoint")) == (event, endpoint)
    ]


def test_a_repetition_gets_the_secret_of_its_own_rotation_which_no_reply_holds(
    operator: Caller, raw: Caller, endpoint: stripe.WebhookEndpoint, service: Service, account: Account
) -> None:
    url = endpoint.url
    creation = {"url": url, "enabled_events[]": "*"}
    created = raw.post("/v1/webhook_endpoints", creation, idempotency_key="create")
    endpoint_id = created.json()["id"]
    answers = [rotate(operator, endpoint_id, 0, idempotency_key=f"k{number}") for number in range(3)]
    assert len({answer["secret"] for answer in answers}) == 3
    for number, answer in enumerate(answers):
        again = send(
            operator, f"{endpoint_id}/rotate_secret", {"overlap_seconds": 0}, idempotency_key=f"k{number}"
        )
        assert again.json() == answer
        assert again.headers["idempotent-replayed"] == "true"
    assert raw.post("/v1/webhook_endpoints", creation, idempotency_key="create").json() == created.json()
    replies = "".join(map(str, read_stored_replies(service, account.id).values()))
    assert endpoint_id in replies
    for secret in (created.json()["secret"], *(answer["secret"] for answer in answers)):
        assert secret not in replies


def test_headers_of_standard_webhooks_verify_by_that_projects_library(
    client: stripe.StripeClient,
    operator: Caller,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
) -> None:
    assert ok(send(operator, endpoint.id, {"standard_webhooks": True}))["standard_webhooks"] is True
    second = rotate(operator, endpoint.id, 3600)["secret"]
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(200)]
    client.v1.customers.create({})
    first_attempt, second_attempt = receiver.wait_for(path, 2)
    for received in (first_attempt, second_attempt):
        for secret in (endpoint.secret, second):
            assert secret is not None
            event = Webhook(secret).verify(received.body, received.headers)
            assert received.headers["webhook-id"] == event["id"] == received.event(secret).id
    assert int(first_attempt.headers["webhook-timestamp"]) < int(second_attempt.headers["webhook-timestamp"])
    assert "ledger-sequence" not in first_attempt.headers


def test_settings_are_changed_one_by_one_and_seen_in_the_history_of_the_endpoint(
    operator: Caller, raw: Caller, endpoint: stripe.WebhookEndpoint
) -> None:
    assert ok(operator.get(f"{ENDPOINTS}/{endpoint.id}")) == {
        "id": endpoint.id, "object": "webhook_endpoint_settings", "event_payload": "snapshot",
        "livemode": False, "ordered": False, "previous_secret_valid_until": None, "secret_version": 1,
        "standard_webhooks": False, "status": "enabled",
    }  # fmt: skip
    before = ok(raw.get(f"/v1/webhook_endpoints/{endpoint.id}"))
    assert ok(send(operator, endpoint.id, {"ordered": True}))["ordered"] is True
    assert ok(send(operator, endpoint.id, {"ordered": True, "standard_webhooks": None}))["ordered"] is True
    rotate(operator, endpoint.id, 0)
    assert ok(raw.get(f"/v1/webhook_endpoints/{endpoint.id}")) == before
    history = ok(operator.get(f"/internal/v1/audit/objects/{endpoint.id}/history"))["data"]
    assert [entry["type"] for entry in history] == [
        "webhook_endpoint.created", "webhook_endpoint.configured", "webhook_endpoint.secret_rotated",
    ]  # fmt: skip
    positions = [entry["position"] for entry in history]
    shown = ok(operator.get(f"/internal/v1/audit/log/{positions[1]}"))
    assert "ordered" in json.dumps(shown)


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        ("", {"ordered": "yes"}, "ordered", "must be true or false"),
        ("", {"orderd": True}, "orderd", "ordered"),
        ("/rotate_secret", {"overlap_seconds": -1}, "overlap_seconds", "0"),
        ("/rotate_secret", {"overlap_seconds": 604801}, "overlap_seconds", "604800"),
        ("/rotate_secret", {"overlap_seconds": "1"}, "overlap_seconds", "integer"),
        ("/rotate_secret", {"overlap": 1}, "overlap", "unknown parameter"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(
    operator: Caller,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    body: Any,
    param: str,
    message: str,
    ask: Ask,
) -> None:
    response = send(operator, endpoint.id + path, body)
    code = "parameter_unknown" if param in ("orderd", "overlap") else None
    assert_refused(response, code=code, param=param, message=message)
    assert ask(VERSION, endpoint.id) == [(1,)]


def test_endpoints_of_others_and_deleted_ones_do_not_exist(
    operator: Caller,
    client: stripe.StripeClient,
    endpoint: stripe.WebhookEndpoint,
    registrar: Registrar,
    ask: Ask,
) -> None:
    other_account = registrar.account()
    stranger = Caller(operator.http, registrar.key(other_account.id, "rk", scopes=("webhooks",))[1])
    weak = Caller(operator.http, registrar.key(other_account.id, "rk", scopes=("audit",))[1])
    assert send(weak, endpoint.id, {}).status_code == 403
    calls = [
        lambda caller, name: caller.get(f"{ENDPOINTS}/{name}"),
        lambda caller, name: send(caller, name, {"ordered": True}),
        lambda caller, name: send(caller, f"{name}/rotate_secret", {}),
    ]
    client.v1.customers.create({})
    for call in calls:
        for caller, name in ((stranger, endpoint.id), (operator, "we_none"), (operator, "cus_none")):
            assert_refused(
                call(caller, name),
                404,
                code="resource_missing",
                param="webhook_endpoint",
                message=f"No such webhook endpoint: '{name}'",
            )
    assert ask(VERSION, endpoint.id) == [(1,)]
    client.v1.webhook_endpoints.delete(endpoint.id)
    for call in calls:
        assert call(operator, endpoint.id).status_code == 404
    assert ask(VERSION, endpoint.id) == [(2,)]


def test_the_command_line_does_the_same_for_any_account(
    service: Service,
    client: stripe.StripeClient,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
) -> None:
    shown = service.run_command("webhooks", "configure", endpoint.id, "--ordered", "--standard-webhooks")
    assert "in order: yes" in shown
    secret = service.run_command("webhooks", "rotate-secret", endpoint.id, "--overlap", "60").strip()
    settings = json.loads(
        service.run_command("webhooks", "configure", endpoint.id, "--not-ordered", "--json")
    )
    assert (settings["ordered"], settings["standard_webhooks"], settings["secret_version"]) == (
        False,
        True,
        2,
    )
    client.v1.customers.create({})
    (received,) = receiver.wait_for(path, 1)
    assert Webhook(secret).verify(received.body, received.headers)["id"] == received.event(secret).id
    recorded = ask(
        "SELECT action, details ->> 'mode', who LIKE '%%@%%' FROM ledger.operations"
        " WHERE details ->> 'endpoint' = %s ORDER BY id",
        endpoint.id,
    )
    configured = ("webhook_endpoint_configured", "test", True)
    assert recorded == [configured, ("webhook_endpoint_secret_rotated", "test", True), configured]


def test_a_refused_rotation_names_the_option_and_leaves_no_record(
    service: Service, endpoint: stripe.WebhookEndpoint, ask: Ask, tmp_path: Path
) -> None:
    service.run_command("webhooks", "rotate-secret", endpoint.id)
    refused = run_refused(
        tmp_path, "webhooks", "rotate-secret", endpoint.id, database_url=service.dsn, **DEPLOYMENT
    )
    assert refused.endswith("or pass --overlap 0, which ends both secrets at once.")
    query = "SELECT count(*) FROM ledger.operations WHERE details ->> 'endpoint' = %s"
    assert ask(query, endpoint.id) == [(1,)]


def test_a_refused_replay_names_the_options(
    service: Service, endpoint: stripe.WebhookEndpoint, tmp_path: Path
) -> None:
    window = ("webhooks", "replay", "--endpoint", endpoint.id, "--from", "2026-11-02", "--dry-run")
    for option, refusal in {
        ("--to", "2026-11-01"): "--to is before --from",
        ("--type", "no.such"): "Invalid --type: must be an event type",
    }.items():
        assert refusal in run_refused(tmp_path, *window, *option, database_url=service.dsn, **DEPLOYMENT)
