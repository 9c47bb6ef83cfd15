"""What operators do: receivers added, tested and removed, and the refusals, over HTTP and in a shell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from ledger.alerts.receivers import RECEIVERS_MAX
from tests.api.service import Account, Registrar, Service, assert_refused
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import Receiver, ScriptedResponse, run_receiver


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def no_receivers(operator: InternalClient) -> Iterator[None]:
    """None before, and none after: they are of the whole service."""
    yield
    for each in operator.get("/alerts/receivers").json()["data"]:
        assert operator.call("DELETE", f"/alerts/receivers/{each['id']}").json()["deleted"]


def test_who_may_create_keys_does_not_become_an_operator_of_the_service(
    operator: InternalClient, registrar: Registrar, account: Account
) -> None:
    """Alerts are of all accounts, and receivers may have private addresses."""
    answer = operator.post("/keys", {"kind": "rk", "scopes": ["alerts"]})
    assert_refused(answer, param="scopes[0]", message="ledger keys create ACCOUNT --kind rk --scope alerts")
    limited = InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["keys"])[1])
    key_id, _ = registrar.key(account.id, "rk", scopes=["alerts"])
    answer = limited.post(f"/keys/{key_id}/roll", {})
    assert_refused(answer, 403, code="more_permissions_required", message="on the command line")


@pytest.mark.usefixtures("no_receivers")
def test_a_secret_is_shown_once_also_to_who_repeats_the_request(operator: InternalClient) -> None:
    body = {"url": "https://alerts.example.com/T0ken", "description": "pager"}
    added = operator.post("/alerts/receivers", body, idempotency_key="add-1").json()
    assert added["secret"].startswith("whsec_")
    assert (added["host"], added["pending"], added["last_attempt"]) == ("https://alerts.example.com", 0, None)
    again = operator.post("/alerts/receivers", body, idempotency_key="add-1")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "secret_shown_once")
    listed = operator.get("/alerts/receivers")
    assert [each["id"] for each in listed.json()["data"]] == [added["id"]]
    assert "T0ken" not in listed.text
    assert "whsec_" not in listed.text


@pytest.mark.usefixtures("no_receivers")
def test_a_test_says_what_the_receiver_answered(operator: InternalClient, receiver: Receiver) -> None:
    added = operator.post("/alerts/receivers", {"url": receiver.url("/pager")}).json()
    path = f"/alerts/receivers/{added['id']}/test"
    receiver.scripts["/pager"] = [ScriptedResponse(503), ScriptedResponse(204)]
    refused = operator.post(path).json()
    assert (refused["delivered"], refused["status"], refused["error"]) == (False, 503, None)
    assert operator.post(path).json()["delivered"]
    request = receiver.requests_to("/pager")[-1]
    assert request.event(added["secret"])["data"]["object"]["id"] == added["id"]


@pytest.mark.usefixtures("no_receivers")
def test_there_is_a_bound_and_a_removed_one_is_gone(operator: InternalClient) -> None:
    url = "https://alerts.example.com/hook"
    added = [operator.post("/alerts/receivers", {"url": url}).json()["id"] for _ in range(RECEIVERS_MAX)]
    refused = operator.post("/alerts/receivers", {"url": url})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "alert_state")
    assert operator.call("DELETE", f"/alerts/receivers/{added[0]}").json()["deleted"]
    assert operator.call("DELETE", f"/alerts/receivers/{added[0]}").status_code == 404
    assert operator.post(f"/alerts/receivers/{added[0]}/test").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:swordfish@example.com"}, "url"),
        ({"url": "https://example.com", "description": "x" * 201}, "description"),
        ({"url": "https://example.com", "colour": "red"}, "colour"),
    ],
)
def test_a_receiver_that_is_wrong_is_refused_by_its_parameter(
    operator: InternalClient, body: dict[str, str], param: str
) -> None:
    refused = operator.post("/alerts/receivers", body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert "swordfish" not in refused.text
    assert operator.get("/alerts/receivers").json()["data"] == []


def test_what_does_not_exist_and_what_a_key_may_not_see_is_refused(
    operator: InternalClient, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    assert operator.get("/alerts/alrt_none").status_code == 404
    assert operator.post("/alerts/alrt_none/clear", {"reason": "x"}).status_code == 404
    assert operator.get("/alerts?starting_after=alrt_none").json()["error"]["param"] == "starting_after"
    assert operator.get("/alerts?state=gone").json()["error"]["param"] == "state"
    other = InternalClient(http, registrar.key(account.id, "rk", scopes=["projections"])[1])
    refused = other.get("/alerts")
    assert refused.status_code == 403
    assert "'alerts'" in refused.json()["error"]["message"]


@pytest.mark.usefixtures("no_receivers")
def test_a_shell_does_the_same(service: Service, operator: InternalClient, receiver: Receiver) -> None:
    add = ("alerts", "receivers", "add", receiver.url("/shell"), "--description", "pager", "--json")
    added = json.loads(service.run_command(*add))
    assert added["secret"].startswith("whsec_")
    listed = json.loads(service.run_command("alerts", "receivers", "list", "--json"))["data"]
    assert listed == operator.get("/alerts/receivers").json()["data"]
    assert "Delivered: status 200." in service.run_command("alerts", "receivers", "test", added["id"])
    assert receiver.requests_to("/shell")[0].event(added["secret"])["type"] == "alert.test"
    assert "is removed" in service.run_command("alerts", "receivers", "remove", added["id"])
    shown = json.loads(service.run_command("alerts", "list", "--json"))
    assert {"data", "has_more", "looked_seconds_ago"} == set(shown)
