"""The OpenAPI document describes exactly what the service accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openapi_spec_validator
import pytest

from ledger.commands.event_destination_models import DestinationCreation, DestinationUpdate
from ledger.commands.models import Body
from ledger.wire import tables
from ledger.wire.parameters import Array, Hash, Metadata, ParameterTable, TimestampFilter, Unsupported
from ledger.wire.published_types import PUBLISHED_TYPES
from ledger.wire.rfc3339 import Bound
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text
from ledger.wire.tables.files import FilePart
from projections.read_models.catalog import PROJECTIONS
from tests.api.answer_schemas import load_document
from tests.api.operation_names import NAMES
from tests.api.service import Caller, Service

# Answers that are not about objects: of operators' tools, whose members increase.
OPEN_ANSWERS = {"/healthz", "/readyz", "/metrics", "/links/{name}"}

DESTINATIONS = "/v2/core/event_destinations"
JOBS = "/v1/privacy/redaction_jobs"

TABLES: dict[tuple[str, str], ParameterTable] = {
    ("post", "/v1/customers"): tables.customers.CREATE,
    ("get", "/v1/customers"): tables.customers.LIST,
    ("get", "/v1/customers/{customer}"): tables.customers.RETRIEVE,
    ("post", "/v1/customers/{customer}"): tables.customers.UPDATE,
    ("delete", "/v1/customers/{customer}"): tables.customers.DELETE,
    ("post", "/v1/charges"): tables.charges.CREATE,
    ("get", "/v1/charges"): tables.charges.LIST,
    ("get", "/v1/charges/{charge}"): tables.charges.RETRIEVE,
    ("post", "/v1/charges/{charge}"): tables.charges.UPDATE,
    ("post", "/v1/charges/{charge}/capture"): tables.charges.CAPTURE,
    ("get", "/v1/customers/{customer}/sources"): tables.payment_methods.LIST_SOURCES,
    ("get", "/v1/customers/{customer}/sources/{source}"): tables.payment_methods.RETRIEVE_SOURCE,
    ("get", "/v1/customers/{customer}/payment_methods"): tables.payment_methods.LIST_OF_CUSTOMER,
    (
        "get",
        "/v1/customers/{customer}/payment_methods/{payment_method}",
    ): tables.payment_methods.RETRIEVE,
    ("get", "/v1/payment_methods"): tables.payment_methods.LIST,
    ("get", "/v1/payment_methods/{payment_method}"): tables.payment_methods.RETRIEVE,
    ("post", "/v1/customer_sessions"): tables.customer_sessions.CREATE,
    ("get", "/v1/elements/sessions"): tables.elements.SESSION,
    ("get", "/v1/disputes"): tables.disputes.LIST,
    ("get", "/v1/disputes/{dispute}"): tables.disputes.RETRIEVE,
    ("post", "/v1/disputes/{dispute}"): tables.disputes.UPDATE,
    ("post", "/v1/disputes/{dispute}/close"): tables.disputes.CLOSE,
    ("get", "/v1/charges/{charge}/dispute"): tables.disputes.RETRIEVE,
    ("post", "/v1/charges/{charge}/dispute"): tables.disputes.UPDATE,
    ("post", "/v1/charges/{charge}/dispute/close"): tables.disputes.CLOSE,
    ("post", "/v1/refunds"): tables.refunds.CREATE,
    ("get", "/v1/payment_intents"): tables.payment_intents.LIST,
    ("post", "/v1/payment_intents"): tables.payment_intents.CREATE,
    ("get", "/v1/payment_intents/{payment_intent}"): tables.payment_intents.RETRIEVE,
    ("post", "/v1/payment_intents/{payment_intent}"): tables.payment_intents.UPDATE,
    ("post", "/v1/payment_intents/{payment_intent}/confirm"): tables.payment_intents.CONFIRM,
    ("post", "/v1/payment_intents/{payment_intent}/capture"): tables.payment_intents.CAPTURE,
    ("post", "/v1/payment_intents/{payment_intent}/cancel"): tables.payment_intents.CANCEL,
    ("get", "/v1/refunds"): tables.refunds.LIST,
    ("get", "/v1/refunds/{refund}"): tables.refunds.RETRIEVE,
    ("post", "/v1/refunds/{refund}"): tables.refunds.UPDATE,
    ("post", "/v1/refunds/{refund}/cancel"): tables.refunds.CANCEL,
    ("get", "/v1/charges/{charge}/refunds"): tables.charges.LIST_REFUNDS,
    ("get", "/v1/balance_transactions"): tables.balance_transactions.LIST,
    ("get", "/v1/balance_transactions/{balance_transaction}"): tables.balance_transactions.RETRIEVE,
    ("post", "/v1/files"): tables.files.CREATE,
    ("get", "/v1/files"): tables.files.LIST,
    ("get", "/v1/files/{file}"): tables.files.RETRIEVE,
    ("get", "/v1/files/{file}/contents"): tables.files.CONTENTS,
    ("post", "/v1/file_links"): tables.file_links.CREATE,
    ("get", "/v1/file_links"): tables.file_links.LIST,
    ("get", "/v1/file_links/{link}"): tables.file_links.RETRIEVE,
    ("post", "/v1/file_links/{link}"): tables.file_links.UPDATE,
    ("post", "/v1/webhook_endpoints"): tables.webhook_endpoints.CREATE,
    ("get", "/v1/webhook_endpoints"): tables.webhook_endpoints.LIST,
    ("get", "/v1/webhook_endpoints/{webhook_endpoint}"): tables.webhook_endpoints.RETRIEVE,
    ("post", "/v1/webhook_endpoints/{webhook_endpoint}"): tables.webhook_endpoints.UPDATE,
    ("delete", "/v1/webhook_endpoints/{webhook_endpoint}"): tables.webhook_endpoints.DELETE,
    ("post", JOBS): tables.redaction_jobs.CREATE,
    ("get", JOBS): tables.redaction_jobs.LIST,
    ("get", f"{JOBS}/{{job}}"): tables.redaction_jobs.RETRIEVE,
    ("post", f"{JOBS}/{{job}}"): tables.redaction_jobs.UPDATE,
    ("post", f"{JOBS}/{{job}}/validate"): tables.redaction_jobs.VALIDATE,
    ("post", f"{JOBS}/{{job}}/run"): tables.redaction_jobs.RUN,
    ("post", f"{JOBS}/{{job}}/cancel"): tables.redaction_jobs.CANCEL,
    ("get", f"{JOBS}/{{job}}/validation_errors"): tables.redaction_jobs.LIST_ERRORS,
    ("get", f"{JOBS}/{{job}}/validation_errors/{{error}}"): tables.redaction_jobs.RETRIEVE,
    ("get", "/v1/events"): tables.events.LIST,
    ("get", "/v1/events/{event}"): tables.events.RETRIEVE,
    ("post", "/v1/events/{event}/retry"): tables.events.RETRY,
    ("get", "/v2/core/events"): tables.v2_events.LIST,
    ("get", "/v2/core/events/{event}"): tables.v2_events.RETRIEVE,
    ("get", DESTINATIONS): tables.v2_event_destinations.LIST,
    ("get", f"{DESTINATIONS}/{{event_destination}}"): tables.v2_event_destinations.RETRIEVE,
    ("delete", f"{DESTINATIONS}/{{event_destination}}"): tables.v2_event_destinations.DELETE,
    ("get", "/v1/account"): tables.accounts.RETRIEVE,
    ("get", "/v1/accounts"): tables.accounts.LIST,
    ("get", "/v1/accounts/{account}"): tables.accounts.RETRIEVE,
    ("get", "/v1/accounts/{account}/capabilities"): tables.accounts.LIST_CAPABILITIES,
    ("get", "/v1/accounts/{account}/capabilities/{capability}"): tables.accounts.RETRIEVE,
    ("get", "/v1/accounts/{account}/external_accounts"): tables.accounts.LIST_EXTERNAL_ACCOUNTS,
    ("get", "/v1/accounts/{account}/persons"): tables.accounts.LIST_PERSONS,
    ("get", "/v1/balance"): tables.balance.RETRIEVE,
    **{("get", row.url): tables.published.build_list_table(row) for row in PUBLISHED_TYPES if row.lists},
    **{
        ("get", f"{row.url}/{{{row.permission}}}"): tables.published.RETRIEVE
        for row in PUBLISHED_TYPES
        if row.path
    },
    **{
        ("get", f"/v1/customers/{{customer}}/{row.of_customer}"): tables.published.LIST_PART
        for row in PUBLISHED_TYPES
        if row.of_customer
    },
    **{
        (
            "get",
            f"/v1/customers/{{customer}}/{row.of_customer}/{{{row.permission}}}",
        ): tables.published.RETRIEVE
        for row in PUBLISHED_TYPES
        if row.of_customer
    },
    **{
        ("get", f"{row.url}/{{{row.permission}}}/{member}"): tables.published.LIST_PART
        for row in PUBLISHED_TYPES
        for member in row.parts
    },
}
BODIES: dict[str, type[Body] | None] = {
    DESTINATIONS: DestinationCreation,
    f"{DESTINATIONS}/{{event_destination}}": DestinationUpdate,
    f"{DESTINATIONS}/{{event_destination}}/enable": None,
    f"{DESTINATIONS}/{{event_destination}}/disable": None,
    f"{DESTINATIONS}/{{event_destination}}/ping": None,
}
"""Models of the JSON bodies, by path; None: an empty one."""


def resolve(document: Any, part: Any) -> Any:
    """The component that the part refers to, or the part itself."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return document["components"][kind][name]


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Any:
    answer = http.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_operation_is_listed_and_no_other(document: Any) -> None:
    listed = {
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith(("/v1/", "/v2/"))
    }
    assert listed == set(TABLES) | {("post", path) for path in BODIES}
    names = [document["paths"][path][method]["operationId"] for method, path in TABLES]
    assert len(set(names)) == len(names)
    assert document["openapi"].startswith("3.")
    assert "/internal/v1/clock" in document["paths"]


@pytest.mark.parametrize(("method", "path"), TABLES)
def test_parameters_are_those_of_the_parameter_table(document: Any, method: str, path: str) -> None:
    entry = document["paths"][path][method]
    table = TABLES[method, path]
    assert entry["summary"]
    assert entry["security"] == [{"bearer": []}, {"basic": []}]
    assert {"200", "400", "401", "403", "404", "409", "429", "500", "default"} <= set(entry["responses"])
    parameters = [resolve(document, each) for each in entry["parameters"]]
    in_path = [each["name"] for each in parameters if each["in"] == "path"]
    assert in_path == re.findall(r"\{(\w+)\}", path)
    headers = [each["name"] for each in parameters if each["in"] == "header"]
    account = "Stripe-Context" if path.startswith("/v2/") else "Stripe-Account"
    is_keyed = method == "post" or (method == "delete" and path.startswith("/v2/"))
    assert headers == [*(["Idempotency-Key"] if is_keyed else []), "Stripe-Version", account]
    served = {name: member for name, member in table.members.items() if not isinstance(member, Unsupported)}
    if method == "post":
        (kind,) = entry["requestBody"]["content"]
        takes_file = any(isinstance(member, FilePart) for member in served.values())
        assert kind == ("multipart/form-data" if takes_file else "application/x-www-form-urlencoded")
        body = entry["requestBody"]["content"][kind]
        required = {name for name, member in served.items() if member.required}
        assert entry["requestBody"]["required"] is bool(required)
        assert set(body["schema"].get("required", ())) == required
        documented = body["schema"]["properties"]
        nested = {name for name, member in served.items() if isinstance(member, Hash | Array | Metadata)}
        nested = set() if takes_file else nested
        assert {
            name for name, how in body.get("encoding", {}).items() if how["style"] == "deepObject"
        } == nested
    else:
        assert "requestBody" not in entry
        documented = {
            each["name"].removesuffix("[]"): each["schema"] for each in parameters if each["in"] == "query"
        }
    assert set(documented) == set(served)
    for name, member in served.items():
        _compare(member, documented[name], name)


@pytest.mark.parametrize("path", BODIES)
def test_bodies_of_v2_have_the_fields_that_are_read(document: Any, path: str) -> None:
    entry = document["paths"][path]["post"]
    model = BODIES[path]
    fields = {} if model is None else model.model_fields
    schema = entry["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema.get("properties", ())) == set(fields)
    required = {name for name, field in fields.items() if field.is_required()}
    assert set(schema.get("required", ())) == required
    assert entry["requestBody"]["required"] is bool(required)
    assert "$ref" not in json.dumps(schema)
    assert all("default" not in field for field in schema.get("properties", {}).values())
    names = [resolve(document, each)["name"] for each in entry["parameters"]]
    assert {"Idempotency-Key", "Stripe-Context"} <= set(names)


def _compare(member: Parameter, schema: Any, name: str) -> None:
    if member.unsettable and "anyOf" in schema:
        assert {"type": "string", "enum": [""]} in schema["anyOf"], name
    described = schema["anyOf"][0] if "anyOf" in schema else schema
    match member:
        case Hash():
            inner = {key: each for key, each in member.members.items() if not isinstance(each, Unsupported)}
            assert described["type"] == "object", name
            assert set(described["properties"]) == set(inner), name
            for key, each in inner.items():
                _compare(each, described["properties"][key], f"{name}[{key}]")
        case Array():
            assert (described["type"], described["maxItems"]) == ("array", member.items_max), name
            _compare(member.item, described["items"], f"{name}[]")
        case TimestampFilter():
            assert set(described["properties"]) == {"gt", "gte", "lt", "lte"}, name
        case Metadata():
            assert (described["type"], described["maxProperties"]) == ("object", 50), name
        case FilePart():
            assert (described["type"], described["format"]) == ("string", "binary"), name
        case Choice():
            assert set(member.values) <= set(described["enum"]), name
        case Boolean():
            assert described["type"] == "boolean", name
        case Integer():
            assert described["type"] == "integer", name
        case Text():
            assert (described["type"], described["maxLength"]) == ("string", member.length_max), name
        case Bound():
            assert (described["type"], described["format"]) == ("string", "date-time"), name
        case _:
            raise AssertionError(f"{name}: {type(member).__name__}")


def test_the_document_is_valid(document: Any) -> None:
    openapi_spec_validator.validate(document)
    assert document["servers"] == [{"url": "/", "description": "This service."}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic"}
    tags = [each["name"] for each in document["tags"]]
    used = {
        tag for methods in document["paths"].values() for entry in methods.values() for tag in entry["tags"]
    }
    assert set(tags) == used
    assert all(each["description"] for each in document["tags"])


def test_every_answer_has_a_schema(document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            answer = entry["responses"]["200"]
            schemas = [content["schema"] for content in answer.get("content", {}).values()]
            described = all(
                "$ref" in schema or "anyOf" in schema or schema.get("type") == "string" for schema in schemas
            )
            assert path in OPEN_ANSWERS or (schemas and described), (method, path)
            if "/v1/" in path:
                assert "Request-Id" in answer["headers"], (method, path)
    components = document["components"]["schemas"]
    text = json.dumps(document)
    assert [name for name in components if f'#/components/schemas/{name}"' not in text] == ["card_details"]


def test_names_of_operations_stay(document: Any) -> None:
    """They are names of functions in generated clients: rename none, add new ones."""
    names = {
        entry["operationId"]
        for path, methods in document["paths"].items()
        for entry in methods.values()
        if "published_object" not in entry["tags"]
    }
    assert names >= NAMES
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)


def test_an_answer_with_an_undeclared_member_is_noticed(raw: Caller, service: Service) -> None:
    customer = raw.customer(name="Ada")
    documented = load_document(service.url)
    documented.check("POST", "/v1/customers", 200, customer)
    with pytest.raises(AssertionError, match="undeclared"):
        documented.check("POST", "/v1/customers", 200, {**customer, "undeclared": 1})
    with pytest.raises(AssertionError, match="name"):
        documented.check("POST", "/v1/customers", 200, {**customer, "name": 1})


def test_the_docs_page_and_the_health_routes_answer(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 200
    assert http.get("/healthz").json()["status"] == "ok"
    ready = http.get("/readyz").json()
    assert (ready["status"], ready["stuck"], ready["incomplete"]) == ("ok", [], [])
    assert {each["projection"] for each in ready["projections"]} == {each.name for each in PROJECTIONS}
    assert http.get("/metrics").status_code == 200


def test_every_parameter_that_most_operations_have_is_described(document: Any) -> None:
    for path, entries in document["paths"].items():
        for entry in entries.values():
            for each in entry.get("parameters", ()) if path.startswith(("/v1/", "/v2/")) else ():
                general = each.get("in") == "path" or each.get("name") in ("limit", "expand[]", "created")
                assert "description" in each or not general, (path, each)


def test_every_field_of_a_body_of_the_internal_api_is_described(document: Any) -> None:
    def walk(schema: Any, path: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = {**document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], **schema}
        inner = [*schema.get("anyOf", ()), *schema.get("allOf", ())]
        for each in (*inner, *filter(None, [schema.get("items")])):
            yield from walk(each, path)
        for name, field in schema.get("properties", {}).items():
            if not field.get("description"):
                yield f"{path}.{name}"
            yield from walk(field, f"{path}.{name}")

    bodies = [
        (f"{method} {path}", content["schema"])
        for path, entries in document["paths"].items()
        if path.startswith("/internal/")
        for method, entry in entries.items()
        for content in entry.get("requestBody", {}).get("content", {}).values()
    ]
    assert len(bodies) > 20
    assert [missing for path, schema in bodies for missing in walk(schema, path)] == []
