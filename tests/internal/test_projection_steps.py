"""One event at a time through a projection, and what a step shows to whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient

EMAIL = "jenny.rosen@example.com"
_ACCESS = "SELECT action, parameters, object FROM ledger.audit_accesses WHERE request_id = %s"


@pytest.fixture(scope="module")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("steps")
    with cluster.create_database() as dsn:
        service = Service(dsn, place)
        yield service
        service.stop()


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture
def sql(service: Service) -> Iterator[Callable[..., Any]]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield lambda statement, *values: conn.execute(statement.encode(), values)


def make_client(
    http: httpx.Client, registrar: Registrar, account: str, *scopes: str, livemode: bool = False
) -> InternalClient:
    return InternalClient(http, registrar.key(account, "rk", livemode=livemode, scopes=scopes)[1])


def step(client: InternalClient, projection: str, query: str = "") -> Any:
    return ok(client.get(f"/projections/{projection}/step?{query}"))


def test_stepping_through_a_dispute_shows_its_row_before_and_after_each_event(
    operator: InternalClient, raw: Caller
) -> None:
    dispute = raw.dispute()
    ok(raw.post(f"/v1/disputes/{dispute['id']}", {"evidence[product_description]": "a secret recipe"}))
    ok(raw.get("/v1/disputes"))  # waits for the projection
    stream = f"stream={dispute['id']}"

    last = step(operator, "disputes", stream)
    assert last["outcome"] == {"code": "applied", "message": "1 row changed."}
    assert last["next"] is None
    assert last["live"]["state"] == "equal"
    (before,), (after,) = last["before"], last["after"]
    assert before["id"] == after["id"] == dispute["id"]
    assert after["state"]["version"] == before["state"]["version"] + 1
    changes = {each["path"]: each for each in last["changes"]}
    assert "state[version]" in changes
    assert changes["state[version]"]["column"] == "state"

    first = step(operator, "disputes", f"position={last['previous']}&{stream}")
    while first["previous"] is not None:
        assert first["live"]["state"] == "later"
        first = step(operator, "disputes", f"before={first['position']}&{stream}")
    assert first["before"] == []
    assert first["outcome"]["message"] == "1 row created."
    assert first["event"]["type"] == "dispute.opened"
    again = step(operator, "disputes", f"after={first['position']}&{stream}")
    assert again["position"] == first["next"]
    assert again["before"] == first["after"]


def test_personal_data_is_withheld_without_its_scope_but_its_change_is_told(
    http: httpx.Client, registrar: Registrar, account: Account, operator: InternalClient, raw: Caller
) -> None:
    customer = raw.customer(email=EMAIL)
    ok(raw.get("/v1/customers"))
    query = f"stream={customer['id']}"
    closed = make_client(http, registrar, account.id, "projections")
    seen = step(closed, "customers", query)
    assert EMAIL not in json.dumps(seen)
    assert seen["after"][0]["email"] is None
    assert seen["event"]["withheld"]
    assert {"column": "email", "personal_data": True}.items() <= next(
        each for each in seen["changes"] if each["column"] == "email"
    ).items()
    assert seen["live"]["state"] == "equal", "the comparison is of the whole rows"
    assert step(operator, "customers", query)["after"][0]["email"] == EMAIL


def test_an_event_of_another_account_or_mode_is_named_and_not_shown(
    http: httpx.Client, registrar: Registrar, account: Account, raw: Caller
) -> None:
    customer = raw.customer(name="Unseen")
    stream = f"stream={customer['id']}"
    stranger = registrar.account()
    for client in (
        make_client(http, registrar, stranger.id, *INTERNAL_SCOPES),
        make_client(http, registrar, account.id, *INTERNAL_SCOPES, livemode=True),
    ):
        seen = step(client, "customers", stream)
        assert seen["outcome"]["code"] == "other_account"
        assert set(seen["event"]) == {"position", "time", "stream", "version", "type"}
        assert (seen["before"], seen["after"], seen["changes"], seen["live"]) == ([], [], [], None)
        assert "Unseen" not in json.dumps(seen)
        assert account.id not in json.dumps(seen)


def test_a_platform_sees_the_events_of_its_connected_account(
    http: httpx.Client, registrar: Registrar, account: Account
) -> None:
    connected = registrar.account(platform=account.id)
    customer = Caller(http, connected.secret).customer(name="Connected")
    platform = make_client(http, registrar, account.id, *INTERNAL_SCOPES)
    assert step(platform, "customers", f"stream={customer['id']}")["after"][0]["account"] == connected.id


def test_a_live_row_that_differs_is_named_with_where_but_not_with_personal_data(
    operator: InternalClient, raw: Caller, sql: Callable[..., Any]
) -> None:
    customer = raw.customer(email=EMAIL)
    ok(raw.get("/v1/customers"))
    sql("UPDATE projections.customers SET email = 'drifted', deleted = true WHERE id = %s", customer["id"])
    live = step(operator, "customers", f"stream={customer['id']}")["live"]
    assert live["state"] == "differing"
    assert live["differences"] == [
        {
            "key": customer["id"],
            "live": {"deleted": True, "email": "…"},
            "expected": {"deleted": False, "email": "…"},
        }
    ]


def test_an_event_that_cannot_be_read_is_shown_with_the_reason(
    operator: InternalClient, raw: Caller, sql: Callable[..., Any]
) -> None:
    customer = raw.customer()
    stream = f"stream={customer['id']}"
    ok(raw.post(f"/v1/customers/{customer['id']}", {"description": "second"}))
    ok(raw.post(f"/v1/customers/{customer['id']}", {"description": "third"}))
    sql("ALTER TABLE ledger.events DISABLE TRIGGER USER")
    sql(
        "UPDATE ledger.events SET topic = 'customer.renamed' WHERE originator_id = %s AND "
        "originator_version = 2",
        customer["id"],
    )
    sql("ALTER TABLE ledger.events ENABLE TRIGGER USER")
    third = step(operator, "customers", stream)
    assert third["outcome"]["code"] == "parked_before"
    second = step(operator, "customers", f"before={third['position']}&{stream}")
    assert second["outcome"]["code"] == "unreadable"
    assert "unknown_topic" in second["outcome"]["message"]
    assert second["event"]["unreadable"] == "unknown_topic"
    assert second["before"] == second["after"] != []


def test_a_projection_that_does_not_follow_an_event_says_so(operator: InternalClient, raw: Caller) -> None:
    customer = raw.customer()
    position = step(operator, "customers", f"stream={customer['id']}")["position"]
    seen = step(operator, "disputes", f"position={position}")
    assert seen["outcome"] == {
        "code": "not_followed",
        "message": "disputes does not follow events of type customer.created.",
    }
    assert seen["event"]["stream"] == customer["id"]


def test_each_step_is_recorded_as_an_access(
    operator: InternalClient, raw: Caller, sql: Callable[..., Any]
) -> None:
    customer = raw.customer()
    answer = operator.get(f"/projections/customers/step?stream={customer['id']}")
    ((action, parameters, seen),) = sql(_ACCESS, answer.headers["request-id"]).fetchall()
    assert action == "GET /internal/v1/projections/{projection}/step"
    assert parameters == {"projection": "customers", "stream": customer["id"]}
    assert seen == customer["id"]


@pytest.mark.parametrize(
    ("query", "status", "code", "param"),
    [
        ("position=0", 400, None, "position"),
        ("position=99999999", 400, None, "position"),
        ("position=1&after=2", 400, None, "after"),
        ("after=x", 400, None, "after"),
        ("posision=1", 400, "parameter_unknown", "posision"),
        ("stream=cus_none", 404, "resource_missing", "stream"),
    ],
)
def test_a_step_that_cannot_be_shown_is_refused_by_parameter(
    operator: InternalClient, query: str, status: int, code: str | None, param: str
) -> None:
    answer = operator.get(f"/projections/customers/step?{query}")
    assert_refused(answer, status, code=code, param=param)


def test_a_step_needs_a_known_projection_and_the_scope(
    http: httpx.Client, registrar: Registrar, account: Account, operator: InternalClient
) -> None:
    answer = operator.get("/projections/disputs/step")
    assert_refused(answer, 404, code="resource_missing", param="projection", message="Did you mean disputes?")
    refused = make_client(http, registrar, account.id, "audit").get("/projections/disputes/step")
    assert_refused(refused, 403, code="more_permissions_required", message="scope 'projections'")


def test_after_the_last_event_there_is_no_step_but_where_was_looked(operator: InternalClient) -> None:
    head = step(operator, "customers")["head"]
    seen = step(operator, "customers", f"after={head}")
    assert (seen["position"], seen["event"], seen["outcome"]["code"]) == (None, None, "no_event")
    assert seen["searched"] == {"first": 1, "last": head}
    assert seen["previous"] is not None


def test_the_command_prints_what_the_api_answers(
    service: Service, operator: InternalClient, raw: Caller
) -> None:
    customer = raw.customer(email=EMAIL)
    ok(raw.get("/v1/customers"))
    position = step(operator, "customers", f"stream={customer['id']}")["position"]
    arguments = ("projections", "step", "customers", "--position", str(position))
    printed = json.loads(service.run_command(*arguments, "--personal-data", "--json"))
    answered = step(operator, "customers", f"position={position}")
    assert {**printed, "head": 0, "searched": 0} == {**answered, "head": 0, "searched": 0}
    lines = service.run_command(*arguments)
    assert "1 row created." in lines
    assert "live: The live rows are equal." in lines
    assert EMAIL not in lines
