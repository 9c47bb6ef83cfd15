"""The log over HTTP and on the command line: searched, and one event whole."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from ledger.audit.moments import POSITION_MAX
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.serving.process import run_ledger, run_refused


class AuditClient(InternalClient):
    """Calls the audit API with a key that has the scope `audit` and no other."""

    def log(self, **query: Any) -> Any:
        return ok(self.get(f"/audit/log?{urlencode(query, doseq=True)}"))

    def types(self, **query: Any) -> list[str]:
        return [entry["type"] for entry in self.log(**query)["data"]]


@pytest.fixture
def auditor(operator: InternalClient, account: Account, registrar: Registrar) -> AuditClient:
    """The auditor of the account, in test mode."""
    return AuditClient(operator.http, registrar.key(account.id, "rk", scopes=["audit"])[1])


def test_each_filter_finds_the_events_that_it_names(auditor: AuditClient, raw: Caller) -> None:
    created = raw.post("/v1/customers", {"email": "jenny@example.com"}, idempotency_key="first")
    customer = ok(created)
    request = created.headers["request-id"]
    dispute = raw.dispute(customer=customer["id"])
    charge = dispute["charge"]
    ok(raw.post(f"/v1/customers/{customer['id']}", {"name": "Jenny"}))

    (entry,) = auditor.log(request=request)["data"]
    assert (entry["type"], entry["stream"], entry["object_type"]) == (
        "customer.created", customer["id"], "customer"
    )  # fmt: skip
    assert (entry["version"], entry["idempotency_key"], entry["causation"]) == (1, "first", None)
    assert entry["actor"]["name"] == "test"
    assert auditor.log(idempotency_key="first")["data"] == [entry]
    assert auditor.log(event=entry["events"][0]["id"])["data"] == [entry]
    assert ok(raw.get(f"/v1/events/{entry['events'][0]['id']}"))["type"] == "customer.created"
    everything = [
        "customer.created",
        "charge.succeeded",
        "charge.disputed",
        "dispute.opened",
        "customer.updated",
    ]
    assert auditor.types(order="asc") == everything
    assert auditor.types(actor=entry["actor"]["id"]) == everything[::-1]
    assert auditor.types(customer=customer["id"], order="asc") == everything
    assert auditor.types(charge=charge, order="asc") == everything[1:4]
    assert auditor.types(object=charge, order="asc") == everything[1:3]
    assert auditor.types(type=["dispute.*", "customer.created"]) == ["dispute.opened", "customer.created"]
    opened = auditor.log(type="dispute.*")["data"][0]
    assert auditor.types(**{"position[lt]": opened["position"], "order": "asc"}) == everything[:3]
    assert auditor.types(**{"time[lte]": opened["time"], "order": "asc"})[:3] == everything[:3]
    assert auditor.types(**{"time[gte]": opened["time"], "type": "customer.*"}) == ["customer.updated"]
    assert auditor.types(**{"time[lt]": 1}) == []


def test_pages_follow_each_other_and_name_the_position_they_were_given_at(
    auditor: AuditClient, raw: Caller
) -> None:
    for _ in range(5):
        raw.customer()
    first = auditor.log(limit=2)
    assert first["has_more"] is True
    assert first["next_position"] == first["data"][-1]["position"]
    assert first["as_of"]["position"] >= first["data"][0]["position"]
    assert first["as_of"]["time"].endswith("Z")
    seen, page = first["data"], first
    while page["has_more"]:
        page = auditor.log(limit=2, starting_after=page["next_position"])
        seen += page["data"]
    assert page["next_position"] is None
    assert [entry["position"] for entry in seen] == sorted((e["position"] for e in seen), reverse=True)
    assert len(seen) == 5


def test_an_auditor_sees_one_account_in_one_mode(
    auditor: AuditClient, raw: Caller, account: Account, registrar: Registrar
) -> None:
    customer = raw.customer()
    (entry,) = auditor.log()["data"]
    other_account = registrar.account()
    other_keys = (
        registrar.key(account.id, "rk", livemode=True, scopes=["audit"])[1],
        registrar.key(other_account.id, "rk", scopes=["audit"])[1],
    )
    for key in other_keys:
        other = AuditClient(auditor.http, key)
        for query in (
            {}, {"customer": customer["id"]}, {"object": customer["id"]}, {"request": entry["request_id"]},
            {"event": entry["events"][0]["id"]}, {"actor": entry["actor"]["id"]}, {"type": "customer.*"},
        ):  # fmt: skip
            assert other.log(**query)["data"] == []
        refused = other.get(f"/audit/log/{entry['position']}")
        assert_refused(refused, 404, code="resource_missing", param="position")
    without_scope = InternalClient(auditor.http, registrar.key(account.id, "rk", scopes=["catalog"])[1])
    for path in ("/audit/log", f"/audit/log/{entry['position']}"):
        assert_refused(without_scope.get(path), 403, code="more_permissions_required")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("type=dispute.oppened", "type"),
        ("type=payout.*", "type"),
        ("time[gte]=yesterday", "time[gte]"),
        ("time[lt]=99999999999", "time[lt]"),
        ("time[gte]=2999-01-01", "time[gte]"),
        ("time[gt]=200&time[lte]=100", "time[lte]"),
        ("position[gte]=9000000000", "position[gte]"),
        ("position[gt]=2&position[lt]=1", "position[lt]"),
        ("position[gt]=x", "position[gt]"),
        ("position[lte]=-1", "position[lte]"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("order=newest", "order"),
        ("starting_after=evt_1", "starting_after"),
        ("actor=" + "k" * 256, "actor"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_filter_is_refused_by_its_name(auditor: AuditClient, query: str, param: str) -> None:
    response = auditor.get(f"/audit/log?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_ids_that_are_none_find_nothing(auditor: AuditClient, raw: Caller) -> None:
    raw.customer()
    names = ("actor", "request", "idempotency_key", "object", "customer", "charge", "payment_intent")
    for name in (*names, "event"):
        for value in ("\0", "'; --", "%", "evt_" + "z" * 22, "ключ"):
            assert ok(auditor.get(f"/audit/log?{name}={quote(value)}"))["data"] == []


def test_one_event_is_shown_whole_and_personal_data_as_the_scope_allows(
    auditor: AuditClient, operator: InternalClient, raw: Caller
) -> None:
    raw.customer(email="jenny@example.com", description="Regular")
    (entry,) = auditor.log()["data"]
    path = f"/audit/log/{entry['position']}"
    shown = ok(auditor.get(path))
    assert shown.items() >= entry.items()
    assert shown["withheld"]
    assert all(shown["data"][name] is None for name in shown["withheld"])
    assert "jenny" not in json.dumps(shown)
    whole = ok(operator.get(path))
    assert whole["withheld"] == []
    assert "jenny@example.com" in json.dumps(whole["data"])
    assert whole["class_version"] == 4
    assert len(b64decode(whole["leaf_hash"])) == 32
    assert whole["leaf_hash"] == shown["leaf_hash"]
    assert_refused(auditor.get(f"/audit/log/{POSITION_MAX}"), param="position", message="in the future")
    for position in ("0", "x", "-1", str(POSITION_MAX + 1)):
        assert_refused(auditor.get(f"/audit/log/{position}"), param="position")


def test_the_command_line_shows_the_same(
    auditor: AuditClient, raw: Caller, service: Service, account: Account, tmp_path: Path
) -> None:
    for number in range(3):
        raw.customer(email=f"jenny.{number}@example.com")
    expected = auditor.log(type="customer.*")["data"]
    settings = {"database_url": service.dsn, "secret_key": "the-service-key-of-the-tests-0123456789"}

    def run(*arguments: str) -> str:
        completed = run_ledger(
            tmp_path / "data", "audit", *arguments, "--account", account.id, test_clock="true", **settings
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    lines = run("log", "--type", "customer.*").splitlines()
    assert lines[0].split("\t")[:3] == ["position", "time", "type"]
    assert [line.split("\t")[0] for line in lines[1:]] == [str(entry["position"]) for entry in expected]
    as_json = [
        json.loads(line) for line in run("log", "--json", "--oldest-first", "--limit", "2").splitlines()
    ]
    assert as_json == expected[:0:-1]
    event = json.loads(run("event", str(expected[0]["position"]), "--json"))
    assert event == ok(auditor.get(f"/audit/log/{expected[0]['position']}"))
    assert "jenny.2@example.com" in run("event", str(expected[0]["position"]), "--personal-data")
    chosen = ("--account", account.id)
    refused = run_refused(tmp_path / "data", "audit", "log", "--type", "nothing", *chosen, **settings)
    assert "Invalid type: 'nothing'" in refused
    refused = run_refused(tmp_path / "data", "audit", "event", "9000000000", *chosen, **settings)
    assert "is in the future" in refused
    refused = run_refused(tmp_path / "data", "audit", "log", "--object", "du_\udcff", *chosen, **settings)
    assert refused == r"ledger: not UTF-8: 'du_\udcff'"
