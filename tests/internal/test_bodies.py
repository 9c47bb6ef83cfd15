"""No field of the JSON bodies accepts what could not be stored or shown again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter

from ledger.commands.imports.models import ImportLine
from ledger.commands.models import ChargeBody, CustomerBody, DisputeBody, FactBody, PublishBody
from tests.internal.conftest import InternalClient
from tests.internal.test_import import import_lines

Place = tuple[str | int, ...]

ROUTES: dict[str, tuple[str, str, type[BaseModel]]] = {
    "customers": ("POST", "/customers", CustomerBody),
    "charges": ("POST", "/charges", ChargeBody),
    "disputes": ("POST", "/disputes", DisputeBody),
    "facts": ("POST", "/disputes/du_none/facts", FactBody),
    "resources": ("PUT", "/resources/invoice/in_1", PublishBody),
}
KNOWN = {"currency": "usd", "enabled_events": "*", "event_type": "invoice.paid", "content": "aGk="}
SURROGATE = "half \ud800"
TEXTS = {"NUL": "a\x00b", "surrogate": SURROGATE}
INTEGERS = {"beyond 64 bits": 10**30, "below 64 bits": -(10**30), "past 64 bits": 2**63}
ANYTHING: dict[str, Any] = {**TEXTS, **INTEGERS, "not a number": math.nan, "infinity": math.inf}


class Case(NamedTuple):
    """A body that is valid except for one value, or one name."""

    of: str
    name: str
    body: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.of} {self.name}"


def resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, with references resolved and without null."""
    while True:
        if "anyOf" in schema:
            (schema,) = (one for one in schema["anyOf"] if one.get("type") != "null")
        elif "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        else:
            return schema


def build_valid_value(schema: Mapping[str, Any], definitions: Mapping[str, Any], name: str = "") -> Any:
    """The smallest value that the schema accepts."""
    schema = resolve(schema, definitions)
    match schema.get("type"):
        case _ if "const" in schema:
            return schema["const"]
        case _ if "enum" in schema:
            return schema["enum"][0]
        case "object":
            required = schema.get("required", ())
            return {
                each: build_valid_value(schema["properties"][each], definitions, each) for each in required
            }
        case "array":
            return [build_valid_value(schema["items"], definitions, name)] if schema.get("minItems") else []
        case "integer":
            return 1000
    return KNOWN.get(name, "x")


def list_invalid_values(
    schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Values that the schema must refuse, each with a description of where it is wrong."""
    schema = resolve(schema, definitions)
    if "const" in schema or "enum" in schema:
        return
    match schema.get("type"):
        case "string":
            yield from ((f" {name}", bad) for name, bad in TEXTS.items())
        case "integer":
            yield from ((f" {name}", bad) for name, bad in INTEGERS.items())
        case "array":
            for name, bad in list_invalid_values(schema["items"], definitions):
                yield f"[0]{name}", [bad]
        case "object" if "properties" in schema:
            base = build_valid_value(schema, definitions)
            for member, of in schema["properties"].items():
                for name, bad in list_invalid_values(of, definitions):
                    yield f".{member}{name}", base | {member: bad}
        case "object":  # metadata holds texts; an object that is returned unchanged holds anything
            values = TEXTS if "patternProperties" in schema else ANYTHING
            kind = {} if values is TEXTS else {"type": "card"}
            for name, bad in values.items():
                yield f".x {name}", kind | {"x": bad}
                if values is ANYTHING:
                    yield f".x.y[0] {name}", kind | {"x": {"y": [bad]}}
            for name, bad in TEXTS.items():
                yield f" called {name}", kind | {bad: "x"}


def list_cases(of: str, document: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Case]:
    for name, body in list_invalid_values(document, definitions):
        yield Case(of, name, body)


def list_http_cases() -> Iterator[Case]:
    for of, (_, _, model) in ROUTES.items():
        document = model.model_json_schema()
        yield from list_cases(of, document, document.get("$defs", {}))


def list_line_cases() -> Iterator[Case]:
    document = TypeAdapter[Any](ImportLine).json_schema()
    definitions = document["$defs"]
    for of in document["anyOf"]:
        name = of["$ref"].rpartition("/")[2]
        yield from list_cases(name, definitions[name], definitions)


def get_member(case: Case) -> str:
    """The field of the body that has the invalid value."""
    return case.name[1:].partition(" ")[0].partition(".")[0].partition("[")[0]


def assert_error_names(error: Mapping[str, Any], case: Case) -> None:
    assert error["type"] == "invalid_request_error", (case, error)
    assert error.get("param", "").partition("[")[0] == get_member(case), (case, error)


def test_no_field_accepts_what_cannot_be_stored(operator: InternalClient) -> None:
    """Each invalid value is refused under its field's name: it causes no 500 and is not taken for null."""
    cases = list(list_http_cases())
    assert len(cases) > 200
    assert {"customers .metadata called NUL", "charges .outcome.x not a number"} <= {
        each.id for each in cases
    }
    for case in cases:
        method, path, _ = ROUTES[case.of]
        answer = send_body(operator, method, path, case.body)
        assert answer.status_code == 400, (case, answer.text)
        assert_error_names(answer.json()["error"], case)


def test_no_line_accepts_what_cannot_be_stored(operator: InternalClient) -> None:
    cases = [case for case in list_line_cases() if get_member(case) != "content"]  # base64
    assert len(cases) > 250
    results = import_lines(operator, [case.body for case in cases])
    for case, result in zip(cases, results, strict=True):
        if "surrogate" in case.name:  # in a line that is not JSON
            assert result["error"]["type"] == "invalid_request_error", (case, result)
        else:
            assert_error_names(result["error"], case)


def send_body(operator: InternalClient, method: str, path: str, body: Any) -> httpx.Response:
    """Send the body as Python writes JSON, with NaN and halves of surrogate pairs."""
    headers = {"authorization": f"Bearer {operator.key}", "content-type": "application/json"}
    return operator.http.request(
        method, f"/internal/v1{path}", content=json.dumps(body).encode(), headers=headers
    )


@pytest.mark.parametrize("bad", [{"reason": "a\x00b"}, {"reason": SURROGATE}, {"generation": 10**30}])
def test_no_operator_call_accepts_what_cannot_be_stored(
    operator: InternalClient, bad: dict[str, Any]
) -> None:
    answer = send_body(operator, "POST", "/projections/customers/switch", bad)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(bad)))


def test_no_field_name_is_a_text_that_cannot_be_stored(operator: InternalClient) -> None:
    for bad in TEXTS.values():
        for body in ({bad: 1}, {"address": {bad: 1}}):
            answer = send_body(operator, "POST", "/customers", body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
