"""Retries of many over HTTP and from a shell, and the list of endpoints (internal API §4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.api.conftest import parse_log
from tests.api.service import SERVICE_KEY, Account, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.serving.process import run_refused
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

HOOK = "/hooks/retries"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def endpoint(client: stripe.StripeClient, operator: InternalClient, receiver: Receiver) -> str:
    """It has accepted two Events of a customer and one of a charge."""
    enabled: Any = ["customer.created", "customer.updated", "charge.succeeded"]
    endpoint = client.v1.webhook_endpoints.create({"url": receiver.url(HOOK), "enabled_events": enabled}).id
    customer = client.v1.customers.create({"email": "a@example.com"})
    client.v1.customers.update(customer.id, {"name": "Ada"})
    client.v1.charges.create({"amount": 500, "currency": "usd", "source": "tok_visa"})
    query = f"/webhooks/deliveries?endpoint={endpoint}&state=delivered"
    wait_until(lambda: len(ok(operator.get(query))["data"]) == 3)
    return endpoint


def wait_for_end(operator: InternalClient, retry: str) -> dict[str, Any]:
    def read() -> Any:
        shown = ok(operator.get(f"/webhooks/retries/{retry}"))
        return shown if shown["ended"] is not None else None

    ended: dict[str, Any] = wait_until(read)
    return ended


def test_what_matches_is_counted_then_sent_again_once_and_its_progress_is_shown(
    service: Service, operator: InternalClient, registrar: Registrar, endpoint: str, receiver: Receiver
) -> None:
    body = {"state": ["delivered"], "types": ["customer.*"], "reason": "for a test"}
    before = len(receiver.requests_to(HOOK))
    preview = ok(operator.post("/webhooks/retries", {**body, "dry_run": True}))
    assert ok(operator.get("/webhooks/retries")) == {"data": [], "has_more": False}
    assert (preview["object"], preview["due"], preview["is_complete"]) == ("webhook_retry_preview", 2, True)
    assert preview["endpoints"] == [
        {"endpoint": endpoint, "by_state": {"delivered": 2}, "due": 2, "left_out": {}}
    ]
    assert ok(operator.post("/webhooks/retries", {"dry_run": True}))["due"] == 0, "nothing was given up"
    started = ok(operator.post("/webhooks/retries", body, idempotency_key="all"))
    assert started == ok(operator.post("/webhooks/retries", body, idempotency_key="all"))
    ended = wait_for_end(operator, started["id"])
    assert (ended["state"], ended["matched"], ended["made_due"], ended["delivered"]) == ("completed", 2, 2, 2)
    assert ended["filters"] == {
        "endpoint": None, "event": None, "state": ["delivered"], "types": ["customer.*"], "created": {},
        "status": None, "error": None,
    }  # fmt: skip
    assert len(receiver.requests_to(HOOK)) == before + 2
    assert ok(operator.get("/webhooks/retries"))["data"] == [ended]
    rows = ok(operator.get(f"/webhooks/deliveries?replay={started['id']}"))["data"]
    assert [row["attempt_count"] for row in rows] == [2, 2]
    both = "&".join(f"event={row['event']}" for row in rows)
    assert ok(operator.get(f"/webhooks/deliveries?{both}"))["data"] == rows
    key = registrar.key(registrar.account().id, "rk", scopes=("webhooks",))[1]
    stranger = InternalClient(operator.http, key)
    assert_refused(
        stranger.get(f"/webhooks/retries/{started['id']}"), 404, param="id", code="resource_missing",
        message=f"No such retry: '{started['id']}'",
    )  # fmt: skip
    assert (
        ok(stranger.get("/webhooks/retries"))["data"] == ok(stranger.get("/webhooks/endpoints"))["data"] == []
    )

    def read_lines() -> list[dict[str, Any]]:
        return [line for line in parse_log(service.log) if line.get("retry") == started["id"]]

    wait_until(lambda: len(read_lines()) == 2)
    first, last = read_lines()
    assert (first["event"], first["reason"], first["types"]) == (
        "webhook_retry_started", "for a test", ["customer.*"],
    )  # fmt: skip
    assert (last["event"], last["delivered"]) == ("webhook_retry_completed", 2)


def test_a_retry_is_stopped_by_calls_and_by_commands(
    service: Service, operator: InternalClient, client: stripe.StripeClient, account: Account, endpoint: str
) -> None:
    client.v1.webhook_endpoints.update(endpoint, {"url": "http://127.0.0.1:9/"})  # where nothing listens
    command = ("webhooks", "retry-all", "--account", account.id, "--state", "delivered")
    counted = service.run_command(*command, "--dry-run").splitlines()
    assert counted == [
        "3 deliveries would be sent again.", f"{endpoint}:", "          3  delivered", "Nothing was changed.",
    ]  # fmt: skip
    retry = json.loads(service.run_command(*command, "--yes", "--json"))["id"]
    wait_until(lambda: ok(operator.get(f"/webhooks/retries/{retry}"))["made_due"] == 3)
    assert ok(operator.post(f"/webhooks/retries/{retry}/pause"))["state"] == "paused"
    shown = service.run_command("webhooks", "retries", retry)
    assert f"{retry} of {account.id}: paused\n  Deliveries of state delivered\n" in shown
    listed = service.run_command("webhooks", "retries").splitlines()
    (row,) = [row for row in listed if row.startswith(retry)]
    assert row.split("\t")[2:7] == ["paused", "3", "0", "0", "3"]
    assert ok(operator.post(f"/webhooks/retries/{retry}/resume", {"reason": "go on"}))["state"] == "running"
    text = service.run_command("webhooks", "cancel-retry", retry, "--reason", "enough")
    assert "0 of 3 delivered, 3 returned" in text
    states = [row["state"] for row in ok(operator.get(f"/webhooks/deliveries?endpoint={endpoint}"))["data"]]
    assert states == ["delivered"] * 3, "as before"
    refused = operator.post(f"/webhooks/retries/{retry}/resume")
    assert_refused(refused, 409, param="id", code="webhook_state", message="it is cancelled")


def test_endpoints_are_listed_with_their_health(
    operator: InternalClient, client: stripe.StripeClient, endpoint: str, receiver: Receiver
) -> None:
    enabled: Any = ["*"]
    broken = client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/x", "enabled_events": enabled}).id
    client.v1.customers.create({"email": "b@example.com"})

    def read() -> list[dict[str, Any]] | None:
        page = ok(operator.get("/webhooks/endpoints"))
        assert page["has_more"] is False
        rows: list[dict[str, Any]] = page["data"]
        return rows if any(row["failing"] for row in rows) else None

    rows = {row["id"]: row for row in wait_until(read)}
    assert list(rows) == sorted([endpoint, broken])
    failing = rows[broken]
    assert (failing["status"], failing["pending"], failing["due"]) == ("enabled", 1, 0)
    assert (failing["last_failure"]["error"], failing["failed_attempts"]) == ("refused", 1)
    assert failing["next_attempt_at"] > failing["failing_since"]
    assert failing["breaker"]["state"] == "closed"
    health = ok(operator.get(f"/webhooks/endpoints/{broken}/health"))
    for name in ("breaker", "failing_since", "next_attempt_at", "pending", "waits_for", "last_failure"):
        assert failing[name] == health[name]
    assert "127.0.0.1" not in json.dumps(rows)
    client.v1.webhook_endpoints.update(broken, {"disabled": True})
    first = ok(operator.get("/webhooks/endpoints?limit=1"))
    assert first["has_more"] is True
    rest = ok(operator.get(f"/webhooks/endpoints?starting_after={first['data'][0]['id']}"))["data"]
    states = {row["id"]: (row["status"], row["waits_for"]) for row in first["data"] + rest}
    assert states[broken] == ("disabled", ["endpoint_disabled"])
    client.v1.webhook_endpoints.delete(broken)
    wait_until(lambda: [row["id"] for row in ok(operator.get("/webhooks/endpoints"))["data"]] == [endpoint])


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"endpoint": "we_none"}, "endpoint", "No such webhook endpoint: 'we_none'"),
    ({"event": "evt_none"}, "event", "No such delivery of the event: 'evt_none'"),
    ({"state": ["forwarded"]}, "state", "must be one of failed, dropped, delivered, pending"),
    ({"types": ["custmer.*"]}, "types", "Did you mean customer.*?"),
    ({"created": {"gte": 32_000_000_000}}, "created", "No delivery can have been made in these times."),
    ({"status": 99}, "status", "status"),
    ({"created": {"since": 1}}, "created[since]", "created[since]"),
    ({"replay": "whr_1"}, "replay", "replay"),
]


def test_what_cannot_be_retried_is_refused_and_changes_nothing(
    service: Service, operator: InternalClient, registrar: Registrar, account: Account, endpoint: str
) -> None:
    for given, param, message in REFUSED:
        refused = operator.post("/webhooks/retries", given)
        code = refused.json()["error"].get("code")
        assert_refused(refused, 400, param=param, code=code, message=re.escape(message))
    key = registrar.key(account.id, "rk", scopes=("projections",))[1]
    forbidden = InternalClient(operator.http, key).post("/webhooks/retries", {"dry_run": True})
    assert_refused(forbidden, 403, code="more_permissions_required", message="lacks the scope 'webhooks'")
    cursor = operator.get("/webhooks/retries?starting_after=wrt_x")
    assert_refused(
        cursor, 400, param="starting_after", code="resource_missing", message="No such retry: 'wrt_x'"
    )
    settings: dict[str, Any] = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    command = ("webhooks", "retry-all", "--account", account.id)
    for arguments, line in (
        (("--state", "lost"), "ledger: --state: Invalid state: must be one of failed"),
        (("--since", "soon"), "ledger: Invalid time: 'soon' is neither"),
        (("--state", "delivered"), "ledger: 3 deliveries would be sent again."),  # there is nobody to ask
    ):
        assert run_refused(service._data_dir, *command, *arguments, **settings).startswith(line)
    assert ok(operator.get("/webhooks/retries"))["data"] == []
