"""Framing, form decoding and headers (contract §1.1, §1.3, §1.4), as an HTTP client sees them."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import httpx
import pytest

from ledger.wire.versions import LATEST_VERSION, ORDERED_VERSIONS
from tests.api.conftest import parse_log
from tests.api.service import FORM, Account, Caller, Service, assert_refused, ok


def test_a_json_body_is_refused_with_advice(raw: Caller) -> None:
    answer = raw.call("POST", "/v1/customers", b'{"name": "x"}', {"content-type": "application/json"})
    assert_refused(answer, message="check that your POST content type is application/x-www-form-urlencoded")
    assert raw.events() == []


@pytest.mark.parametrize(
    "content_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper(), f"{FORM};charset=UTF-8"]
)
def test_forms_are_accepted_under_any_spelling(raw: Caller, content_type: str) -> None:
    answer = raw.call("POST", "/v1/customers", b"name=x", {"content-type": content_type})
    assert ok(answer)["name"] == "x"


def test_a_post_without_a_body_is_an_empty_form(raw: Caller) -> None:
    for headers in ({}, {"content-length": "0"}, {"content-type": FORM, "content-length": "0"}):
        assert ok(raw.call("POST", "/v1/customers", headers=headers))["object"] == "customer"


def test_get_and_delete_accept_a_form_content_type(raw: Caller) -> None:
    customer = raw.customer(name="x")["id"]
    headers = {"content-type": FORM, "accept-encoding": "gzip"}
    assert ok(raw.call("GET", f"/v1/customers/{customer}", headers=headers))["name"] == "x"
    assert ok(raw.call("DELETE", f"/v1/customers/{customer}", headers=headers))["deleted"] is True


def test_the_body_of_a_get_is_read_like_its_query(raw: Caller) -> None:
    for number in range(3):
        raw.customer(name=str(number))
    assert len(ok(raw.call("GET", "/v1/customers", "limit=1"))["data"]) == 1
    assert len(ok(raw.call("GET", "/v1/customers?expand[]=data.sources", b"limit=2"))["data"]) == 2
    unknown = raw.call("GET", "/v1/customers", "limit=1&foo=2")
    assert_refused(unknown, code="parameter_unknown", param="foo")
    json = raw.http.request(
        "GET", "/v1/customers", json={"limit": 1}, headers={"authorization": f"Bearer {raw.key}"}
    )
    assert_refused(json, message="content type")
    for empty in ({"content-length": "0"}, {"content-type": "application/json"}):
        assert len(ok(raw.call("GET", "/v1/customers", headers=empty))["data"]) == 3


def test_every_answer_is_json_with_a_request_id_of_its_own(raw: Caller, nobody: Caller) -> None:
    answers = [
        raw.post("/v1/customers"),
        raw.get("/v1/customers"),
        raw.get("/v1/customers/x"),
        raw.get("/v1/nothing"),
        raw.post("/v1/customers", "nmae=x"),
        raw.get("/v1/customers", stripe_version="x"),
        raw.get("/v1/customers", stripe_account="x"),
        nobody.get("/v1/customers"),
        nobody.get("/v1/nothing"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 400, 400, 403, 401, 401]
    for answer in answers:
        assert answer.headers["content-type"].startswith("application/json")
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert isinstance(answer.json(), dict)
    ids = [answer.headers["request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(request_id.startswith("req_") for request_id in ids)


def test_the_request_id_is_that_of_the_events(raw: Caller) -> None:
    answer = raw.post("/v1/customers", "name=x")
    (event,) = raw.events()
    assert event["request"] == {"id": answer.headers["request-id"], "idempotency_key": None}


@pytest.mark.parametrize("version", [*ORDERED_VERSIONS, "2026-09-30.preview", "2027-01-31.preview"])
@pytest.mark.contract("9 preview versions")
def test_every_version_is_accepted_and_echoed(raw: Caller, version: str) -> None:
    answer = raw.get("/v1/charges?limit=1", stripe_version=version)
    assert (answer.status_code, answer.headers["stripe-version"]) == (200, version)


@pytest.mark.parametrize(
    "version",
    [
        "1999-01-01",
        "latest",
        "2026-10-28",
        "2026-10-28.endive ;",
        "x" * 500,
        "preview",
        "2026-13-01.preview",
        "2026-09-30.preview2",
        "2026-09-31-preview",
    ],
)
@pytest.mark.contract("1.6 bad Stripe-Version")
def test_an_unknown_version_is_refused(raw: Caller, version: str) -> None:
    answer = raw.call("GET", "/v1/charges", headers={"stripe-version": version})
    assert_refused(answer, message="^Invalid Stripe API version: ")


def test_every_authenticated_answer_names_the_version_used(
    raw: Caller, nobody: Caller, account: Account
) -> None:
    publishable = Caller(raw.http, account.publishable)
    answers = [
        raw.get("/v1/charges"),
        raw.get("/v1/charges/x"),
        raw.get("/v1/nothing"),
        raw.post("/v1/charges", "nmae=x"),
        raw.get("/v1/charges", stripe_account="x"),
        publishable.get("/v1/charges"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 400, 403, 403]
    assert [answer.headers.get("stripe-version") for answer in answers] == [LATEST_VERSION] * 6
    assert "stripe-version" not in nobody.get("/v1/charges").headers
    older = raw.get("/v1/nothing", stripe_version=ORDERED_VERSIONS[0])
    assert older.headers["stripe-version"] == ORDERED_VERSIONS[0]


def test_the_idempotency_key_is_echoed_on_post_only(raw: Caller) -> None:
    answer = raw.post("/v1/customers", idempotency_key="a key")
    assert answer.headers["idempotency-key"] == "a key"
    assert answer.headers["original-request"] == answer.headers["request-id"]
    assert "idempotent-replayed" not in answer.headers
    refusal = raw.post("/v1/customers", "nmae=x", idempotency_key="other")
    assert refusal.headers["idempotency-key"] == "other"
    assert "idempotency-key" not in raw.get("/v1/customers", idempotency_key="k").headers
    assert "idempotency-key" not in raw.post("/v1/customers").headers


def test_a_replay_says_so_and_names_the_first_request(raw: Caller) -> None:
    first = raw.post("/v1/customers", idempotency_key="k")
    again = raw.post("/v1/customers", idempotency_key="k")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"]
    assert again.headers["request-id"] != first.headers["request-id"]
    assert again.headers["idempotency-key"] == "k"
    assert "stripe-should-retry" not in again.headers


def test_other_headers_of_the_clients_are_ignored(raw: Caller) -> None:
    answer = raw.call(
        "GET",
        "/v1/customers",
        headers={
            "x-stripe-client-user-agent": "{}",
            "x-stripe-client-telemetry": "{",
            "stripe-livemode": "maybe",
        },
    )
    assert answer.status_code == 200
    assert "stripe-notice" not in answer.headers


def test_parameters_are_nested_hashes_and_arrays_in_every_notation(raw: Caller) -> None:
    forms = [
        "address[city]=Berlin&preferred_locales[]=de&preferred_locales[]=en&name=A+B%20C",
        "address%5Bcity%5D=Berlin&preferred_locales[0]=de&preferred_locales[1]=en&name=A%20B+C",
        "preferred_locales[9]=en&preferred_locales[3]=de&address[city]=Berlin&name=x&name=A B C",
        "&preferred_locales[]=de&&preferred_locales[]=en&address[city]=Berlin&name=A+B+C&",
    ]
    for form in forms:
        made = ok(raw.post("/v1/customers", form))
        assert made["name"] == "A B C"
        assert made["preferred_locales"] == ["de", "en"]
        assert made["address"]["city"] == "Berlin"


def test_arrays_of_hashes_in_both_notations(raw: Caller) -> None:
    field = "invoice_settings[custom_fields]"
    for form in (
        f"{field}[][name]=a&{field}[][value]=1&{field}[][name]=b&{field}[][value]=2",
        f"{field}[0][name]=a&{field}[0][value]=1&{field}[1][name]=b&{field}[1][value]=2",
    ):
        assert ok(raw.post("/v1/customers", form))["invoice_settings"]["custom_fields"] == [
            {"name": "a", "value": "1"},
            {"name": "b", "value": "2"},
        ]


@pytest.mark.parametrize(
    "text",
    ["é😀", "a=b&c", "100%", "a+b", "line\nbreak\ttab", "\u2028", "'; DROP TABLE", "\\x41", '"', "[]{}", " "],
)
def test_text_is_returned_as_it_was_sent(raw: Caller, text: str) -> None:
    made = raw.customer(name=text, **{"metadata[key]": text})
    assert (made["name"], made["metadata"]) == (text, {"key": text})
    assert ok(raw.get(f"/v1/customers/{made['id']}"))["name"] == text
    (event,) = raw.events()
    assert event["data"]["object"] == made


def test_an_empty_string_unsets_an_optional_field(raw: Caller) -> None:
    customer = raw.customer(
        name="x", **{"address[city]": "B", "address[line1]": "L", "metadata[a]": "1", "shipping[name]": "n",
                     "shipping[address][city]": "C"}
    )["id"]  # fmt: skip
    path = f"/v1/customers/{customer}"
    after = ok(raw.post(path, "name=&address[city]=&shipping="))
    assert (after["name"], after["address"]["city"], after["address"]["line1"]) == (None, None, "L")
    assert after["shipping"] is None
    after = ok(raw.post(path, "address=&metadata="))
    assert (after["address"], after["metadata"]) == (None, {})


def test_parameters_of_a_post_may_be_in_its_query(raw: Caller) -> None:
    assert ok(raw.post("/v1/customers?name=q", "description=b"))["name"] == "q"


def test_a_compressed_body_is_not_parsed_as_a_form(raw: Caller) -> None:
    answer = raw.call("POST", "/v1/customers", gzip.compress(b"name=x"), {"content-encoding": "gzip"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("sent", "captured"), [("True", True), ("TRUE", True), ("tRuE", True), ("False", False)]
)
@pytest.mark.contract("9 booleans in any case")
def test_a_boolean_may_be_in_any_case(raw: Caller, sent: str, captured: bool) -> None:
    assert raw.charge(capture=sent)["captured"] is captured


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
@pytest.mark.contract("9 encoded slash in a path")
def test_an_encoded_slash_is_part_of_an_id(raw: Caller, operator: Caller, slash: str) -> None:
    dispute = raw.dispute()
    answer = raw.post(f"/v1/disputes/{dispute['id']}{slash}close")
    assert_refused(answer, 404, code="resource_missing", param="dispute", message="%2Fclose'$")
    charge = raw.get(f"/v1/charges{slash}{dispute['charge']}")
    assert_refused(charge, 404, message="^Unrecognized request URL")
    assert_refused(raw.get(f"/v1{slash}customers"), 404, message="^Unrecognized request URL")
    fact = operator.http.post(
        f"/internal/v1/disputes/{dispute['id']}{slash}facts",
        json={"fact": "lost", "reference": "r"},
        headers={"authorization": f"Bearer {operator.key}"},
    )
    assert fact.status_code == 404
    assert ok(raw.get(f"/v1/disputes/{dispute['id']}")) == dispute


def test_other_encoded_characters_of_an_id_are_decoded(raw: Caller) -> None:
    customer = raw.customer(name="x")["id"]
    assert ok(raw.get(f"/v1/customers/{customer.replace('_', '%5F')}"))["name"] == "x"
    assert ok(raw.get(f"/v1/%63ustomers/{customer}"))["name"] == "x"


@pytest.mark.parametrize("user_agent", ["curl/8.14.1", "Stripe/v1 stripe-cli/1.52.0"])
@pytest.mark.contract("9 indented for curl and stripe-cli")
def test_curl_and_stripe_cli_get_indented_json(raw: Caller, user_agent: str) -> None:
    people = {"user-agent": user_agent}
    form, key = {"name": "x", "metadata[a]": "{"}, {"idempotency-key": f"key of {user_agent}"}
    compact = raw.call("POST", "/v1/customers", form, key)
    indented = raw.call("POST", "/v1/customers", form, key | people)
    assert indented.text == json.dumps(json.loads(compact.text), indent=2)
    assert "\n" not in compact.text
    assert raw.call("POST", "/v1/customers", form, key).text == compact.text
    error = raw.call("GET", "/v1/nothing", headers=people)
    assert_refused(error, 404)
    assert error.text.startswith('{\n  "error": {\n    "type": ')
    listed = ok(raw.call("GET", "/v1/events?type=customer.created", headers=people))["data"]
    assert [event["data"]["object"] for event in listed] == [compact.json()]


UPGRADE = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}


@pytest.mark.parametrize("pause", [0, 0.05], ids=["in one piece", "head and body apart"])
def test_an_offer_of_an_upgrade_is_ignored(service: Service, raw: Caller, pause: float) -> None:
    def encode(name: str) -> tuple[bytes, bytes]:
        body = f"name={name}"
        lines = [
            "POST /v1/customers HTTP/1.1", f"host: {service.url}", f"authorization: Bearer {raw.key}",
            f"content-type: {FORM}", f"content-length: {len(body)}",
            *(f"{header}: {value}" for header, value in UPGRADE.items()),
        ]  # fmt: skip
        return "\r\n".join([*lines, "", ""]).encode(), body.encode()

    logged = len(service.log)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        for head, body in (encode("first"), encode("second")):
            connection.sendall(head if pause else head + body)
            time.sleep(pause)
            if pause:
                connection.sendall(body)
        received = b""
        while received.count(b'"object":"customer"') < 2:
            received += connection.recv(65_536)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert [event["data"]["object"]["name"] for event in raw.events()] == ["first", "second"]
    assert "pgrade" not in service.log[logged:]


def test_a_websocket_is_answered_as_a_plain_request(raw: Caller) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert_refused(raw.call("GET", "/v1/nothing", headers=headers), 404)
    refused = raw.http.request("CONNECT", "/v1/customers")
    assert refused.status_code == 400


def test_a_client_that_speaks_tls_is_told_why_and_the_log_says_it_once(
    service: Service, http: httpx.Client
) -> None:
    earlier = len(read_tls_lines(service))
    for _ in range(3):
        with pytest.raises(httpx.ConnectError, match=r"(?i)wrong.version|record layer"):
            httpx.get(service.url.replace("http", "https", 1) + "/v1/customers")
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(hello)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This port speaks HTTP, not HTTPS: use http:// in the URL" in answer
    lines = read_tls_lines(service)
    assert len(lines) <= earlier + 1  # none, if the same has happened within the last minute
    assert lines[-1]["client"] == "127.0.0.1"
    assert "http://" in lines[-1]["advice"]
    assert ok(http.get("/healthz"))["status"] == "ok"


def read_tls_lines(service: Service) -> list[dict[str, Any]]:
    return [entry for entry in parse_log(service.log) if entry["event"] == "tls_hello_on_plain_port"]
