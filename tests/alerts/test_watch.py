"""Faults of a running deployment become alerts by themselves, and end by themselves; receivers are told.

All faults are made at once, and mended at once: each takes seconds to be sure of, however many there are.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psycopg
import pytest
import stripe
from standardwebhooks import Webhook

from ledger.alerts.watcher import LOOK_SECONDS
from tests.alerts.deployment import Deployment, measure, run_deployment
from tests.api.conftest import SECRETS
from tests.conftest import Cluster
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver, wait_until

TOKEN = "T0ken-of-the-receiver"  # stands for one: nothing may show it
OK, LATE, HOOK = f"/ok/{TOKEN}", f"/late/{TOKEN}", f"/hook/{TOKEN}"
DAY = 86_400


class Story(NamedTuple):
    """What happened: the deployment, the receiver, its secrets by path, the ids of what was hurt, the alerts
    as they were shown while they were active, one that was cleared, and the process that held locks."""

    deployment: Deployment
    receiver: Receiver
    secrets: dict[str, str]
    ids: dict[str, str]
    active: dict[str, dict[str, Any]]
    cleared: dict[str, Any]
    blocker: int

    def get_bodies(self, path: str) -> list[dict[str, Any]]:
        """What came to a path, each event once."""
        bodies = [json.loads(request.body) for request in self.receiver.requests_to(path)]
        return list({body["id"]: body for body in bodies}.values())

    def get_types(self, key: str, path: str = OK) -> list[str]:
        return [body["type"] for body in self.get_bodies(path) if body["data"]["object"].get("key") == key]


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Iterator[Story]:
    with (
        cluster.create_database() as dsn,
        TemporaryDirectory() as place,
        run_receiver() as receiver,
        run_deployment(dsn, Path(place), "api 1", "api 2", "worker") as deployment,
    ):
        yield _tell(deployment, receiver)


def _tell(deployment: Deployment, receiver: Receiver) -> Story:
    receiver.scripts[LATE] = [ScriptedResponse(503)] * 3 + [ScriptedResponse(200)]
    receiver.scripts[HOOK] = [ScriptedResponse(500)]
    secrets = {}
    for path in (OK, LATE):
        added = deployment.call("POST", "/alerts/receivers", {"url": receiver.url(path)})
        secrets[path] = added.json()["secret"]
    ids = _hurt(deployment, receiver)
    keys = {
        "projection_stalled/refunds", "unsealed_events", f"endpoint_failing/{ids['endpoint']}",
        "projection_drift/customers", f"disputes_due/{deployment.account.id}/test",
    }  # fmt: skip
    with psycopg.connect(deployment.dsn, application_name="a forgotten shell") as blocker:
        blocker.execute(
            "SELECT FROM projections.checkpoints WHERE projection = 'refunds' FOR UPDATE; "
            "SELECT FROM ledger.tree_head FOR UPDATE"
        )
        pid = blocker.info.backend_pid
        began_at = time.monotonic()
        deployment.post("/v1/customers", {"name": "Nobody applies this"})
        deployment.call("POST", "/clock", {"advance_seconds": 6 * DAY})
        deployment.call("POST", "/projections/customers/verify", {})
        wait_until(lambda: keys <= deployment.list_keys())
        print(f"all raised after {measure(began_at)}")
        cleared = _clear_disputes(deployment)
        wait_until(lambda: _is_held_named(deployment) and _is_critical(deployment, "unsealed_events"))
        time.sleep(LOOK_SECONDS)  # another look, which finds the condition of the cleared one
        assert not _find_active(deployment, "disputes_due")
        deployment.call("POST", "/clock", {"now": cleared["details"]["first_due_at"] - 3600})
        wait_until(lambda: _find_active(deployment, "disputes_due"))
        active = {
            each["key"]: each
            for each in deployment.call("GET", "/alerts?state=active&limit=100").json()["data"]
        }
    _mend(deployment, receiver, ids)
    began_at = time.monotonic()
    wait_until(lambda: not deployment.list_keys())
    print(f"all resolved after {measure(began_at)}")
    wait_until(lambda: not any(each["pending"] for each in _list_receivers(deployment)))
    return Story(deployment, receiver, secrets, ids, active, cleared, pid)


def _clear_disputes(deployment: Deployment) -> dict[str, Any]:
    """Clear the alert of disputes, twice; returns its record."""
    ((alert),) = _find_active(deployment, "disputes_due")
    path, body = f"/alerts/{alert['id']}/clear", {"reason": "we accept this one"}
    assert deployment.call("POST", path, {}).json()["error"]["param"] == "reason"
    cleared: dict[str, Any] = deployment.call("POST", path, body, idempotency_key="clear-1").json()
    assert deployment.call("POST", path, body).json() == cleared
    return cleared


def _hurt(deployment: Deployment, receiver: Receiver) -> dict[str, str]:
    """What can be hurt before anything is locked: an endpoint that fails, a row, a dispute."""
    customer = deployment.post("/v1/customers", {"email": "one@example.com"})["id"]
    deployment.post("/v1/charges", {"amount": "2000", "currency": "usd", "source": "tok_createDispute"})
    wait_until(lambda: deployment.ask("SELECT 1 FROM projections.disputes"))
    ((dispute,),) = deployment.ask("SELECT id FROM projections.disputes")
    wait_until(lambda: deployment.ask("SELECT 1 FROM projections.customers WHERE id = %s", customer))
    hurt = "UPDATE projections.customers SET email = 'x' WHERE id = %s RETURNING id"
    assert deployment.ask(hurt, customer)
    url = receiver.url(HOOK)
    endpoint = deployment.post("/v1/webhook_endpoints", {"url": url, "enabled_events[]": "customer.created"})
    deployment.post("/v1/customers", {"name": "Nobody is told of this"})
    return {"customer": customer, "dispute": dispute, "endpoint": endpoint["id"]}


def _mend(deployment: Deployment, receiver: Receiver, ids: dict[str, str]) -> None:
    receiver.scripts[HOOK] = [ScriptedResponse(200)]
    deployment.call("POST", "/clock", {"advance_seconds": 1200})  # its breaker lets another attempt through
    heal = "UPDATE projections.customers SET email = 'one@example.com' WHERE id = %s RETURNING id"
    assert deployment.ask(heal, ids["customer"])
    deployment.post(f"/v1/disputes/{ids['dispute']}/close")
    assert deployment.call("POST", "/projections/customers/verify", {}).json()["differing"] == 0


def _find_active(deployment: Deployment, kind: str) -> list[dict[str, Any]]:
    answer = deployment.call("GET", "/alerts?state=active&limit=100").json()
    return [each for each in answer["data"] if each["kind"] == kind]


def _is_critical(deployment: Deployment, kind: str) -> bool:
    return any(each["severity"] == "critical" for each in _find_active(deployment, kind))


def _is_held_named(deployment: Deployment) -> bool:
    kinds = ("projection_stalled", "unsealed_events")
    return all(each["details"]["held_by"] for kind in kinds for each in _find_active(deployment, kind))


def _list_receivers(deployment: Deployment) -> list[dict[str, Any]]:
    receivers: list[dict[str, Any]] = deployment.call("GET", "/alerts/receivers").json()["data"]
    return receivers


def test_each_fault_is_raised_once_and_resolves_by_itself(story: Story) -> None:
    for key in story.active:
        types = [each for each in story.get_types(key) if each != "alert.elevated"]
        expected = ["alert.raised", "alert.resolved"]
        assert types == (["alert.raised", "alert.cleared", *expected] if "due" in key else expected), key


def test_a_stalled_projection_names_where_it_stands_and_who_holds_it_up(story: Story) -> None:
    alert = story.active["projection_stalled/refunds"]
    assert alert["details"]["held_by"] == [{"pid": story.blocker, "session": "a forgotten shell"}]
    assert f"process {story.blocker} (a forgotten shell)" in alert["cause"]
    assert alert["details"]["position"] > 0
    assert alert["details"]["events"] > 0
    assert "docs/operations.md" in alert["remedy"]["see"]
    # Those that nothing holds up go on.
    assert not [key for key in story.active if key.startswith("projection_stalled/") and "refunds" not in key]


def test_unsealed_events_name_who_keeps_them_from_being_sealed(story: Story) -> None:
    alert = story.active["unsealed_events"]
    assert alert["details"]["held_by"] == [{"pid": story.blocker, "session": "a forgotten shell"}]
    assert alert["details"]["events"] > 0


def test_a_failing_endpoint_is_named_with_its_last_answer_and_without_its_url(story: Story) -> None:
    alert = story.active[f"endpoint_failing/{story.ids['endpoint']}"]
    assert alert["details"]["status"] == 500
    assert alert["details"]["attempts"] >= 3
    assert alert["details"]["account"] == story.deployment.account.id
    assert "status 500" in alert["cause"]


def test_drift_names_the_rows_that_differ(story: Story) -> None:
    alert = story.active["projection_drift/customers"]
    assert alert["severity"] == "critical"
    assert alert["details"]["differing"] == 1
    assert story.ids["customer"] in json.dumps(alert["details"]["keys"])


def test_what_lasts_is_elevated_once(story: Story) -> None:
    assert story.get_types("unsealed_events") == ["alert.raised", "alert.elevated", "alert.resolved"]
    bodies = [body for body in story.get_bodies(OK) if body["data"]["object"].get("key") == "unsealed_events"]
    assert [body["data"]["object"]["severity"] for body in bodies] == ["warning", "critical", "critical"]
    assert {body["livemode"] for body in bodies} == {True}


def test_disputes_that_are_due_are_counted_by_account_and_mode(story: Story) -> None:
    details = story.cleared["details"]
    assert (details["count"], details["very_soon"]) == (1, 0)
    assert (details["account"], details["livemode"]) == (story.deployment.account.id, False)
    assert details["disputes"] == [story.ids["dispute"]]


def test_a_cleared_alert_is_raised_again_only_when_it_is_worse(story: Story) -> None:
    cleared, deployment = story.cleared, story.deployment
    assert (cleared["state"], cleared["clear_reason"]) == ("cleared", "we accept this one")
    assert [event["type"] for event in cleared["events"]] == ["raised", "cleared"]
    raised = story.active[f"disputes_due/{deployment.account.id}/test"]
    assert raised["id"] != cleared["id"]
    assert (raised["severity"], raised["details"]["very_soon"]) == ("critical", 1)
    done = deployment.ask("SELECT who, details FROM ledger.operations WHERE action = 'alert_cleared'")
    assert [details for _, details in done] == [{"alert": cleared["id"], "reason": "we accept this one"}]
    assert done[0][0].startswith("key_")
    refused = deployment.call("POST", f"/alerts/{raised['id']}/clear", {"reason": "too late"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "alert_state")


def test_both_official_libraries_verify_what_a_receiver_gets(story: Story) -> None:
    request = story.receiver.requests_to(OK)[0]
    event = request.event(story.secrets[OK])
    assert event["type"] == "alert.raised"
    assert event.data.object["object"] == "alert"
    Webhook(story.secrets[OK]).verify(request.body, request.headers)
    with pytest.raises(stripe.SignatureVerificationError):
        request.event(story.secrets[LATE])
    assert request.headers["webhook-id"] == event.id


def test_a_receiver_that_was_down_gets_all_events_in_order(story: Story) -> None:
    statuses = story.receiver.requests_to(LATE)
    assert len({request.headers["webhook-id"] for request in statuses[:4]}) == 1, "it waits for the first one"
    at_ok = [body["id"] for body in story.get_bodies(OK)]
    assert [body["id"] for body in story.get_bodies(LATE)] == at_ok
    (alert,) = [
        each for each in story.deployment.call("GET", "/alerts?state=ended&limit=100").json()["data"]
        if each["key"] == "unsealed_events"
    ]  # fmt: skip
    record = story.deployment.call("GET", f"/alerts/{alert['id']}").json()
    assert [event["type"] for event in record["events"]] == ["raised", "elevated", "resolved"]
    assert {notice["state"] for event in record["events"] for notice in event["notices"]} == {"delivered"}


def test_no_token_of_a_url_and_no_secret_is_shown_anywhere(story: Story) -> None:
    logs = "".join(story.deployment.read_log(name) for name in story.deployment.processes)
    assert "alert_raised" in logs
    answers = [story.deployment.call("GET", path).text for path in ("/alerts?limit=100", "/alerts/receivers")]
    bodies = [request.body.decode() for request in story.receiver.requests]
    for text in (logs, *answers, *bodies):
        assert TOKEN not in text
        assert not SECRETS.search(text)
    ((stored,),) = story.deployment.ask("SELECT bool_or(sealed_url::text LIKE '%%' || %s || '%%') FROM "
                                        "alerts.receivers", TOKEN.encode().hex())  # fmt: skip
    assert not stored


def test_a_stopped_worker_is_named_and_a_killed_watcher_replaced_without_a_second_raise(story: Story) -> None:
    deployment = story.deployment
    deployment.send_signal("worker", signal.SIGSTOP)
    began_at = time.monotonic()
    deployment.post("/v1/customers", {"name": "Nobody applies this either"})
    wait_until(lambda: "worker_stalled" in deployment.list_keys())
    print(f"a stopped worker was raised after {measure(began_at)}")
    ((alert),) = _find_active(deployment, "worker_stalled")
    assert alert["cause"] == "No worker is connected to the database."
    assert {"customers", "feed"} <= {each["projection"] for each in alert["details"]["projections"]}
    leader = wait_until(deployment.find_leader)
    assert leader != "worker", "one that is stopped does not keep the lease"
    other = {"api 1": "api 2", "api 2": "api 1"}[leader]
    deployment.use(other)
    deployment.send_signal(leader, signal.SIGKILL)
    began_at = time.monotonic()
    deployment.send_signal("worker", signal.SIGCONT)
    wait_until(lambda: deployment.find_leader() not in (None, leader))
    print(f"a killed watcher was replaced after {measure(began_at)}")
    wait_until(lambda: "worker_stalled" not in deployment.list_keys())
    print(f"a worker that goes on was resolved after {measure(began_at)}")
    wait_until(lambda: story.get_types("worker_stalled")[-1:] == ["alert.resolved"])
    types = [each for each in story.get_types("worker_stalled") if each != "alert.elevated"]
    assert types == ["alert.raised", "alert.resolved"]
