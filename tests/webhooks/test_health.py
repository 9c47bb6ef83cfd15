"""An endpoint that fails is seen: in the log once per change, in the metrics, and never with its URL."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import psycopg
import stripe

from ledger.postgres.connections import open_connection
from ledger.webhooks import deliveries
from ledger.webhooks.health import HealthChange
from tests.api.conftest import parse_log
from tests.api.service import Account, Caller, Service
from tests.projections.histories import Author, catch_up, run_story
from tests.webhooks.conftest import Ask
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until
from tests.webhooks.test_fanout import create_endpoint, run_webhooks, update_endpoint

HEALTH = "SELECT failing, attempts, given_up, status, error FROM webhooks.endpoint_health WHERE endpoint = %s"
END_LOG_PAUSE = """
UPDATE webhooks.endpoint_health
SET failure_logged_at = failure_logged_at - interval '1 hour',
    given_up_logged_at = given_up_logged_at - interval '1 hour', began_at = began_at - interval '1 hour'
WHERE endpoint = %s RETURNING endpoint
"""
INSERT_DELIVERY = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, due_at)
VALUES (%s, %s, 'we_1', 'acct_1', false, 0, 0, 0, 'customer.created', now())
"""
PROCESSES = 8
TIMES = ("time", "pid", "since", "delivery", "event_id", "level")


def read_lines(service: Service, endpoint: str) -> list[dict[str, Any]]:
    """What the log says of an endpoint at the default level, without times and ids."""
    return [
        {name: value for name, value in entry.items() if name not in TIMES}
        for entry in parse_log(service.log)
        if entry.get("endpoint") == endpoint and entry["level"] != "debug"
    ]


def read_events(service: Service, endpoint: str) -> list[str]:
    return [line["event"] for line in read_lines(service, endpoint)]


def is_withdrawn(service: Service, endpoint: str, reason: str) -> bool:
    last = read_lines(service, endpoint)[-1]
    return (last["event"], last.get("reason")) == ("webhook_endpoint_withdrawn", reason)


def read_gauges(raw: Caller, endpoint: str) -> dict[str, float]:
    """The metrics of an endpoint that fails, by the last part of their names."""
    lines = [line for line in raw.get("/metrics").text.splitlines() if f'"{endpoint}"' in line]
    prefix = "ledger_webhook_failing_"
    return {line.partition("{")[0].removeprefix(prefix): float(line.rpartition(" ")[2]) for line in lines}


def test_the_log_has_one_line_for_each_change_of_an_endpoint_that_fails(
    client: stripe.StripeClient,
    account: Account,
    service: Service,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
) -> None:
    receiver.scripts[path] = [ScriptedResponse(503, b"not secret, but nobody's business")]
    for number in range(3):
        client.v1.customers.create({"name": str(number)})
    receiver.wait_for(path, 9)
    wait_until(lambda: ask(HEALTH, endpoint.id) == [(True, 9, 3, 503, None)])
    receiver.scripts[path] = [ScriptedResponse(200)]
    client.v1.customers.create({})
    wait_until(lambda: "webhook_endpoint_recovered" in read_events(service, endpoint.id))
    failing, given_up, recovered = read_lines(service, endpoint.id)
    facts = {"endpoint": endpoint.id, "account": account.id, "mode": "test"}
    assert failing == {
        "event": "webhook_endpoint_failing", **facts, "attempts": 1, "given_up": 0, "status": 503,
    }  # fmt: skip
    assert given_up["event"] == "webhook_delivery_given_up"
    assert (given_up["given_up"], given_up["status"]) == (1, 503)
    assert recovered == {"event": "webhook_endpoint_recovered", **facts, "attempts": 9, "given_up": 3}
    assert ask(HEALTH, endpoint.id) == [(False, 9, 3, 503, None)]
    assert "business" not in service.log


def test_an_endpoint_that_fails_and_recovers_all_the_time_does_not_fill_the_log(
    client: stripe.StripeClient,
    service: Service,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
) -> None:
    receiver.scripts[path] = [ScriptedResponse(status) for status in (500, 200, 500, 200, 500, 200)]
    for number in range(3):
        client.v1.customers.create({"name": str(number)})
        receiver.wait_for(path, 2 * (number + 1))
    wait_until(lambda: ask(HEALTH, endpoint.id)[0][0] is False)
    assert read_events(service, endpoint.id) == ["webhook_endpoint_failing", "webhook_endpoint_recovered"]
    ask(END_LOG_PAUSE, endpoint.id)
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(200)]
    client.v1.customers.create({})
    wait_until(lambda: read_events(service, endpoint.id).count("webhook_endpoint_recovered") == 2)
    assert read_events(service, endpoint.id).count("webhook_endpoint_failing") == 2


def test_metrics_and_status_name_the_endpoints_that_fail_and_no_others(
    service: Service,
    client: stripe.StripeClient,
    raw: Caller,
    account: Account,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    ask: Ask,
) -> None:
    working = client.v1.webhook_endpoints.create(
        {"url": receiver.url(path + "/works"), "enabled_events": ["*"]}
    )
    receiver.scripts[path] = [ScriptedResponse(500)]
    client.v1.customers.create({})
    receiver.wait_for(path, 1)
    receiver.wait_for(path + "/works", 1)
    wait_until(lambda: ask(HEALTH, endpoint.id))
    gauges = read_gauges(raw, endpoint.id)
    assert list(gauges) == ["seconds", "attempts", "pending", "given_up"]
    assert (gauges["pending"], gauges["given_up"]) == (1, 0)
    assert read_gauges(raw, working.id) == {}
    labels = f'{{account="{account.id}",endpoint="{endpoint.id}",mode="test"}}'
    assert f"ledger_webhook_failing_seconds{labels} " in raw.get("/metrics").text
    wait_until(lambda: ask(HEALTH, endpoint.id) == [(True, 3, 1, 500, None)])
    gauges = read_gauges(raw, endpoint.id)
    assert gauges.pop("seconds") >= 1
    assert gauges == {"attempts": 3, "pending": 0, "given_up": 1}
    assert "\nledger_webhook_failing_endpoints 0.0" not in raw.get("/metrics").text
    status = service.run_command("webhooks", "status")
    line = next(line for line in status.splitlines() if endpoint.id in line)
    assert line.startswith(f"Failing: {endpoint.id} of {account.id} (test) since 20")
    assert line.endswith(": status 500; 3 attempts, 0 pending, 1 given up.")
    assert working.id not in status


def test_an_endpoint_that_is_disabled_or_deleted_fails_no_longer(
    client: stripe.StripeClient, service: Service, receiver: Receiver, path: str, ask: Ask
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]
    endpoints = [
        client.v1.webhook_endpoints.create({"url": receiver.url(path), "enabled_events": ["*"]})
        for _ in range(2)
    ]
    client.v1.customers.create({})
    for endpoint in endpoints:
        wait_until(partial(ask, HEALTH, endpoint.id))
    client.v1.webhook_endpoints.update(endpoints[0].id, {"disabled": True})
    client.v1.webhook_endpoints.delete(endpoints[1].id)
    for endpoint, reason in zip(endpoints, ("disabled", "deleted"), strict=True):
        wait_until(partial(is_withdrawn, service, endpoint.id, reason))
        assert ask(HEALTH, endpoint.id)[0][0] is False


def test_a_failing_endpoint_to_which_nothing_is_pending_is_withdrawn_too(
    dsn: str, receiver: Receiver, path: str
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500)]

    def load_health() -> list[bool]:
        with psycopg.connect(dsn) as conn:
            return [row[0] for row in conn.execute("SELECT failing FROM webhooks.endpoint_health")]

    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        async with run_webhooks(author, webhook_retry_seconds_test=()):
            await asyncio.to_thread(wait_until, lambda: load_health() == [True])
            await update_endpoint(author, endpoint, disabled=True)
        async with run_webhooks(author):
            await asyncio.to_thread(wait_until, lambda: load_health() == [False])

    run_story(dsn, story)
    assert len(receiver.requests_to(path)) == 1


def test_of_failures_that_are_recorded_together_one_is_logged(dsn: str) -> None:
    async def record_all() -> list[HealthChange | None]:
        attempt = deliveries.Attempt(1.0, 1, None, None, "refused")
        async with open_connection(dsn, "ledger_api", name="test") as conn, conn.transaction():
            return [
                await deliveries.record_outcome(
                    conn, f"dlv_{number}", "failed", account="acct_1", attempt=attempt
                )
                for number in range(PROCESSES)
            ]

    with psycopg.connect(dsn) as conn:
        conn.cursor().executemany(INSERT_DELIVERY, [(f"dlv_{number}", number) for number in range(PROCESSES)])
    changes = [change for change in asyncio.run(record_all()) if change is not None]
    assert [(change.news, change.gives_up, change.attempts) for change in changes] == [(True, True, 1)]


def test_of_processes_that_see_an_endpoint_fail_at_once_one_logs_it(dsn: str) -> None:
    async def record(number: int) -> HealthChange | None:
        attempt = deliveries.Attempt(1.0, 1, None, None, "refused")
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await barrier.wait()
            return await deliveries.record_outcome(
                conn, f"dlv_{number}", "failed", account="acct_1", attempt=attempt
            )

    async def record_all() -> list[HealthChange | None]:
        return await asyncio.gather(*map(record, range(PROCESSES)))

    barrier = asyncio.Barrier(PROCESSES)
    with psycopg.connect(dsn) as conn:
        conn.cursor().executemany(INSERT_DELIVERY, [(f"dlv_{number}", number) for number in range(PROCESSES)])
    changes = [change for change in asyncio.run(record_all()) if change is not None]
    assert [(change.news, change.gives_up, change.attempts) for change in changes] == [(True, True, 1)]
    with psycopg.connect(dsn) as conn:
        assert conn.execute(HEALTH, ["we_1"]).fetchall() == [(True, PROCESSES, PROCESSES, None, "refused")]
