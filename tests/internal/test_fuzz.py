"""Fuzzing: random requests generated from the OpenAPI document of the internal API.

Each must be answered in time, with an expected status, in the shape that the document declares, and never
with an internal error. Every run sends the same requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from ledger.accounts import INTERNAL_SCOPES
from ledger.api.app import create_app
from ledger.config import load_settings
from tests.api.conftest import check_log
from tests.api.service import Registrar, Service
from tests.conftest import Cluster
from tests.wire.closed_schemas import close

ANSWER_SECONDS = 30
"""More than the service takes for a request at most."""
# 403: the body names an account that does not exist. No 401: the key is valid.
STATUSES = {200, 400, 402, 403, 404, 409, 413}

ACCOUNT_HEADERS = ("stripe-account", "stripe-context")
IMPORT = "/internal/v1/import"
FACTS = "/internal/v1/disputes/{id}/facts"
KNOWN = (
    b'{"op": "charge", "id": "ch_known", "amount": 2000, "currency": "usd"}\n'
    b'{"op": "dispute", "id": "du_known", "charge": "ch_known", "kind": "chargeback", "reference": "known"}\n'
)


def _document() -> dict[str, Any]:
    """The served document, changed so that requests succeed: a random account would end nearly every
    request with 403, a random dispute every fact with 404. No answer may have a member that is not declared.
    """
    key = b"a key to describe the service, not to use"
    document = create_app(load_settings(test_clock=True), "dbname=none", key).openapi()
    for methods in document["paths"].values():
        for entry in methods.values():
            entry.pop("security", None)  # or it would omit the key, or generate one
            parameters = entry.get("parameters", [])
            entry["parameters"] = [each for each in parameters if not _is_header_of_all(each)]
    (dispute,) = document["paths"][FACTS]["post"]["parameters"]
    dispute["schema"] = {"enum": ["du_known", "du_none"]}
    for parameter in document["paths"]["/internal/v1/feed"]["get"]["parameters"]:
        if parameter["name"] == "wait":
            parameter["schema"] = {"type": "number", "minimum": 0, "maximum": 0.01}  # seconds that it takes
    document["components"]["schemas"] = close(document["components"]["schemas"])
    return document


def _is_header_of_all(parameter: dict[str, Any]) -> bool:
    return "$ref" in parameter or parameter["name"] in ACCOUNT_HEADERS


as_ever = settings(
    derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)  # the same in every run, however slow the machine
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return _document()


@pytest.fixture(scope="module")
def fuzzed(cluster: Cluster) -> Iterator[tuple[str, requests.Session]]:
    """The URL of a service of its own, since the requests move its clock, and a session with a key of all
    scopes."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        # A list does not wait for projections that the moves of the clock keep busy.
        service = Service(dsn, Path(place), LEDGER_LIST_WAIT_MS="500")
        registrar = Registrar(dsn)
        key = registrar.key(registrar.account().id, "rk", scopes=INTERNAL_SCOPES)[1]
        registrar.close()
        session = requests.Session()
        session.trust_env = False  # or it would look for proxies before each request
        session.headers["authorization"] = f"Bearer {key}"
        assert (
            b"error" not in session.post(f"{service.url}{IMPORT}", data=KNOWN, timeout=ANSWER_SECONDS).content
        )
        try:
            yield service.url, session
        finally:
            service.stop()
        check_log(service.log)


def test_random_requests_are_answered_as_declared(
    document: dict[str, Any], fuzzed: tuple[str, requests.Session], subtests: pytest.Subtests
) -> None:
    schema = schemathesis.openapi.from_dict(document).include(path_regex="^/internal/").exclude(path=IMPORT)
    # Made here and not by `parametrize`: all processes that collect the tests would make all the requests.
    tests = get_all_tests(schema=schema, test_func=is_answered_as_declared, settings=None, given_kwargs=None)
    for result in tests:
        assert isinstance(result, Ok), result
        operation, send = result.ok()
        with subtests.test(operation.label):
            send(fuzzed=fuzzed)


@settings(as_ever, max_examples=10)
def is_answered_as_declared(case: schemathesis.Case, fuzzed: tuple[str, requests.Session]) -> None:
    url, session = fuzzed
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
    answer = case.call_and_validate(base_url=url, session=session, timeout=ANSWER_SECONDS, checks=checks)
    assert answer.status_code in STATUSES, (answer.status_code, answer.text)
    assert answer.headers["request-id"]


@st.composite
def near_lines(draw: st.DrawFn, lines: list[str]) -> bytes:
    """One of the lines with one member replaced, or random bytes."""
    line = json.loads(draw(st.sampled_from(lines)))
    line[draw(st.sampled_from([*line, "other"]))] = draw(anything)
    return draw(st.just(json.dumps(line).encode()) | st.binary(max_size=20)).replace(b"\n", b"")


@settings(as_ever, max_examples=40)
@given(st.data())
def test_random_imports_are_answered_line_by_line(
    fuzzed: tuple[str, requests.Session], document: dict[str, Any], data: st.DataObject
) -> None:
    url, session = fuzzed
    example = document["paths"][IMPORT]["post"]["requestBody"]["content"]["application/x-ndjson"]["example"]
    lines = data.draw(st.lists(near_lines(example.splitlines()), max_size=10))
    answer = session.post(f"{url}{IMPORT}", data=b"\n".join(lines), timeout=ANSWER_SECONDS)
    assert answer.status_code == 200
    results = [json.loads(line) for line in answer.text.removesuffix("\n").split("\n") if line]
    expected_numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    assert [each["line"] for each in results] == expected_numbers
    for each in results:
        assert ("error" in each) != ("id" in each and "changed" in each), each
        assert each.get("error", {}).get("type") in (None, "invalid_request_error"), each
