"""Events are available for 30 days, to the second (contract §4.4), by the clock that tests may move.

This module has its own service: the clock moves on from test to test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from tests.api.conftest import check_log
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster

DAY = 86_400
LIFE = 30 * DAY


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()
        check_log(running.log)


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, verify=False, timeout=30) as http:
        yield http


@pytest.fixture
def operator(http: httpx.Client, account: Account, registrar: Registrar) -> Caller:
    return Caller(http, registrar.key(account.id, "rk", scopes=["clock"])[1])


def _move(operator: Caller, **to: float) -> float:
    answer = operator.http.post(
        "/internal/v1/clock", json=to, headers={"authorization": f"Bearer {operator.key}"}
    )
    assert answer.status_code == 200, answer.text
    now: float = answer.json()["now"]
    return now


@pytest.mark.contract("10.4 retention")
def test_a_thin_event_disappears_with_its_snapshot(raw: Caller, operator: Caller) -> None:
    customer = raw.customer(name="old")
    ok(raw.post(f"/v1/customers/{customer['id']}", "name=new"))
    newest = ok(raw.get("/v2/core/events?limit=1"))
    last = ok(raw.get(newest["next_page_url"]))
    (old,) = last["data"]
    assert ok(raw.get(f"/v2/core/events/{old['id']}")) == old
    assert ok(raw.get(last["previous_page_url"]))["data"] == newest["data"]

    _move(operator, now=customer["created"] + LIFE + 2)
    assert raw.get(f"/v2/core/events/{old['id']}").json()["error"]["code"] == "not_found"
    assert ok(raw.get("/v2/core/events"))["data"] == []
    gone = raw.get(last["previous_page_url"]).json()["error"]
    assert (gone["code"], gone["param"]) == ("invalid_fields", "page")
    assert "which is no longer listed. Begin again with the first page." in gone["message"]


@pytest.mark.contract("4.4 retention")
def test_an_event_disappears_in_the_second_it_is_30_days_old(raw: Caller, operator: Caller) -> None:
    customer = raw.customer(name="old")
    (old,) = raw.events()
    _move(operator, now=old["created"] + LIFE - 20)
    ok(raw.post(f"/v1/customers/{customer['id']}", "name=new"))
    before = raw.events()
    assert [event["type"] for event in before] == ["customer.created", "customer.updated"]
    new = before[1]["id"]
    for path, expected in (
        (f"/v1/events/{old['id']}", old["data"]),
        (f"/v1/events?starting_after={new}", [old]),
        (f"/v1/events?ending_before={old['id']}", [before[1]]),
    ):
        _move(operator, now=old["created"] + LIFE - 1)  # before each request: a second is short
        assert ok(raw.get(path))["data"] == expected

    _move(operator, now=old["created"] + LIFE)
    assert_refused(
        raw.get(f"/v1/events/{old['id']}"),
        404,
        code="resource_missing",
        param="id",
        message=f"^No such event: '{old['id']}'$",
    )
    assert raw.events() == before[1:]
    assert ok(raw.get(f"/v1/events?created={old['created']}"))["data"] == []
    page = ok(raw.get(f"/v1/events?limit=1&starting_after={new}"))
    assert (page["data"], page["has_more"]) == ([], False)
    for param in ("starting_after", "ending_before"):
        assert_refused(
            raw.get(f"/v1/events?{param}={old['id']}"),
            code="resource_missing",
            param=param,
            message=f"^No such event: '{old['id']}'$",
        )


def test_objects_outlive_their_events(raw: Caller, operator: Caller) -> None:
    dispute = raw.dispute("tok_createDisputeInquiry")
    _move(operator, advance_seconds=LIFE + DAY)
    assert raw.events() == []
    assert ok(raw.get(f"/v1/charges/{dispute['charge']}"))["id"] == dispute["charge"]
    assert [each["id"] for each in ok(raw.get("/v1/disputes"))["data"]] == [dispute["id"]]
    ok(raw.post(f"/v1/disputes/{dispute['id']}", "metadata[a]=1"))
    assert [event["type"] for event in raw.events()] == ["charge.dispute.updated"]


@pytest.mark.contract("2.8 no events", "4.2 silent changes")
def test_funds_become_available_with_time(raw: Caller, operator: Caller) -> None:
    path = f"/v1/charges/{raw.charge()['id']}?expand[]=balance_transaction"
    transaction = ok(raw.get(path))["balance_transaction"]
    assert transaction["status"] == "pending"
    _move(operator, now=transaction["available_on"] - 2)
    assert ok(raw.get(path))["balance_transaction"]["status"] == "pending"
    _move(operator, now=transaction["available_on"])
    assert ok(raw.get(path))["balance_transaction"] == {**transaction, "status": "available"}
    assert [event["type"] for event in raw.events()] == ["charge.succeeded"]


@pytest.mark.contract("2.2 field evidence_details.past_due")
def test_a_late_submission_is_past_due(raw: Caller, operator: Caller) -> None:
    """Within the grace period of a deployment. What time alone does to a dispute is not tested here."""
    dispute = raw.dispute("tok_createDisputeInquiry")
    path = f"/v1/disputes/{dispute['id']}"
    _move(operator, now=dispute["evidence_details"]["due_by"] + 1)
    staged = ok(raw.post(path, "evidence[customer_name]=J&submit=false"))
    assert staged["evidence_details"]["past_due"] is False
    assert ok(raw.post(path, "submit=true"))["evidence_details"]["past_due"] is True


def test_the_clock_never_goes_back_past_the_last_event(raw: Caller, operator: Caller) -> None:
    now = _move(operator, advance_seconds=1000)
    raw.customer()
    headers = {"authorization": f"Bearer {operator.key}"}
    for unfit in ('{"now": 1e300}', '{"now": NaN}', '{"now": -1}', '{"advance_seconds": 1e300}'):
        assert raw.http.post("/internal/v1/clock", content=unfit, headers=headers).status_code == 400
    answer = raw.http.post("/internal/v1/clock", json={"now": now - 500}, headers=headers)
    refused_with = answer.json()["error"]
    assert (answer.status_code, refused_with["param"]) == (400, "now")
    lacking = raw.http.post(
        "/internal/v1/clock", json={"now": now}, headers={"authorization": f"Bearer {raw.key}"}
    )
    assert lacking.status_code == 403
    assert "'clock'" in lacking.json()["error"]["message"]
