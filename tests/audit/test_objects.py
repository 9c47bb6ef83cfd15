"""Objects as they were, their histories and differences, through the front door."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from ledger.domain.money import DAY_SECONDS
from ledger.wire.aggregates import AGGREGATES
from tests.api.conftest import check_log
from tests.api.service import Registrar, Service, assert_refused, ok
from tests.audit.story import EXPANSIONS, MARK, Shown, Story, request_erasure
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient

STEPS = 20
SEED = 12


@pytest.fixture(scope="module")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("audit")
    with cluster.create_database() as dsn:
        service = Service(dsn, place, LEDGER_DEADLINE_POLL_MS="20")
        yield service
        service.stop()
        check_log(service.log)


@pytest.fixture(scope="module")
def story(service: Service) -> Iterator[Story]:
    registrar = Registrar(service.dsn)
    with httpx.Client(base_url=service.url, verify=False, timeout=30) as http:
        story = Story(service, http, registrar, SEED)
        story.run(STEPS)
        request_erasure(story)
        yield story
        story.close()
    registrar.close()


def ask(caller: InternalClient, object_id: str, path: str = "", **query: Any) -> Any:
    return ok(get(caller, object_id, path, **query))


def get(caller: InternalClient, object_id: str, path: str = "", **query: Any) -> httpx.Response:
    params = {name.rstrip("_"): value for name, value in query.items()}
    return caller.http.get(
        f"/internal/v1/audit/objects/{object_id}{path}",
        params=params,
        headers={"authorization": f"Bearer {caller.key}"},
    )


def show_then(story: Story, shown: Shown, at: str) -> bytes:
    query: dict[str, Any] = {"at": at}
    if shown.expand:
        query["expand[]"] = list(shown.expand)
    answer = get(story.auditor, shown.object_id, **query)
    assert answer.status_code == 200, answer.text
    parts = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
    assert json.loads(bytes(parts["as_of"]))["position"] == shown.position
    return bytes(parts["object"])


def test_an_object_as_of_a_moment_is_what_the_public_api_showed_then(story: Story) -> None:
    assert {shown.object_id.partition("_")[0] for shown in story.shown} >= {
        "cus", "ch", "du", "file", "link", "pi", "re", "we", "in"
    }  # fmt: skip
    story.rng.shuffle(story.shown)
    for shown in story.shown:
        assert show_then(story, shown, f"{shown.now:.6f}") == shown.body, shown
        if not shown.by_time_only:
            assert show_then(story, shown, f"position:{shown.position}") == shown.body, shown


def test_a_key_without_the_scope_sees_no_personal_data(story: Story, service: Service) -> None:
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute("SELECT originator_id, min(topic) FROM ledger.events GROUP BY 1").fetchall()
    ids = [row[0] for row in rows]
    kinds = {row.module.EVENTS[0].TOPIC.partition(".")[0] for row in AGGREGATES}
    assert {row[1].partition(".")[0] for row in rows} == kinds, "the story has every aggregate"
    members = {member for expand in EXPANSIONS.values() for member in expand}
    for object_id in ids:
        answers = [get(story.operator, object_id), get(story.operator, object_id, "/history", limit=100)]
        answers.append(get(story.operator, object_id, "/diff", from_="position:0"))
        answers += [get(story.operator, object_id, **{"expand[]": member}) for member in members]
        assert [answer.status_code for answer in answers[:3]] == [200] * 3
        assert not any(MARK in answer.text or "/links/" in answer.text for answer in answers), object_id
    whole = [get(story.auditor, object_id, "/history", limit=100).text for object_id in ids]
    assert sum(MARK in text for text in whole) > len(EXPANSIONS), "the search finds what is there"


def test_a_change_of_personal_data_is_seen_without_its_values(story: Story) -> None:
    customer = story.ids["customers"][0]
    created = ask(story.operator, customer, "/history")["data"][0]
    diff = ask(story.operator, customer, "/diff", from_="position:0", to=f"position:{created['position']}")
    assert diff["changes"] == created["changes"]
    changes = {each["path"]: each for each in created["changes"]}
    assert changes["email"] == {"path": "email", "before": None, "after": None, "personal_data": True}
    assert changes["metadata"] == {"path": "metadata", "before": None, "after": None, "personal_data": True}
    assert changes["id"] == {"path": "id", "before": None, "after": customer}
    shown = {each["path"]: each for each in ask(story.auditor, customer, "/history")["data"][0]["changes"]}
    assert shown["email"] == {"path": "email", "before": None, "after": f"{MARK}@example.com"}
    assert shown[f"metadata[of_{MARK}]"]["after"] == MARK


def test_a_position_and_the_second_of_its_event_are_in_order(story: Story) -> None:
    """A time without a fraction is the end of its second, so the event of a position in it is before it."""
    customer = story.raw.customer()["id"]
    (created,) = ask(story.auditor, customer, "/history")["data"]
    position, second = f"position:{created['position']}", created["time"][:19]
    diff = ask(story.auditor, customer, "/diff", from_=position, to=second)
    assert diff["as_of"]["from"]["position"] == created["position"]
    assert_refused(get(story.auditor, customer, "/diff", from_=position, to=f"{second}.000000"), param="from")


def test_the_history_of_an_object_has_its_changes_and_who_made_them(story: Story) -> None:
    for ids in story.ids.values():
        for object_id in ids:
            changes = ask(story.auditor, object_id, "/history", limit=100)["data"]
            assert [each["version"] for each in changes] == list(range(1, len(changes) + 1))
            last = changes[-1]
            now = ask(story.auditor, object_id, at=f"position:{last['position']}")
            assert now["as_of"] == {
                "position": last["position"],
                "time": last["time"],
                "version": last["version"],
            }
    charge = story.raw.charge()["id"]
    (created,) = ask(story.auditor, charge, "/history")["data"]
    assert created["actor"]["name"] == "test"
    assert created["actor"]["key"] == f"sk_test_***{story.account.secret[-4:]}"
    assert (created["type"], created["causation"]) == ("charge.succeeded", None)
    (event,) = [each for each in story.raw.events() if each["data"]["object"]["id"] == charge]
    assert created["events"] == [{"id": event["id"], "type": "charge.succeeded"}]
    assert created["request_id"] == event["request"]["id"]


def test_causes_are_readable(story: Story) -> None:
    dispute = story.raw.dispute()
    ok(story.operator.post("/clock", {"advance_seconds": 40 * DAY_SECONDS}))
    deadline = time.monotonic() + 60
    while ok(story.raw.get(f"/v1/disputes/{dispute['id']}"))["status"] != "lost":
        assert time.monotonic() < deadline
    opened, lost = ask(story.auditor, dispute["id"], "/history")["data"]
    assert opened["causation"] == {"type": "change", "object": dispute["charge"], "version": 1}
    assert (lost["type"], lost["causation"]) == ("dispute.lost", {"type": "clock"})
    assert (lost["actor"], lost["request_id"], lost["idempotency_key"]) == (None, None, None)
    charge = story.raw.charge()["id"]
    body = {"charge": charge, "kind": "inquiry", "reference": "arn-1"}
    inquiry = ok(story.operator.post("/disputes", body))["id"]
    (reported,) = ask(story.auditor, inquiry, "/history")["data"]
    assert reported["causation"] == {"type": "network_fact", "reference": "arn-1"}


def test_a_change_that_an_endpoint_does_not_show_has_details(story: Story, service: Service) -> None:
    params = {"url": "https://example.com/hooks", "enabled_events[]": "*"}
    endpoint = ok(story.raw.call("POST", "/v1/webhook_endpoints", params))["id"]
    ok(story.operator.post(f"/webhooks/endpoints/{endpoint}", {"ordered": True}))
    ok(story.operator.post(f"/webhooks/endpoints/{endpoint}/rotate_secret", {"overlap_seconds": 0}))
    created, configured, rotated = ask(story.auditor, endpoint, "/history")["data"]
    assert (created["details"], configured["details"]) == ({}, {"changes": {"ordered": True}})
    assert rotated["details"].keys() == {"secret_version", "previous_valid_until"}
    timeline = service.run_command("audit", "history", endpoint, "--account", story.account.id)
    assert '│   changes: {"ordered": true}\n' in timeline
    assert "│   secret_version: 2\n" in timeline


def test_a_platforms_key_is_named_by_its_id_alone(story: Story, service: Service) -> None:
    registrar = Registrar(service.dsn)
    connected = registrar.account(platform=story.account.id)
    secret = registrar.key(connected.id, "rk", scopes=["audit"])[1]
    registrar.close()
    header = {"Stripe-Account": connected.id}
    customer = ok(story.raw.call("POST", "/v1/customers", {"name": MARK}, header))["id"]
    (change,) = ask(InternalClient(story.raw.http, secret), customer, "/history")["data"]
    assert change["actor"]["id"].startswith("key_")
    assert (change["actor"]["name"], change["actor"]["key"]) == (None, None)
    assert get(story.auditor, customer).status_code == 404, "it belongs to the other account"
    headers = header | {"authorization": f"Bearer {story.auditor.key}"}
    shown = ok(story.raw.http.get(f"/internal/v1/audit/objects/{customer}", headers=headers))
    assert shown["object"]["name"] == MARK


def test_pages_of_a_history_meet_in_both_directions(story: Story) -> None:
    customer = story.ids["customers"][0]
    whole = ask(story.auditor, customer, "/history", limit=100)["data"]
    assert len(whole) > 2
    for order, expected in (("asc", whole), ("desc", whole[::-1])):
        found: list[Any] = []
        query: dict[str, Any] = {}
        while True:
            page = ask(story.auditor, customer, "/history", limit=2, order=order, **query)
            found += page["data"]
            if not page["has_more"]:
                break
            query = {"starting_after": found[-1]["position"]}
        assert found == expected


def test_a_page_of_a_history_begins_after_a_version(story: Story) -> None:
    """So that one change is found by its number, however many there are."""
    customer = story.ids["customers"][0]
    whole = ask(story.auditor, customer, "/history", limit=100)["data"]
    last = len(whole)
    for version in range(last + 2):
        query: dict[str, Any] = {"limit": 1, "starting_after_version": version}
        page = ask(story.auditor, customer, "/history", **query)
        assert page["data"] == whole[version : version + 1]
        assert page["has_more"] is (version + 1 < last)
        older = ask(story.auditor, customer, "/history", order="desc", **query)
        assert older["data"] == (whole[:0] if version == 0 else whole[: version - 1][-1:])
    both = get(story.auditor, customer, "/history", starting_after_version=1, starting_after=1)
    assert_refused(both, param="starting_after_version", message="one of these parameters")
    assert_refused(
        get(story.auditor, customer, "/history", starting_after_version=-1), param="starting_after_version"
    )


def test_bad_input_is_refused_by_name(story: Story, service: Service) -> None:
    charge = story.ids["charges"][0]
    for at, message in (
        ("position:999999", "in the future: the last one is"),
        (f"{story.now() + 100}", "in the future"),
        ("yesterday", "neither a unix time, nor an ISO 8601 time, nor position:N"),
        ("position:-1", "neither"),
        ("", "neither"),
        ("9" * 30, "neither"),
    ):
        assert_refused(get(story.auditor, charge, at=at), param="at", message=message)
        if at.startswith("position:9"):
            assert_refused(get(story.auditor, charge, "/diff", from_=at), param="from", message=message)
            assert_refused(
                get(story.auditor, charge, "/diff", from_="position:1", to=at), param="to", message=message
            )
    late = get(story.auditor, charge, "/diff", from_=f"position:{story.head}", to="position:9")
    assert_refused(late, param="from", message="later than `to`")
    assert_refused(get(story.auditor, charge, "/diff"), code="parameter_missing", param="from")
    assert_refused(get(story.auditor, charge, "/history", limit=101), param="limit")
    assert_refused(get(story.auditor, charge, "/history", order="up"), param="order")
    foreign = get(story.auditor, charge, "/history", starting_after=story.head)
    assert_refused(foreign, param="starting_after", message="none of this object's changes")
    assert_refused(get(story.auditor, charge, **{"expand[]": "nothing"}), message="cannot be expanded")
    assert_refused(get(story.auditor, charge, ad="1"), code="parameter_unknown", param="ad")
    headers = {"authorization": f"Bearer {story.auditor.key}", "stripe-version": "1999-01-01"}
    response = story.raw.http.get(f"/internal/v1/audit/objects/{charge}", headers=headers)
    assert_refused(response, message="Invalid Stripe API version: 1999-01-01")
    headers["stripe-version"] = "2020-08-27"
    response = story.raw.http.get(f"/internal/v1/audit/objects/{charge}", headers=headers)
    assert response.headers["stripe-version"] == "2020-08-27"


def test_an_object_that_is_not_the_callers_is_missing(story: Story, service: Service) -> None:
    charge = story.ids["charges"][3]
    created = ask(story.auditor, charge, "/history")["data"][0]
    for query in ({"at": "position:2"}, {"at": "1000"}):
        early = assert_refused(get(story.auditor, charge, **query), 404, code="resource_missing", param="id")
        assert f"it was created at {created['time']}, position:{created['position']}" in early["message"]
    registrar = Registrar(service.dsn)
    stranger = InternalClient(
        story.raw.http, registrar.key(registrar.account().id, "rk", scopes=["audit", "personal_data"])[1]
    )
    live = InternalClient(
        story.raw.http, registrar.key(story.account.id, "rk", livemode=True, scopes=["audit"])[1]
    )
    unscoped = InternalClient(
        story.raw.http, registrar.key(story.account.id, "rk", scopes=["personal_data"])[1]
    )
    registrar.close()
    for path, query in (("", {}), ("", {"at": "position:2"}), ("/history", {}), ("/diff", {"from_": "1000"})):
        for caller in (stranger, live):
            refused = get(caller, charge, path, **query)
            error = assert_refused(refused, 404, code="resource_missing", param="id")
            assert created["time"] not in error["message"]
        missing = get(story.auditor, "ch_missing", path, **query)
        assert_refused(
            missing, 404, code="resource_missing", param="id", message="No such object: 'ch_missing'$"
        )
        for malformed in ("%00", "a%0Ab", "x" * 3000, "%ED%A0%80"):
            assert get(story.auditor, malformed, path, **query).status_code == 404
        refused = get(unscoped, charge, path, **query)
        assert_refused(refused, 403, code="more_permissions_required", message="lacks the scope 'audit'")


def test_the_commands_print_what_the_routes_answer(story: Story, service: Service) -> None:
    run_audit = partial(service.run_command, "audit")
    dispute = story.ids["disputes"][0]
    changes = ask(story.auditor, dispute, "/history", limit=100)
    own = ("--account", story.account.id)
    see_all = (*own, "--personal-data", "--json")
    at = f"position:{changes['data'][1]['position']}"
    shown = json.loads(run_audit("object", dispute, "--at", at, "--expand", "charge", *see_all))
    assert shown == ask(story.auditor, dispute, at=at, **{"expand[]": "charge"})
    assert json.loads(run_audit("history", dispute, *see_all)) == changes
    diff = json.loads(run_audit("diff", dispute, "--from", "position:0", "--to", at, *see_all))
    assert diff == ask(story.auditor, dispute, "/diff", from_="position:0", to=at)
    closed = json.loads(run_audit("history", dispute, *own, "--json"))
    assert closed == ask(story.operator, dispute, "/history", limit=100)


def test_the_commands_print_pictures(story: Story, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    run_audit = partial(service.run_command, "audit")
    dispute = story.ids["disputes"][0]
    first, second = ask(story.auditor, dispute, "/history", limit=100)["data"][:2]
    own = ("--account", story.account.id)
    timeline = run_audit("history", dispute, "--limit", "2", *own)
    assert f"● {first['time']}  dispute.opened  position {first['position']}, version 1\n" in timeline
    assert f"│ by test (sk_test_***{story.account.secret[-4:]}), because of ch_" in timeline
    assert f"│ Event {first['events'][0]['id']} charge.dispute.created\n" in timeline
    assert '│   + status: "needs_response"\n' in timeline
    assert "│   ± evidence[product_description]: personal data\n" in timeline
    assert timeline.endswith(f"There is more: --starting-after {second['position']}\n")
    assert MARK not in timeline
    assert "\x1b" not in timeline
    between = ("--from", f"position:{first['position']}", "--to", f"position:{second['position']}")
    diff = run_audit("diff", dispute, *between, "--personal-data", *own)
    assert diff.startswith(f"--- {dispute} {first['time']}, position {first['position']}, version 1\n+++ ")
    assert f'+ evidence[product_description]: "{MARK} ' in diff
    assert "- evidence_details[has_evidence]: false\n+ evidence_details[has_evidence]: true\n" in diff
    assert f"{dispute} as of {first['time']}" in service.run_command(
        "audit", "object", dispute, "--at", first["time"], *own
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run_audit("diff", dispute, *between, *own)
    assert "\x1b[3" in coloured
