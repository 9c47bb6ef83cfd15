"""Event destinations: created, changed, listed and refused (contract §10.5)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.v2.conftest import assert_refused_v2

PATH = "/v2/core/event_destinations"
URL = "https://hooks.example.com/thin?token=abc"
THIN = {
    "name": "Books",
    "type": "webhook_endpoint",
    "event_payload": "thin",
    "enabled_events": ["v1.charge.captured"],
    "webhook_endpoint": {"url": URL},
}


def post(caller: Caller, path: str, body: Any, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return caller.call("POST", path, json.dumps(body), sent)


def create(caller: Caller, **given: Any) -> Any:
    return ok(post(caller, PATH, THIN | given))


@pytest.mark.contract("10.5 create", "10.5 include")
def test_a_new_destination_shows_url_and_secret_only_if_they_are_included(raw: Caller) -> None:
    made = create(raw, description="For the books", metadata={"a": "1"})
    assert made["id"].startswith("ed_")
    assert made["created"] == made["updated"]
    assert made == {
        "id": made["id"], "object": "v2.core.event_destination", "amazon_eventbridge": None,
        "azure_event_grid": None, "created": made["created"], "description": "For the books",
        "enabled_events": ["v1.charge.captured"], "event_payload": "thin", "events_from": ["@self"],
        "livemode": False, "metadata": {"a": "1"}, "name": "Books", "snapshot_api_version": None,
        "status": "enabled", "status_details": None, "type": "webhook_endpoint",
        "updated": made["created"], "webhook_endpoint": {"signing_secret": None, "url": None},
    }  # fmt: skip
    shown = create(raw, include=["webhook_endpoint.signing_secret", "webhook_endpoint.url"])
    assert shown["webhook_endpoint"]["url"] == URL
    assert shown["webhook_endpoint"]["signing_secret"].startswith("whsec_")
    for query in ("include=webhook_endpoint.url", "include[0]=webhook_endpoint.url"):
        read = ok(raw.get(f"{PATH}/{shown['id']}?{query}"))
        assert read["webhook_endpoint"] == {"signing_secret": None, "url": URL}
    assert ok(raw.get(f"{PATH}/{made['id']}")) == made
    refused = raw.get(f"{PATH}/{made['id']}?include=webhook_endpoint.signing_secret")
    assert_refused_v2(refused, param="include[0]", message=r"must be one of webhook_endpoint\.url")


@pytest.mark.contract("10.5 update", "10.5 enable", "10.5 delete")
def test_a_destination_is_renamed_moved_disabled_enabled_and_deleted(raw: Caller) -> None:
    made = create(raw, metadata={"a": "1", "b": "2"})
    where = f"{PATH}/{made['id']}"
    changes = {
        "name": "Ledger",
        "description": "New",
        "enabled_events": ["*", "v1.charge.failed", "*"],
        "metadata": {"a": None, "c": "3"},
        "webhook_endpoint": {"url": f"{URL}2"},
        "include": ["webhook_endpoint.url"],
    }
    changed = ok(post(raw, where, changes))
    assert (changed["name"], changed["description"]) == ("Ledger", "New")
    assert changed["enabled_events"] == ["*", "v1.charge.failed"]
    assert changed["metadata"] == {"b": "2", "c": "3"}
    assert changed["webhook_endpoint"]["url"] == f"{URL}2"
    disabled = ok(post(raw, f"{where}/disable", {}))
    assert (disabled["status"], disabled["status_details"]) == ("disabled", {"disabled": {"reason": "user"}})
    assert ok(raw.get(where)) == disabled
    assert ok(post(raw, f"{where}/disable", {})) == disabled
    enabled = ok(post(raw, f"{where}/enable", {}))
    assert (enabled["status"], enabled["status_details"]) == ("enabled", None)
    assert ok(post(raw, where, {"description": ""}))["description"] == ""
    for field in ("name", "description", "webhook_endpoint", "enabled_events", "metadata"):
        assert_refused_v2(post(raw, where, {field: None}), param=field, message="must be")
    assert ok(raw.delete(where)) == {"id": made["id"], "object": "v2.core.event_destination"}
    for refused in (raw.get(where), post(raw, where, {}), raw.delete(where), post(raw, f"{where}/ping", {})):
        assert_refused_v2(refused, 404, code="not_found", param="id", message="No such event destination")
    assert ok(raw.get(PATH))["data"] == []


@pytest.mark.contract("10.5 create", "10.5 kinds", "10.5 types")
@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ({"type": "amazon_eventbridge"}, "type", "'amazon_eventbridge' is not available here"),
        ({"type": "azure_event_grid"}, "type", "'azure_event_grid' is not available here"),
        ({"type": "email"}, "type", "must be webhook_endpoint"),
        ({"azure_event_grid": {}}, "azure_event_grid", "unknown parameter"),
        ({"event_payload": "fat"}, "event_payload", "must be one of snapshot or thin"),
        ({"events_from": ["@organization_members"]}, "events_from[0]", "no organizations"),
        ({"events_from": ["@self", "self"]}, "events_from[1]", "must be one of @self or @accounts"),
        ({"events_from": []}, "events_from", "at least 1 item"),
        ({"enabled_events": []}, "enabled_events", "at least 1 item"),
        ({"enabled_events": "*"}, "enabled_events", "must be an array"),
        (
            {"enabled_events": ["*", "v1.charge.capture"]},
            "enabled_events[1]",
            r"event_payload of thin .* v1\.charge\.captured",
        ),
        ({"enabled_events": ["charge.captured"]}, "enabled_events[0]", r"v1\.charge\.captured"),
        (
            {"event_payload": "snapshot"},
            "enabled_events[0]",
            r"event_payload of snapshot it must be one of charge\.captured",
        ),
        (
            {"snapshot_api_version": "2026-10-28.endive"},
            "snapshot_api_version",
            "thin events have no version",
        ),
        (
            {"event_payload": "snapshot", "enabled_events": ["*"], "snapshot_api_version": "2026"},
            "snapshot_api_version",
            "must be an API version",
        ),
        (
            {"event_payload": "snapshot", "enabled_events": ["*"], "events_from": ["@self", "@accounts"]},
            "events_from",
            "either @self or @accounts",
        ),
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": None}, "name", "must be a string"),
        ({"webhook_endpoint": None}, "webhook_endpoint", "must be an object"),
        ({"webhook_endpoint": {}}, "webhook_endpoint[url]", "Missing required param"),
        ({"include": ["webhook_endpoint"]}, "include[0]", "must be one of"),
        ({"metadata": {"a" * 41: "1"}}, f"metadata[{'a' * 41}]", "1 to 40 characters"),
        ({"metadata": {"a": None}}, "metadata[a]", "must be a string"),
        ({"enabled": True}, "enabled", "unknown parameter"),
    ],
)
def test_what_cannot_be_served_is_named_and_makes_no_destination(
    raw: Caller, given: Any, param: str, message: str
) -> None:
    assert_refused_v2(post(raw, PATH, THIN | given), param=param, message=message)
    assert ok(raw.get(PATH))["data"] == []


@pytest.mark.contract("10.5 create")
def test_a_url_is_checked_as_one_of_v1_is_and_not_repeated(raw: Caller, live: Caller) -> None:
    for caller, url in ((raw, "ftp://hooks.example.com/token"), (live, "http://hooks.example.com/token")):
        refused = post(caller, PATH, THIN | {"webhook_endpoint": {"url": url}})
        error = assert_refused_v2(refused, param="webhook_endpoint[url]", message="Invalid URL")
        assert "token" not in error["message"]
    made = create(raw)
    body = {"webhook_endpoint": {"url": "https://u:p@hooks.example.com/"}}
    refused = post(raw, f"{PATH}/{made['id']}", body)
    assert_refused_v2(refused, param="webhook_endpoint[url]", message="Invalid URL")
    assert create(live)["livemode"] is True
    assert [each["id"] for each in ok(raw.get(PATH))["data"]] == [made["id"]]


@pytest.mark.contract("10.5 idempotency")
def test_a_repeated_request_gets_the_first_answer_and_the_secret_again(raw: Caller, service: Service) -> None:
    body = THIN | {"include": ["webhook_endpoint.signing_secret"]}
    first = post(raw, PATH, body, idempotency_key="create-1")
    again = post(raw, PATH, body, idempotency_key="create-1")
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    secret = first.json()["webhook_endpoint"]["signing_secret"]
    assert secret not in service.log
    refused = post(raw, PATH, body | {"name": "Other"}, idempotency_key="create-1")
    assert refused.status_code == 400
    where = f"{PATH}/{first.json()['id']}"
    deleted = raw.delete(where, idempotency_key="delete-1")
    assert raw.delete(where, idempotency_key="delete-1").json() == deleted.json()
    assert raw.delete(where).status_code == 404


@pytest.mark.contract("10.5 list")
def test_the_list_has_pages_with_the_urls_that_were_asked_for(
    raw: Caller, client: stripe.StripeClient
) -> None:
    made = [create(raw, name=f"Number {number}")["id"] for number in range(3)]
    page = ok(raw.get(f"{PATH}?limit=2&include[0]=webhook_endpoint.url"))
    assert [each["id"] for each in page["data"]] == [made[2], made[1]]
    rest = ok(raw.get(page["next_page_url"]))
    assert [each["id"] for each in rest["data"]] == [made[0]]
    assert rest["data"][0]["webhook_endpoint"]["url"] == URL
    assert rest["next_page_url"] is None
    assert ok(raw.get(rest["previous_page_url"])) == page
    listed = client.v2.core.event_destinations.list({"limit": 1})
    assert [each.id for each in listed.auto_paging_iter()] == made[::-1]


@pytest.mark.contract("10.5 v1")
def test_v1_knows_destinations_of_snapshots_and_v2_knows_all_endpoints(raw: Caller, service: Service) -> None:
    endpoint = ok(raw.post("/v1/webhook_endpoints", {"url": URL, "enabled_events[0]": "*"}))
    thin = create(raw)
    version = {"snapshot_api_version": "2024-06-20"}
    snapshot = create(raw, event_payload="snapshot", enabled_events=["charge.captured"], **version)
    assert snapshot["id"].startswith("we_")
    by_v1 = ok(raw.get("/v1/webhook_endpoints"))["data"]
    assert [each["id"] for each in by_v1] == [snapshot["id"], endpoint["id"]]
    assert by_v1[0]["api_version"] == "2024-06-20"
    for refused in (
        raw.get(f"/v1/webhook_endpoints/{thin['id']}"),
        raw.post(f"/v1/webhook_endpoints/{thin['id']}", "description=x"),
        raw.delete(f"/v1/webhook_endpoints/{thin['id']}"),
    ):
        assert refused.status_code == 404
        assert "use /v2/core/event_destinations" in refused.json()["error"]["message"]

    data = ok(raw.get(PATH))["data"]
    assert [each["id"] for each in data] == [snapshot["id"], thin["id"], endpoint["id"]]
    assert (data[2]["name"], data[2]["event_payload"]) == (endpoint["id"], "snapshot")
    verified = service.run_command("projections", "verify", "webhook_endpoints")
    assert verified.splitlines()[1].split("\t")[4] == "0", "rows that differ from a replay of the log"
    ok(raw.post(f"/v1/webhook_endpoints/{endpoint['id']}", "disabled=true"))
    named = ok(post(raw, f"{PATH}/{endpoint['id']}", {"name": "Old"}))
    assert (named["name"], named["status_details"]) == ("Old", {"disabled": {"reason": "user"}})
    assert ok(raw.get(f"/v1/webhook_endpoints/{endpoint['id']}"))["status"] == "disabled"
    refused = post(raw, f"{PATH}/{endpoint['id']}", {"enabled_events": ["v1.charge.captured"]})
    assert_refused_v2(refused, param="enabled_events[0]", message="charge.captured")


@pytest.mark.contract("10.5 limit")
def test_an_account_has_as_many_destinations_as_endpoints(raw: Caller) -> None:
    for _ in range(16):
        create(raw)
    refused = post(raw, PATH, THIN)
    assert refused.status_code == 400
    assert "maximum of 16 test webhook endpoints" in refused.json()["error"]["message"]


@pytest.mark.contract("10.5 permissions")
def test_destinations_of_others_are_missing_and_a_restricted_key_needs_its_permission(
    raw: Caller, live: Caller, account: Account, registrar: Registrar, http: httpx.Client
) -> None:
    made = create(raw)
    other = Caller(http, registrar.account().secret)
    for caller in (other, live):
        assert caller.get(f"{PATH}/{made['id']}").status_code == 404
        assert post(caller, f"{PATH}/{made['id']}/ping", {}).status_code == 404
        assert ok(caller.get(PATH))["data"] == []
    reader = Caller(http, registrar.key(account.id, "rk", scopes=["rak_webhook_read"])[1])
    assert ok(reader.get(f"{PATH}/{made['id']}")) == made
    assert post(reader, f"{PATH}/{made['id']}", {"name": "x"}).status_code == 403
    writer = Caller(http, registrar.key(account.id, "rk", scopes=["rak_webhook_write"])[1])
    assert ok(post(writer, f"{PATH}/{made['id']}", {"name": "x"}))["name"] == "x"


@pytest.mark.contract("10.5 create")
def test_the_official_client_goes_through_all_operations(service: Service, account: Account) -> None:
    destinations = create_client(service, account.secret).v2.core.event_destinations
    made = destinations.create(
        {
            "name": "Books",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["*"],
            "events_from": ["@self", "@accounts"],
            "webhook_endpoint": {"url": URL},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert made.webhook_endpoint is not None
    assert made.webhook_endpoint.signing_secret is not None
    assert made.events_from == ["@self", "@accounts"]
    updated = destinations.update(made.id, {"metadata": {"a": "1"}})
    assert updated.metadata is not None
    assert updated.metadata["a"] == "1"
    assert destinations.disable(made.id).status == "disabled"
    assert destinations.enable(made.id).status == "enabled"
    shown = destinations.retrieve(made.id, {"include": ["webhook_endpoint.url"]})
    assert shown.webhook_endpoint is not None
    assert (shown.webhook_endpoint.signing_secret, shown.webhook_endpoint.url) == (None, URL)
    assert destinations.delete(made.id).id == made.id
    with pytest.raises(stripe.InvalidRequestError, match="No such event destination"):
        destinations.retrieve(made.id)


@pytest.mark.contract("10.5 update")
def test_the_history_shows_what_only_v2_knows_of_a_destination(raw: Caller, operator: Caller) -> None:
    made = create(raw, event_payload="snapshot", enabled_events=["*"])
    ok(post(raw, f"{PATH}/{made['id']}", {"name": "Other", "webhook_endpoint": {"url": f"{URL}2"}}))
    where = f"/internal/v1/audit/objects/{made['id']}"
    created, updated = ok(operator.get(f"{where}/history"))["data"]
    assert created["type"] == "webhook_endpoint.destination_created"
    changed = {change["path"]: change["after"] for change in updated["changes"]}
    assert changed["name"] == "Other"
    assert ok(operator.get(where))["object"]["events_from"] == ["@self"]
