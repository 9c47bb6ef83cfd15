"""What every call of the internal API has, whichever route answers: a limit on its body, a Request-Id, a
place in the metrics and in the access log."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.config import Settings
from tests.api.service import Account, Caller, Service, assert_refused, ok
from tests.internal.conftest import InternalClient

LIMIT = Settings.model_fields["body_bytes_max"].default
PATHS = ["/customers", "/keys", "/clock", "/nothing"]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "internal-api.md"


def send_body(operator: InternalClient, path: str, content: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {operator.key}", "content-type": "application/json"}
    return operator.http.post(f"/internal/v1{path}", content=content, headers=headers)


def read_request_count(http: httpx.Client, operation: str, status: int) -> float:
    sample = re.escape(f'ledger_requests_total{{operation="{operation}",status="{status}"}} ')
    match = re.search(f"^{sample}(.+)$", http.get("/metrics").text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def read_log_entry(service: Service, request_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        for line in service.log.splitlines():
            if request_id in line:
                return json.loads(line)
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("path", PATHS)
def test_a_body_whose_stated_length_is_too_large_is_refused_unread(
    operator: InternalClient, path: str
) -> None:
    assert_refused(
        send_body(operator, path, b'{"name": "' + b"x" * LIMIT + b'"}'), 413, message=f"larger than {LIMIT}"
    )


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(
    operator: InternalClient, service: Service
) -> None:
    """The body never ends: the answer comes before all of it is read."""
    head = (
        "POST /internal/v1/customers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {operator.key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as conn:
        conn.sendall(head.encode() + b"10000\r\n%b\r\n" % (b" " * 65_536) * (LIMIT // 65_536 + 2))
        answer = conn.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than" in answer


def test_a_body_as_long_as_the_limit_is_read(operator: InternalClient) -> None:
    body = b'{"name": "Ada"' + b" " * (LIMIT - 15) + b"}"
    assert len(body) == LIMIT
    assert ok(send_body(operator, "/customers", body))["name"] == "Ada"
    assert_refused(send_body(operator, "/customers", body + b" "), 413)


def test_an_import_may_be_longer_than_any_body(operator: InternalClient) -> None:
    line = json.dumps({"op": "customer", "id": "cus_imported", "description": "d" * 5000}).encode() + b"\n"
    answer = send_body(operator, "/import", line * (LIMIT // len(line) + 2))
    assert answer.status_code == 200
    assert answer.text.count('"changed":true') == 1


@pytest.mark.parametrize("body", [b'{"name": "\xff"}', b"{", b"[" * 100_000, b'"x"'])
def test_a_body_that_is_not_a_json_object_is_refused(operator: InternalClient, body: bytes) -> None:
    answer = send_body(operator, "/customers", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "URL" not in answer.json()["error"]["message"]


def test_every_call_has_a_request_id(operator: InternalClient) -> None:
    stranger = InternalClient(operator.http, "sk_test_unknown1234")
    answers = [
        operator.get("/keys"),
        operator.get("/nothing"),
        operator.post("/customers", {"nmae": "x"}),
        stranger.get("/keys"),
        send_body(operator, "/keys", b" " * (LIMIT + 1)),
    ]
    ids = [answer.headers.get_list("request-id") for answer in answers]
    assert all(len(each) == 1 and each[0].startswith("req_") for each in ids)
    assert len({each[0] for each in ids}) == len(ids)


NAME = "Ada Lovelace"  # no logged id can contain this by chance


def test_calls_are_counted_by_route_and_not_by_path(operator: InternalClient, http: httpx.Client) -> None:
    calls: list[tuple[str, int, Any]] = [
        ("POST /internal/v1/customers", 200, lambda: operator.post("/customers", {"name": "Ada"})),
        ("POST /internal/v1/customers", 400, lambda: operator.post("/customers", {"nmae": "Ada"})),
        ("POST /internal/v1/disputes/{id}/facts", 404,
         lambda: operator.post("/disputes/du_none/facts", {"fact": "won"})),
        ("GET /internal/v1/keys", 401, lambda: InternalClient(http, "sk_test_unknown1234").get("/keys")),
        ("none", 404, lambda: operator.get("/nothing/at/all")),
        ("none", 413, lambda: send_body(operator, "/keys", b" " * (LIMIT + 1))),
    ]  # fmt: skip
    for operation, status, call in calls:
        before = read_request_count(http, operation, status)
        assert call().status_code == status
        assert read_request_count(http, operation, status) == before + 1


def test_calls_are_logged_like_public_ones(
    operator: InternalClient, raw: Caller, service: Service, account: Account
) -> None:
    internal = read_log_entry(service, operator.post("/customers", {"name": NAME}).headers["request-id"])
    public = read_log_entry(service, raw.post("/v1/customers", {"name": NAME}).headers["request-id"])
    assert set(internal) == set(public)
    assert (internal["method"], internal["path"]) == ("POST", "/internal/v1/customers")
    assert (internal["status"], internal["account"]) == (200, account.id)
    assert internal["key"].startswith("key_")
    assert NAME not in service.log
    unknown = operator.get("/nothing/sk_test_abcdefghijklmnop?key=sk_test_abcdefghijklmnop")
    assert read_log_entry(service, unknown.headers["request-id"])["path"] == "/internal/v1/nothing/[removed]"


def test_the_document_lists_the_names_of_all_operations(operator: InternalClient) -> None:
    described = operator.http.get("/openapi.json").json()["paths"]
    names = {
        entry["operationId"]
        for path, methods in described.items()
        for entry in methods.values()
        if path.startswith("/internal/v1/")
    }
    section = DOCUMENT.read_text().partition("### Names of operations")[2].partition("| group |")[2]
    assert set(re.findall(r"`(\w+)`", section)) == names


def test_a_name_in_the_query_that_is_not_declared_is_refused_on_every_route(operator: InternalClient) -> None:
    tried = 0
    for path, methods in operator.http.get("/openapi.json").json()["paths"].items():
        if not path.startswith("/internal/v1/"):
            continue
        concrete = re.sub(r"\{\w+\}", "x", path.removeprefix("/internal/v1"))
        for method, entry in methods.items():
            query = [each for each in entry.get("parameters", []) if each.get("in") == "query"]
            needed = "".join(f"{each['name']}=x&" for each in query if each["required"])
            answer = operator.call(method.upper(), f"{concrete}?{needed}foo=1", {})
            assert_refused(answer, code="parameter_unknown", param="foo")
            tried += 1
    assert tried > 20
    assert ok(operator.get("/keys?limit=1"))["data"]
    assert_refused(operator.http.get("/internal/v1/keys?foo=1"), 401)
