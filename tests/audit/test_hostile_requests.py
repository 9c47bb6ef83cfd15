"""Requests to the audit API that nobody should send: each is answered, none is answered in two ways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.internal.conftest import InternalClient

AUDIT = "/internal/v1/audit"
HOSTILE = ("\0", "cus_1\0", "'", "%", "position:-1", "9" * 300, "\U0001f600", "a/../b")
REQUIRED = {f"{AUDIT}/objects": "type=customer&", f"{AUDIT}/proof/consistency": "from=0&"}


def list_parameters(operator: InternalClient, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each parameter of each route of the audit API, as the service describes it."""
    for path, methods in operator.http.get("/openapi.json").json()["paths"].items():
        if path.startswith(f"{AUDIT}/"):
            for parameter in methods["get"].get("parameters", []):
                if parameter["in"] == kind:
                    yield path, parameter


def fill(path: str, value: str = "1") -> str:
    return re.sub(r"\{\w+\}", value, path)


def ask(operator: InternalClient, path: str, query: str) -> Any:
    return operator.get(f"{path.removeprefix('/internal/v1')}?{query}")


def test_no_text_in_a_request_is_a_failure_of_the_service(operator: InternalClient, raw: Caller) -> None:
    raw.customer()
    encoded = [*(quote(text, safe="") for text in HOSTILE), "%FF%FE", "%ED%A0%80"]
    for value in encoded:
        for path, _ in list_parameters(operator, "path"):
            answer = ask(operator, fill(path, value), "")
            assert answer.status_code < 500, (path, value, answer.text)
        for path, parameter in list_parameters(operator, "query"):
            query = f"{REQUIRED.get(path, '')}{quote(parameter['name'])}={value}"
            answer = ask(operator, fill(path), query)
            assert answer.status_code < 500, (path, query, answer.text)


def test_a_question_that_is_asked_twice_in_one_request_is_refused(
    operator: InternalClient, raw: Caller
) -> None:
    raw.customer()
    checked = 0
    for path, parameter in list_parameters(operator, "query"):
        name, schema = parameter["name"], parameter["schema"]
        if schema.get("type") == "array":
            continue
        (value,) = schema.get("examples", [1])[:1]
        answer = ask(operator, fill(path), f"{quote(name)}={value}&{quote(name)}={value}")
        assert answer.status_code in (400, 404), (path, name, answer.text)
        checked += answer.json()["error"]["message"] == f"Received {name} more than once."
    assert checked > 60
    assert_refused(ask(operator, f"{AUDIT}/objects", "type=customer&type=charge"), param="type")
    ok(ask(operator, f"{AUDIT}/log", "type=customer.created&type=charge.*"))
    ok(ask(operator, f"{AUDIT}/objects", "type=charge&expand[]=data.customer&expand[]=data.refunds"))


@pytest.mark.parametrize("path", ["/audit/objects?type=customer", "/audit/objects/{id}"])
def test_a_version_that_does_not_exist_is_refused(operator: InternalClient, raw: Caller, path: str) -> None:
    path = path.format(id=raw.customer()["id"])
    assert_refused(
        operator.call("GET", path, headers={"stripe-version": "soon"}), message="API version: soon"
    )
    shown = operator.call("GET", path, headers={"stripe-version": "2019-02-19"})
    assert (shown.status_code, shown.headers["stripe-version"]) == (200, "2019-02-19")
    assert shown.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [f"{AUDIT}/log/", f"{AUDIT}/objects/", f"{AUDIT}/tile/."])
def test_a_path_with_another_end_is_no_route(operator: InternalClient, path: str) -> None:
    answer = operator.http.get(path, headers={"authorization": f"Bearer {operator.key}"})
    assert answer.status_code in (400, 404)
    assert set(answer.json()) == {"error"}


def test_a_proof_of_the_future_says_where_the_log_ends(operator: InternalClient, raw: Caller) -> None:
    raw.customer()
    for path in (f"{AUDIT}/proof/99999999.tlog-proof", f"{AUDIT}/proof/{'9' * 200}.tlog-proof"):
        assert_refused(ask(operator, path, ""), param="id", message="is in the future: the last one is ")


def test_no_filter_tells_what_a_key_may_not_see(
    operator: InternalClient, account: Account, registrar: Registrar
) -> None:
    """Who may not see what a service has published cannot find it by its content either."""
    holder = f"ich_{account.id}"
    content = {"phone_number": "+15550100", "email": "ada@example.com", "status": "active"}
    body = {"event_type": "issuing_cardholder.created", "object": content}
    ok(operator.call("PUT", f"/resources/issuing.cardholder/{holder}", body))
    weak = InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["audit"])[1])
    for name, value in content.items():
        query = f"type=issuing.cardholder&{name}={quote(value)}"
        assert [each["id"] for each in ok(ask(operator, f"{AUDIT}/objects", query))["data"]] == [holder]
        refused = ask(weak, f"{AUDIT}/objects", query)
        assert_refused(refused, 403, code="more_permissions_required", param=name, message="'personal_data'")
    (shown,) = ok(ask(weak, f"{AUDIT}/objects", "type=issuing.cardholder&created[gte]=0"))["data"]
    assert shown == {"id": holder, "object": "issuing.cardholder"}


@pytest.mark.parametrize(
    ("route", "start", "end"), [("log", "time[gte]", "time[lte]"), ("journal", "from", "to")]
)
def test_a_fraction_and_its_whole_second_are_in_order(
    operator: InternalClient, route: str, start: str, end: str
) -> None:
    """A time without a fraction includes its second to the end."""
    second = "2026-01-01T12:00:00"
    ok(ask(operator, f"{AUDIT}/{route}", f"{start}={second}.5&{end}={second}"))
    assert_refused(ask(operator, f"{AUDIT}/{route}", f"{start}={second}.5&{end}={second}.4"), param=end)
