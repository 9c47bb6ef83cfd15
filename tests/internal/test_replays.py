"""Replays over HTTP and from a shell: dry run, progress, and what is refused (internal API §4)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
import stripe

from ledger.cli.webhooks.job_display import follow
from ledger.webhooks.replays.records import get_replay
from tests.api.conftest import parse_log
from tests.api.service import SERVICE_KEY, Account, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.serving.process import run_refused
from tests.store.lossy_proxy import open_lossy_proxy
from tests.webhooks.receiver import Receiver, run_receiver, wait_until

HOOK = "/hooks/replays"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def endpoint(client: stripe.StripeClient, receiver: Receiver) -> str:
    """Made after a customer was created and updated, and a charge was paid."""
    customer = client.v1.customers.create({"email": "a@example.com"})
    client.v1.customers.update(customer.id, {"name": "Ada"})
    client.v1.charges.create({"amount": 500, "currency": "usd", "source": "tok_visa"})
    enabled: Any = ["customer.created", "customer.updated", "charge.succeeded"]
    return client.v1.webhook_endpoints.create({"url": receiver.url(HOOK), "enabled_events": enabled}).id


def wait_for_end(operator: InternalClient, replay: str) -> dict[str, Any]:
    def read() -> Any:
        shown = ok(operator.get(f"/webhooks/replays/{replay}"))
        return shown if shown["ended"] is not None else None

    ended: dict[str, Any] = wait_until(read)
    return ended


def test_a_window_is_counted_then_replayed_and_its_progress_is_shown(
    service: Service, operator: InternalClient, registrar: Registrar, endpoint: str, receiver: Receiver
) -> None:
    body = {"endpoint": endpoint, "from": 0, "types": ["customer.*"], "reason": "for a test"}
    before = ok(operator.get("/webhooks/replays"))
    preview = ok(operator.post("/webhooks/replay", {**body, "dry_run": True}))
    assert before == ok(operator.get("/webhooks/replays")) == {"data": [], "has_more": False}
    assert (preview["object"], preview["total"]) == ("webhook_replay_preview", 2)
    assert preview["by_type"] == {"customer.created": 1, "customer.updated": 1}
    assert [preview["first"]["id"], preview["last"]["id"]] == preview["events"]
    started = ok(operator.post("/webhooks/replay", body, idempotency_key="once"))
    assert started == ok(operator.post("/webhooks/replay", body, idempotency_key="once"))
    ended = wait_for_end(operator, started["id"])
    assert (ended["state"], ended["total"], ended["delivered"]) == ("completed", 2, 2)
    sent = [json.loads(request.body) for request in receiver.requests_to(HOOK)]
    assert {event["id"] for event in sent} == set(preview["events"])
    assert ok(operator.get(f"/webhooks/replays?endpoint={endpoint}"))["data"] == [ended]
    check_deliveries_of(operator, started["id"], endpoint, sorted(preview["events"]))
    key = registrar.key(registrar.account().id, "rk", scopes=("webhooks",))[1]
    theirs = InternalClient(operator.http, key).get(f"/webhooks/deliveries?replay={started['id']}")
    assert_missing(theirs, 400, "replay", f"No such replay: '{started['id']}'")

    def read_lines() -> list[dict[str, Any]]:
        return [line for line in parse_log(service.log) if line.get("replay") == started["id"]]

    wait_until(lambda: len(read_lines()) == 2)
    first, last = read_lines()
    assert (first["event"], first["reason"], first["types"]) == (
        "webhook_replay_started", "for a test", ["customer.*"],
    )  # fmt: skip
    assert (last["event"], last["delivered"]) == ("webhook_replay_completed", 2)


def check_deliveries_of(operator: InternalClient, replay: str, endpoint: str, events: list[str]) -> None:
    """Its deliveries are found by it, and with the other filters."""

    def find(query: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ok(operator.get(f"/webhooks/deliveries?replay={replay}{query}"))["data"]
        return rows

    rows = find()
    assert sorted(row["event"] for row in rows) == events
    assert {row["replay"] for row in rows} == {replay}
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert rows[1:] == find(f"&starting_after={rows[0]['id']}&endpoint={endpoint}")
    assert rows[:1] == find(f"&event={rows[0]['event']}") == find(f"&type={rows[0]['type']}&state=delivered")
    assert find("&state=pending") == []


def test_a_replay_is_stopped_by_calls_and_by_commands(
    service: Service, operator: InternalClient, client: stripe.StripeClient, endpoint: str, receiver: Receiver
) -> None:
    client.v1.webhook_endpoints.update(endpoint, {"url": "http://127.0.0.1:9/"})  # where nothing listens
    started = ok(operator.post("/webhooks/replay", {"endpoint": endpoint, "from": 0}))
    replay = started["id"]
    assert_refused(
        operator.post("/webhooks/replay", {"endpoint": endpoint, "from": 0}), 409, param="endpoint",
        code="webhook_state",
        message=f"The replay {replay} to {endpoint} has not ended: wait for it, or cancel it first.",
    )  # fmt: skip
    wait_until(lambda: ok(operator.get(f"/webhooks/replays/{replay}"))["queued"] == 3)
    assert ok(operator.post(f"/webhooks/replays/{replay}/pause"))["state"] == "paused"
    shown = json.loads(service.run_command("webhooks", "replays", replay, "--json"))
    assert (shown["state"], shown["total"], shown["queued"], shown["pending"]) == ("paused", 3, 3, 3)
    listed = service.run_command("webhooks", "replays", "--endpoint", endpoint).splitlines()
    assert listed[1].split("\t")[2:7] == ["paused", "3", "0", "0", "3"]
    assert ok(operator.post(f"/webhooks/replays/{replay}/resume", {"reason": "go on"}))["state"] == "running"
    text = service.run_command("webhooks", "cancel-replay", replay, "--reason", "enough")
    assert text.startswith(f"{replay} to {endpoint}: cancelled\n")
    assert "0 of 3 delivered, 3 dropped" in text
    refused = operator.post(f"/webhooks/replays/{replay}/resume")
    assert_refused(refused, 409, param="id", code="webhook_state", message="it is cancelled")


def test_the_command_counts_starts_and_follows_a_replay(service: Service, endpoint: str) -> None:
    arguments = ("webhooks", "replay", "--endpoint", endpoint, "--from", "2020-01-01")
    counted = service.run_command(*arguments, "--dry-run").splitlines()
    assert counted[0] == f"3 Events would be sent to {endpoint}."
    assert counted[-1] == "Nothing was changed."
    ended = json.loads(service.run_command(*arguments, "--yes", "--wait", "--json"))
    assert (ended["state"], ended["delivered"]) == ("completed", 3)
    failed = service.run_command(*arguments[:4], "--only-failed", "--dry-run").splitlines()
    assert failed[0] == f"0 Events would be sent to {endpoint}."


def test_who_follows_a_replay_stays_over_a_failover(
    service: Service, operator: InternalClient, endpoint: str
) -> None:
    replay = ok(operator.post("/webhooks/replay", {"endpoint": endpoint, "from": 0}))["id"]

    async def watch() -> str:
        async with open_lossy_proxy(service.dsn) as (way, between):
            between.lose("ledger cli", "answer")
            read = partial(get_replay, replay_id=replay, owner=None)
            state = (await follow(way, read)).state
            assert between.losses == [("ledger cli", "answer")]
            return state

    assert asyncio.run(watch()) == "completed"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"from": 20, "to": 10}, "to", "`to` is before `from`."),
    ({"from": 20, "to": 20}, "to", "The window is empty"),
    ({"from": 0, "to": 32_000_000_000}, "to", "`to` is in the future"),
    ({"from": 32_000_000_000}, "from", "`from` is in the future."),
    ({"from": 0, "types": ["customer.creatd"]}, "types[0]", "customer.created"),
    ({"from": 0, "types": ["charge.succeeded", "custmer.*"]}, "types[1]", "Did you mean customer.*?"),
    ({"from": 0, "types": ["invoice.paid"]}, "types[0]", "is not subscribed to 'invoice.paid'"),
    ({"from": 0, "types": ["*"] * 101}, "types", "Too many types: 101; at most 100 are allowed."),
    ({"from": 0, "object": "cus_none"}, "object", "No such object: 'cus_none'"),
    ({"from": 0, "endpoint": "we_none"}, "endpoint", "No such webhook endpoint: 'we_none'"),
    ({"from": -1}, "from", "from"),
]


def assert_missing(response: httpx.Response, status: int, param: str, message: str) -> None:
    assert_refused(response, status, param=param, code="resource_missing", message=message)


def test_what_cannot_be_replayed_is_refused_and_changes_nothing(
    service: Service,
    operator: InternalClient,
    client: stripe.StripeClient,
    registrar: Registrar,
    account: Account,
    endpoint: str,
) -> None:
    for given, param, message in REFUSED:
        body = {"endpoint": endpoint, **given}
        code = "resource_missing" if message.startswith("No such") else None
        refused = operator.post("/webhooks/replay", body)
        assert_refused(refused, 400, param=param, code=code, message=re.escape(message))
    other = registrar.account()
    stranger = InternalClient(operator.http, registrar.key(other.id, "rk", scopes=("webhooks",))[1])
    live = registrar.key(account.id, "rk", livemode=True, scopes=("webhooks",))[1]
    for caller in (stranger, InternalClient(operator.http, live)):
        listed = caller.get(f"/webhooks/replays?endpoint={endpoint}")
        assert_missing(listed, 400, "endpoint", f"No such webhook endpoint: '{endpoint}'")
        refused = caller.post("/webhooks/replay", {"endpoint": endpoint, "from": 0})
        assert_missing(refused, 400, "endpoint", f"No such webhook endpoint: '{endpoint}'")
    assert_missing(operator.get("/webhooks/replays/whr_none"), 404, "id", "No such replay: 'whr_none'")
    unknown = operator.get("/webhooks/replays?endpoint=we_x")
    assert_missing(unknown, 400, "endpoint", "No such webhook endpoint: 'we_x'")
    cursor = operator.get("/webhooks/replays?starting_after=whr_x")
    assert_missing(cursor, 400, "starting_after", "No such replay: 'whr_x'")
    settings: dict[str, Any] = {"database_url": service.dsn, "secret_key": SERVICE_KEY, "test_clock": True}
    command = ("webhooks", "replay", "--endpoint", endpoint)
    for arguments, line in (
        ((), "ledger: --from: required without --only-failed"),
        (("--from", "yesterday"), "ledger: --from: Invalid time: 'yesterday' is neither"),
        (("--from", "0"), "ledger: 3 Events would be sent"),  # there is nobody to ask
    ):
        assert run_refused(service._data_dir, *command, *arguments, **settings).startswith(line)
    client.v1.webhook_endpoints.delete(endpoint)
    gone = operator.post("/webhooks/replay", {"endpoint": endpoint, "from": 0})
    assert_missing(gone, 400, "endpoint", f"No such webhook endpoint: '{endpoint}'")
    assert ok(operator.get("/webhooks/replays"))["data"] == []
