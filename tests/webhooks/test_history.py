"""Deliveries looked up and sent again by operators, over HTTP (internal API §4)."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from ledger.ids import new_id
from ledger.postgres.connections import open_connection
from ledger.webhooks.history.deliveries import list_deliveries, read_delivery
from ledger.webhooks.history.filters import DeliveryFilters
from ledger.webhooks.history.retry import Request, retry_delivery
from tests.api.conftest import parse_log
from tests.api.service import (
    SERVICE_KEY,
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    create_client,
    ok,
)
from tests.projections.corruption import UNREADABLE, store_record
from tests.projections.histories import Author, catch_up, run_story
from tests.serving.process import run_refused
from tests.webhooks.conftest import Ask
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until
from tests.webhooks.test_fanout import create_endpoint, fan_out
from tests.webhooks.test_order import configure

INSERT_FORWARDED = """
INSERT INTO webhooks.deliveries
    (id, event, endpoint, account, livemode, created, position, ordinal, type, state, tries, due_at)
SELECT %s, event, 'wsl_test', account, livemode, created, position, ordinal, type, 'forwarded', 1, due_at
FROM webhooks.deliveries WHERE id = %s RETURNING id
"""
DEPLOYMENT = {"secret_key": SERVICE_KEY, "test_clock": True}
DELIVERIES = "/internal/v1/webhooks/deliveries"


@pytest.fixture
def desk(operator: Caller) -> Desk:
    return Desk(operator)


class Desk:
    """What an operator asks of deliveries."""

    def __init__(self, operator: Caller) -> None:
        self.operator = operator

    def find(self, query: str = "") -> list[dict[str, Any]]:
        page = ok(self.operator.get(f"{DELIVERIES}?{query}"))
        assert set(page) == {"data", "has_more"}
        rows: list[dict[str, Any]] = page["data"]
        return rows

    def read(self, delivery: str) -> dict[str, Any]:
        record: dict[str, Any] = ok(self.operator.get(f"{DELIVERIES}/{delivery}"))
        return record

    def retry(self, delivery: str, **headers: str) -> Any:
        return self.operator.post(f"{DELIVERIES}/{delivery}/retry", **headers)

    def wait_for(self, delivery: str, state: str) -> dict[str, Any]:
        """The delivery once it is in this state."""
        wait_until(lambda: self.read(delivery)["state"] == state)
        return self.read(delivery)

    def wait_for_all(self, state: str, count: int) -> list[dict[str, Any]]:
        """The account's deliveries in this state, newest first, once there are so many."""
        found: list[dict[str, Any]] = wait_until(
            lambda: len(rows := self.find(f"state={state}")) == count and rows
        )
        return found


def test_a_delivery_shows_each_attempt_with_what_the_receiver_answered(
    desk: Desk, raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    """What is no UTF-8 is shown as what it is, a character cut by the limit is left out."""
    long = b"x" + "é".encode() * 1100
    receiver.scripts[path] = [ScriptedResponse(503, b"not\xff now"), ScriptedResponse(201, long)]
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    record = desk.read(delivery["id"])
    (event,) = raw.events()
    first, second = record["attempts"]
    assert (record["event"], record["event_created"], record["type"]) == (
        event["id"], event["created"], "customer.created",
    )  # fmt: skip
    assert (record["endpoint"], record["state"], record["attempt_count"]) == (endpoint.id, "delivered", 2)
    assert (first["number"], first["status"], first["error"]) == (1, 503, None)
    assert (first["answer"], first["answer_is_text"], first["answer_is_cut"]) == (
        "not\\xff now",
        False,
        False,
    )
    assert (second["answer"], second["answer_is_text"]) == ("x" + "é" * 1023, True)
    assert second["answer_is_cut"] is True
    assert 1 <= second["at"] - first["at"] < 30
    assert (record["next_attempt_at"], record["waits_for"], record["in_flight"]) == (None, [], False)
    assert record["last_attempt"] == {name: second[name] for name in record["last_attempt"]}
    assert delivery == {name: record[name] for name in delivery}
    assert "/hooks/" not in str(record)


def test_lists_are_filtered_and_paged_newest_first(
    desk: Desk, raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    other = ok(
        raw.post(
            "/v1/webhook_endpoints",
            {"url": receiver.url(path + "/b"), "enabled_events[]": "customer.deleted"},
        )
    )
    customers = [raw.customer()["id"] for _ in range(3)]
    raw.delete(f"/v1/customers/{customers[0]}")
    rows = desk.wait_for_all("delivered", 5)
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert sorted(row["endpoint"] for row in rows).count(other["id"]) == 1

    def select(query: str) -> list[str]:
        return [row["id"] for row in desk.find(query)]

    first_page = ok(desk.operator.get(f"{DELIVERIES}?limit=2"))
    assert ([row["id"] for row in first_page["data"]], first_page["has_more"]) == (ids[:2], True)
    last_page = ok(desk.operator.get(f"{DELIVERIES}?limit=3&starting_after={ids[1]}"))
    assert ([row["id"] for row in last_page["data"]], last_page["has_more"]) == (ids[2:], False)
    of_endpoint = [row["id"] for row in rows if row["endpoint"] == endpoint.id]
    assert select(f"endpoint={endpoint.id}") == of_endpoint
    assert select(f"endpoint={endpoint.id}&type=customer.created&limit=2") == of_endpoint[1:3]
    assert select("type=charge.*&type=customer.deleted") == [
        row["id"] for row in rows if row["type"] == "customer.deleted"
    ]
    assert select(f"event={rows[-1]['event']}") == [ids[-1]]
    assert select(f"event={rows[0]['event']}&endpoint={endpoint.id}") == [
        row["id"] for row in rows[:2] if row["endpoint"] == endpoint.id
    ]
    assert select("state=pending&state=failed") == []
    assert select("state=failed&state=delivered") == ids
    since, until = int(rows[-1]["created"]), int(rows[0]["created"])
    assert select(f"created[gte]={since}&created[lte]={until}") == ids
    assert select(f"created[gt]={until}") == select(f"created[lt]={since}") == []


def test_what_belongs_to_somebody_else_does_not_exist(
    desk: Desk,
    raw: Caller,
    service: Service,
    registrar: Registrar,
    account: Account,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
) -> None:
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    stranger = registrar.account()
    keys = (
        registrar.key(stranger.id, "rk", scopes=["webhooks"])[1],
        registrar.key(account.id, "rk", livemode=True, scopes=["webhooks"])[1],
    )
    for key in keys:
        theirs = Desk(Caller(desk.operator.http, key))
        assert theirs.find() == []
        assert_refused(
            theirs.operator.get(f"{DELIVERIES}?event={delivery['event']}"),
            code="resource_missing", param="event", message="No such event",
        )  # fmt: skip
        for response in (theirs.operator.get(f"{DELIVERIES}/{delivery['id']}"), theirs.retry(delivery["id"])):
            assert_refused(response, 404, code="resource_missing", param="id", message="No such delivery")
        assert_refused(
            theirs.operator.get(f"{DELIVERIES}?endpoint={endpoint.id}"),
            code="resource_missing", param="endpoint", message="No such webhook endpoint",
        )  # fmt: skip
        assert_refused(
            theirs.operator.get(f"{DELIVERIES}?starting_after={delivery['id']}"),
            code="resource_missing", param="starting_after", message="No such delivery",
        )  # fmt: skip
        assert_refused(
            theirs.operator.get(f"/internal/v1/webhooks/endpoints/{endpoint.id}/health"),
            404, code="resource_missing", param="id", message="No such webhook endpoint",
        )  # fmt: skip
    without_scope = Caller(desk.operator.http, registrar.key(account.id, "rk", scopes=["audit"])[1])
    assert_refused(
        without_scope.get(DELIVERIES), 403, code="more_permissions_required", message="scope 'webhooks'"
    )
    assert len(receiver.requests_to(path)) == 1
    assert desk.read(delivery["id"])["attempt_count"] == 1


def test_a_platform_sees_what_went_to_its_endpoints_for_connected_accounts(
    desk: Desk,
    client: stripe.StripeClient,
    account: Account,
    service: Service,
    registrar: Registrar,
    receiver: Receiver,
    path: str,
) -> None:
    connected = registrar.account(platform=account.id)
    client.v1.webhook_endpoints.create({"url": receiver.url(path), "enabled_events": ["*"], "connect": True})
    create_client(service, connected.secret).v1.customers.create({})
    (delivery,) = desk.wait_for_all("delivered", 1)
    assert delivery["account"] == connected.id
    assert ok(desk.operator.get(DELIVERIES, stripe_account=connected.id))["data"] == []
    assert_refused(
        desk.operator.get(f"{DELIVERIES}/{delivery['id']}", stripe_account=connected.id),
        404, code="resource_missing", param="id", message="No such delivery",
    )  # fmt: skip


def test_a_query_that_is_wrong_names_the_parameter(desk: Desk) -> None:
    for query, param, code, message in (
        ("state=lost", "state", None, "must be one of pending, delivered, failed"),
        ("stat=failed", "stat", "parameter_unknown", "Did you mean"),
        ("limit=101", "limit", None, "100"),
        ("created[gte]=yesterday", "created[gte]", None, "integer"),
        ("endpoint=we_none", "endpoint", "resource_missing", "No such webhook endpoint: 'we_none'"),
        ("replay=whr_none", "replay", "resource_missing", "No such replay: 'whr_none'"),
        ("event=%00", "event[0]", None, "NUL"),
        ("replay=%00", "replay", None, "NUL"),
        ("event=evt_none", "event", "resource_missing", "No such event: 'evt_none'"),
        ("type=%00", "type[0]", None, "NUL"),
        ("type=charge.lost", "type", None, "must be one of charge.captured"),
        ("type=customer.del*", "type", None, "no event type matches 'customer.del\\*'"),
        ("starting_after=dlv_none", "starting_after", "resource_missing", "No such delivery: 'dlv_none'"),
    ):
        assert_refused(desk.operator.get(f"{DELIVERIES}?{query}"), code=code, param=param, message=message)
    assert desk.find("endpoint=wsl_none") == []


def test_a_delivery_is_sent_again_with_the_whole_schedule_before_it(
    desk: Desk, raw: Caller, service: Service, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    """Also one that was accepted. Earlier attempts stay, and numbers go on."""
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    receiver.scripts[path] = [ScriptedResponse(500)]
    answer = ok(desk.retry(delivery["id"]))
    assert (answer["id"], answer["state"], answer["attempt_count"]) == (delivery["id"], "pending", 1)
    record = desk.wait_for(delivery["id"], "failed")
    assert [(each["number"], each["status"]) for each in record["attempts"]] == [
        (1, 200), (2, 500), (3, 500), (4, 500),
    ]  # fmt: skip
    assert raw.events()[0]["pending_webhooks"] == 1

    receiver.scripts[path] = [ScriptedResponse(200)]
    key = {"idempotency_key": "again"}
    answers = [desk.retry(delivery["id"], **key) for _ in range(2)]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    first, second = (ok(answer) for answer in answers)
    for each in (first, second):  # what the receiver answered is not kept a second time, with the reply
        for attempt in each["attempts"]:
            attempt |= {"answer": None, "answer_is_text": None, "answer_is_cut": None}
    assert first == second
    assert desk.wait_for(delivery["id"], "delivered")["attempt_count"] == 5
    (replayed,) = {answers[1].headers["original-request"]}
    assert replayed == answers[0].headers["request-id"]
    assert len(receiver.requests_to(path)) == 5

    lines = wait_until(
        lambda: (
            len(found := [line for line in parse_log(service.log) if is_retry(line, delivery["id"])]) == 2
            and found
        )
    )
    assert {(line["event_id"], line["endpoint"], line["mode"]) for line in lines} == {
        (delivery["event"], endpoint.id, "test")
    }
    assert all(line["who"].startswith("key_") for line in lines)


def is_retry(line: dict[str, Any], delivery: str) -> bool:
    return line["event"] == "webhook_delivery_retried" and line["delivery"] == delivery


@pytest.mark.parametrize("status", [200, 500])
def test_a_retry_while_an_attempt_is_under_way_makes_no_second_one_beside_it(
    desk: Desk,
    raw: Caller,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    status: int,
) -> None:
    """If it is accepted, that was it; if it fails, the next one follows at once."""
    assert endpoint
    release = threading.Event()
    receiver.scripts[path] = [ScriptedResponse(status, release=release), ScriptedResponse(200)]
    raw.customer()
    receiver.wait_for(path, 1)
    (delivery,) = desk.find("state=pending")
    answer = ok(desk.retry(delivery["id"]))
    assert (answer["in_flight"], answer["attempts"]) == (True, [])
    assert len(receiver.requests_to(path)) == 1
    release.set()
    record = desk.wait_for(delivery["id"], "delivered")
    statuses = [status] if status == 200 else [status, 200]
    assert [each["status"] for each in record["attempts"]] == statuses
    assert len(receiver.requests_to(path)) == len(statuses)


def test_nothing_is_sent_again_to_an_endpoint_that_is_disabled_or_deleted(
    desk: Desk, raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    ok(raw.post(f"/v1/webhook_endpoints/{endpoint.id}", {"disabled": "true"}))
    for message, health in (("is disabled", "disabled"), ("is deleted", "deleted")):
        assert_refused(desk.retry(delivery["id"]), 409, code="webhook_state", message=message)
        report = ok(desk.operator.get(f"/internal/v1/webhooks/endpoints/{endpoint.id}/health"))
        assert (report["status"], report["waits_for"]) == (health, [f"endpoint_{health}"])
        raw.delete(f"/v1/webhook_endpoints/{endpoint.id}")
    assert desk.find() == [delivery]  # a deleted endpoint keeps its history
    assert len(receiver.requests_to(path)) == 1
    assert_refused(
        desk.retry("dlv_none"), 404, code="resource_missing", param="id", message="No such delivery"
    )


def test_what_went_to_a_listener_of_the_stripe_cli_is_shown_and_not_sent_again(
    desk: Desk, raw: Caller, registrar: Registrar, ask: Ask, endpoint: stripe.WebhookEndpoint
) -> None:
    """It belongs to the account of the Event, and is owed to nobody."""
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    forwarded = new_id("dlv", time.time() + 1)
    ask(INSERT_FORWARDED, forwarded, delivery["id"])
    rows = desk.find()
    assert [(row["id"], row["endpoint"], row["state"]) for row in rows] == [
        (forwarded, "wsl_test", "forwarded"),
        (delivery["id"], endpoint.id, "delivered"),
    ]
    for query in ("state=forwarded", "endpoint=wsl_test", f"event={delivery['event']}&state=forwarded"):
        assert desk.find(query) == rows[:1]
    assert desk.read(forwarded)["next_attempt_at"] is None
    assert raw.events()[0]["pending_webhooks"] == 0
    stranger = Desk(Caller(raw.http, registrar.key(registrar.account().id, "rk", scopes=["webhooks"])[1]))
    assert stranger.find("endpoint=wsl_test") == stranger.find("state=forwarded") == []
    assert_refused(desk.retry(forwarded), 409, code="webhook_state", message="stripe events resend")
    assert desk.find("state=forwarded") == rows[:1]
    reported = ask("SELECT id, state FROM reporting.webhook_deliveries WHERE event = %s", delivery["event"])
    assert reported == [(delivery["id"], "delivered")], "reports are about what is owed"


def test_the_health_of_an_endpoint_tells_what_fails_and_what_waits(
    desk: Desk, raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    def read() -> dict[str, Any]:
        report: dict[str, Any] = ok(
            desk.operator.get(f"/internal/v1/webhooks/endpoints/{endpoint.id}/health")
        )
        return report

    unused = read()
    assert (unused["status"], unused["failing"], unused["pending"], unused["due"]) == ("enabled", False, 0, 0)
    assert unused["recent_attempts"] == {
        "count": 0, "median_ms": None, "p95_ms": None, "since": None, "success_share": None,
    }  # fmt: skip
    assert unused["last_success"] is unused["last_failure"] is None
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)
    receiver.scripts[path] = [ScriptedResponse(500)]
    raw.customer()
    (given_up,) = desk.wait_for_all("failed", 1)
    report = read()
    assert (report["failing"], report["failed_attempts"], report["given_up"]) == (True, 3, 1)
    assert report["failing_since"] == desk.read(given_up["id"])["attempts"][0]["at"]
    assert report["last_failure"] == {"at": given_up["last_attempt"]["at"], "status": 500, "error": None}
    assert report["last_success"]["delivery"] == delivery["id"]
    recent = report["recent_attempts"]
    assert (recent["count"], recent["success_share"]) == (4, 0.25)
    assert 0 <= recent["median_ms"] <= recent["p95_ms"]
    assert (report["pending"], report["next_attempt_at"], report["oldest_due_at"]) == (0, None, None)
    assert "/hooks/" not in str(report)


def test_the_command_line_shows_the_same_and_sends_again(
    desk: Desk,
    raw: Caller,
    service: Service,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
    tmp_path: Path,
) -> None:
    receiver.scripts[path] = [ScriptedResponse(200, b"fine\x1b[2J\nsecond line")]
    raw.customer()
    (delivery,) = desk.wait_for_all("delivered", 1)

    def run(*arguments: str) -> str:
        return service.run_command("webhooks", *arguments)

    listed = ("deliveries", "--endpoint", endpoint.id, "--since", "2020-01-01", "--state", "delivered")
    assert json.loads(run(*listed, "--json")) == {"data": [delivery], "has_more": False}
    header, row = run(*listed).splitlines()
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (cells["delivery"], cells["event"], cells["last"]) == (delivery["id"], delivery["event"], "200")
    assert json.loads(run("delivery", delivery["id"], "--json")) == desk.read(delivery["id"])
    shown = run("delivery", delivery["id"])
    assert f"{delivery['id']}: delivered, 1 attempt, last: 200" in shown
    assert "    fine\\x1b[2J\n    second line\n" in shown
    assert "delivered" not in run("retry", delivery["id"]).splitlines()[0]
    receiver.wait_for(path, 2)
    desk.wait_for(delivery["id"], "delivered")
    report = json.loads(run("health", endpoint.id, "--json"))
    assert report == ok(desk.operator.get(f"/internal/v1/webhooks/endpoints/{endpoint.id}/health"))
    assert "Last 2 attempts since" in run("health", endpoint.id)
    (line,) = wait_until(lambda: [line for line in parse_log(service.log) if is_retry(line, delivery["id"])])
    assert "@" in line["who"]

    for arguments, message in (
        (("delivery", "dlv_none"), "ledger: No such delivery: 'dlv_none'"),
        (("retry", "dlv_none"), "ledger: No such delivery: 'dlv_none'"),
        (("health", "we_none"), "ledger: No such webhook endpoint: 'we_none'"),
        (("deliveries", "--endpoint", "we_none"), "ledger: No such webhook endpoint: 'we_none'"),
        (("deliveries", "--state", "lost"), "ledger: Invalid state: must be one of pending, delivered, "),
        (("deliveries", "--since", "soon"), "ledger: Invalid time: 'soon' is neither"),
    ):
        refused = run_refused(tmp_path, "webhooks", *arguments, database_url=service.dsn, **DEPLOYMENT)
        assert refused.startswith(message)


def test_a_delivery_is_shown_while_its_endpoint_cannot_be_read(dsn: str) -> None:
    async def story(author: Author) -> None:
        await create_endpoint(author)  # 1
        await author.create_customer()  # 2
        await catch_up(dsn)
        assert await fan_out(author) == 1
        codec, now = author.store.codec, author.store.clock.now()
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            (delivery,), _ = await list_deliveries(
                conn, None, DeliveryFilters(), limit=10, starting_after=None
            )
            assert (await read_delivery(conn, codec, delivery.id, None, now)).waits_for == []
            was = await store_record(dsn, 1, UNREADABLE["no JSON"][0])
            record = await read_delivery(conn, codec, delivery.id, None, now)
            assert record.waits_for == ["endpoint_unreadable"]
            await store_record(dsn, 1, was)

    run_story(dsn, story)


def test_a_delivery_that_is_retried_shows_that_it_waits_for_an_earlier_event(dsn: str) -> None:
    async def story(author: Author) -> None:
        await configure(author, await create_endpoint(author), ordered=True)
        await author.update_customer(await author.create_customer(), name="a")
        await catch_up(dsn)
        assert await fan_out(author) == 2
        codec, now = author.store.codec, author.store.clock.now()
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            (second, first), _ = await list_deliveries(
                conn, None, DeliveryFilters(), limit=10, starting_after=None
            )
            async with conn.transaction():
                await retry_delivery(conn, codec, second.id, None, Request("op@host", now))
            for delivery, waits_for in ((first, []), (second, ["earlier_event"])):
                assert (await read_delivery(conn, codec, delivery.id, None, now)).waits_for == waits_for

    run_story(dsn, story)
