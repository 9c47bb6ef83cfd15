"""The protocol of /v2: what a request has, and the form of its errors (contract §10.1, §10.2)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ledger.api.v2.dialect import decode_json
from ledger.api.v2.json_body import NO_BODY, JsonBody
from ledger.commands.models import Body
from ledger.errors import InvalidParameter
from ledger.wire.versions import LATEST_VERSION
from tests.api.service import Account, Caller, Registrar, Service, create_client, ok
from tests.v2.conftest import EVENTS, assert_refused_v2


class Inner(Body):
    url: str


class Outer(Body):
    """A body as operations have theirs."""

    name: str
    enabled: bool = False
    events: list[str] = Field(default_factory=list)
    inner: Inner | None = None
    metadata: dict[str, str | None] = Field(default_factory=dict)


BODY = JsonBody(Outer)


def test_a_body_keeps_what_was_sent_and_nothing_else() -> None:
    document = decode_json(b'{"name": "a", "inner": null, "metadata": {"k": null, "l": ""}}')
    assert BODY.parse(document) == {"name": "a", "inner": None, "metadata": {"k": None, "l": ""}}
    assert NO_BODY.parse(decode_json(b"")) == NO_BODY.parse(decode_json(b" {} ")) == {}


def test_the_schema_of_a_body_accepts_what_the_body_does() -> None:
    schema = BODY.schema()
    assert "$ref" not in json.dumps(schema)
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid({"name": "a", "inner": {"url": "u"}, "metadata": {"k": None}})
    assert not validator.is_valid({"name": "a", "inner": {"url": "u", "urls": "u"}})
    assert BODY.request_body()["required"]
    assert not NO_BODY.request_body()["required"]


@pytest.mark.contract("10.1 strict types", "10.2 unknown parameter")
@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ("{}", "name", "Missing required param: name"),
        ('{"name": "a", "enabled": "true"}', "enabled", "must be true or false"),
        ('{"name": "a", "enabled": 1}', "enabled", "must be true or false"),
        ('{"name": 1}', "name", "must be a string"),
        ('{"name": null}', "name", "must be a string"),
        ('{"name": "a", "events": "x"}', "events", "must be an array"),
        ('{"name": "a", "events": ["x", 1]}', "events[1]", "must be a string"),
        ('{"name": "a", "inner": []}', "inner", "must be an object"),
        ('{"name": "a", "inner": {"url": 1}}', "inner[url]", "must be a string"),
        ('{"name": "a", "inner": {"url": "u", "urls": "u"}}', "inner[urls]", r"Did you mean inner\[url\]\?"),
        ('{"name": "a", "enabeld": true}', "enabeld", r"Did you mean enabled\?"),
        ('{"name": "a", "metadata": {"k": 1}}', "metadata[k]", "must be a string"),
    ],
)
def test_a_field_of_another_type_or_name_is_refused_by_its_name(body: str, param: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as refused:
        BODY.parse(decode_json(body.encode()))
    assert refused.value.param == param


@pytest.mark.contract("10.1 JSON")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"name=a", "not valid UTF-8 JSON"),
        (b'{"name": "a"', "not valid UTF-8 JSON"),
        (b'{"name": "\xff"}', "not valid UTF-8 JSON"),
        (b'{"name": NaN}', "not valid UTF-8 JSON"),
        (b'{"name": "a"} {}', "not valid UTF-8 JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"name": "a", "name": "b"}', "the name 'name' twice"),
        (b'{"name": "a", "inner": {"url": "a", "url": "b"}}', "the name 'url' twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', r"the name '\\ud800' twice"),
        (b'{"name": ' + b"9" * 5000 + b"}", "not valid UTF-8 JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        decode_json(body)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
).map(lambda document: json.dumps(document).encode())


@given(st.binary(max_size=40) | json_texts)
def test_any_bytes_are_read_or_refused_with_a_message(body: bytes) -> None:
    try:
        values = BODY.parse(decode_json(body))
    except InvalidParameter as error:
        (error.message + (error.param or "")).encode()
    else:
        assert values["name"] == json.loads(body)["name"]


@pytest.mark.contract("10.1 Stripe-Version")
def test_an_answer_names_its_version_and_an_unknown_one_is_refused(raw: Caller) -> None:
    assert raw.get(EVENTS).headers["stripe-version"] == LATEST_VERSION
    for version in ("2026-09-30.preview", "2024-09-30.acacia"):
        answer = raw.get(EVENTS, stripe_version=version)
        assert ok(answer)["data"] == []
        assert answer.headers["stripe-version"] == version
    refused = raw.get(EVENTS, stripe_version="2026-99-99.wrong")
    assert_refused_v2(refused, message="Invalid Stripe API version: 2026-99-99.wrong")
    assert "stripe-version" not in refused.headers


@pytest.mark.contract("10.1 query")
def test_parameters_of_a_read_are_in_its_query_only(raw: Caller) -> None:
    def get(body: str, kind: str) -> httpx.Response:
        return raw.http.request(
            "GET",
            EVENTS,
            content=body,
            headers={"authorization": f"Bearer {raw.key}", "content-type": kind},
        )

    for body, kind in (("limit=1", "application/x-www-form-urlencoded"), ('{"limit":1}', "application/json")):
        assert_refused_v2(get(body, kind), message="takes its parameters in the query")
    assert ok(get("{}", "application/json"))["data"] == []


@pytest.mark.contract("10.2 unknown URL")
@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v2/events", r"Did you mean /v2/core/events\?"),
        ("GET", "/v2/core/accounts", "Ledger does not have v2 core accounts"),
        ("POST", EVENTS, "This URL takes GET"),
        ("DELETE", f"{EVENTS}/evt_thin_1", "This URL takes GET"),
        ("GET", f"{EVENTS}/", "remove the trailing slash"),
        ("GET", "/v2/", "See docs/api.md"),
        ("GET", "/v2", "See docs/api.md"),
        ("GET", f"{EVENTS}/a%2Fb", "No such thin event: 'a%2Fb'"),
        ("GET", f"{EVENTS}/evt_thin_%00", "Unrecognized request URL"),
    ],
)
def test_an_unknown_url_is_not_found_in_the_form_of_v2(
    raw: Caller, method: str, path: str, message: str
) -> None:
    answer = raw.call(method, path)
    param = "id" if "No such" in message else None
    assert_refused_v2(answer, 404, code="not_found", param=param, message=message)


@pytest.mark.contract("10.2 no key")
def test_a_request_without_a_valid_key_is_refused(
    nobody: Caller, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    refused = nobody.get(EVENTS)
    assert_refused_v2(refused, 401, code="unauthenticated", message="You did not provide an API key")
    wrong = Caller(http, "sk_test_wrong").get(EVENTS)
    assert_refused_v2(wrong, 401, code="unauthenticated", message=r"Invalid API Key provided: sk_test_\*+")
    assert_refused_v2(nobody.get("/v2/core/nothing"), 401, code="unauthenticated")
    key_id, revoked = registrar.key(account.id)
    registrar.revoke(key_id)
    assert_refused_v2(Caller(http, revoked).get(EVENTS), 401, code="api_key_expired")


@pytest.mark.contract("10.2 SDKs")
def test_the_sdk_raises_its_own_exceptions(service: Service, account: Account) -> None:
    client = create_client(service, account.secret)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.core.events.list({"types": ["v1.charge.suceeded"]})
    assert (refused.value.code, refused.value.param) == ("invalid_fields", "types[0]")
    assert "v1.charge.succeeded" in str(refused.value)
    with pytest.raises(stripe.InvalidRequestError) as missing:
        client.v2.core.events.retrieve("evt_thin_none")
    assert (missing.value.code, missing.value.http_status) == ("not_found", 404)
    with pytest.raises(stripe.AuthenticationError):
        create_client(service, "sk_test_wrong").v2.core.events.list()
    with pytest.raises(stripe.PermissionError):
        create_client(service, account.publishable).v2.core.events.list()


@pytest.mark.contract("10.1 CORS")
def test_pages_of_other_origins_may_ask(service: Service, raw: Caller) -> None:
    headers = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    preflight = httpx.options(f"{service.url}{EVENTS}", headers=headers)
    assert preflight.status_code == 200
    assert "GET" in preflight.headers["access-control-allow-methods"]
    assert raw.get(EVENTS).headers["access-control-allow-origin"] == "*"


def test_requests_are_answered_alike_with_and_without_the_short_way(raw: Caller) -> None:
    """A path with an escape goes through the ASGI application, any other does not."""
    raw.customer(name="Ada")
    short: Any = ok(raw.get(EVENTS))
    assert ok(raw.get("/v2/core/event%73")) == short
