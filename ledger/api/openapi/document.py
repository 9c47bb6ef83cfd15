"""The OpenAPI document: FastAPI's own of its routes, extended by the public API and by what both share.

It is built when it is first asked for, once a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from ledger.api.openapi.answers import HEADERS, build_error_components, list_error_answers, refer_to_headers
from ledger.api.openapi.internal_schemas import build_internal_schemas
from ledger.api.openapi.public_entries import HEADER_PARAMETERS, KEY_SCHEMES, build_entry
from ledger.api.public.operations import Operation
from ledger.wire.schemas.catalog import OBJECTS, PUBLISHED, build_public_schemas

INTERNAL_BASE = "/internal/v1/"
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer sk_test_…`"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The API key as the user name, without a password: `curl -u sk_test_…:`",
    },
}
_TAGS = {
    **{name: described.description for name, described in OBJECTS.items()},
    PUBLISHED: "Objects that other services publish, at Stripe's paths. Reads only.",
    "catalogue": "Internal: what happened elsewhere. Customers, charges, disputes, imports.",
    "resources": "Internal: other services publish their objects as Events.",
    "customer sessions": "Internal: sessions without their secrets, for support staff.",
    "accounts and keys": "Internal: connected accounts, and API keys of all kinds.",
    "alerts": "Internal: what is wrong with the service, and who is told of it.",
    "feed": "Internal: the log as items, for services that read on from a position of their own.",
    "audit": "Internal: questions to history, with proofs. Every request is recorded.",
    "webhooks": "Internal: operating webhooks. Deliveries with their attempts, retries, health of endpoints.",
    "dispute board": "Internal: disputes by status and due date, and how many there are of each.",
    "requests": "Internal: the request log. Which requests failed, how, and how many there were.",
    "legal holds": "Internal: objects that must not be erased, and why.",
    "projections": "Internal: operating the read models.",
    "clock": "Internal: the test clock, where it is enabled.",
    "health": "For whoever runs the service. No API key is needed.",
}
_WRITE_HEADERS = ("Ledger-Position", "Idempotency-Key", "Original-Request", "Idempotent-Replayed")
_WITHOUT_IDEMPOTENCY_KEY = (
    "/internal/v1/clock", "/internal/v1/import", "/internal/v1/alerts/receivers/{id}/test",
)  # fmt: skip
"""Repeating these calls changes nothing more, or only what is asked for."""
_UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")


def name_route(route: APIRoute) -> str:
    """The operation id of a route of FastAPI: the name of its function."""
    return route.name


def extend_openapi(
    app: FastAPI,
    operations: Sequence[Operation],
    build_schemas: Callable[[], Mapping[str, Any]],
    *,
    public_url: str | None,
) -> None:
    """Make the app's OpenAPI document contain `operations`, and the schemas of `build_schemas`, to which
    routes of other packages refer. The service's own URL is `public_url`, or that of the document."""
    default_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build_document(default_openapi(), operations, build_schemas(), public_url)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents to extend it


def _build_document(
    document: dict[str, Any],
    operations: Iterable[Operation],
    schemas: Mapping[str, Any],
    public_url: str | None,
) -> dict[str, Any]:
    paths = document["paths"]
    for path, methods in paths.items():
        methods.pop("head", None)  # as GET, without the body
        for method, entry in methods.items():
            _correct_framework_entry(path, entry, is_write=method != "get")
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = build_entry(operation)
    components = document.setdefault("components", {})
    own_schemas = components.setdefault("schemas", {})
    for unused in _UNUSED_SCHEMAS:
        own_schemas.pop(unused, None)
    error_schemas, error_answers = build_error_components()
    own_schemas |= build_public_schemas() | build_internal_schemas() | error_schemas | dict(schemas)
    components["responses"] = error_answers
    components["headers"] = HEADERS
    components["parameters"] = HEADER_PARAMETERS
    components["securitySchemes"] = _SECURITY_SCHEMES
    used_tags = {tag for methods in paths.values() for entry in methods.values() for tag in entry["tags"]}
    document["servers"] = [{"url": public_url or "/", "description": "This service."}]
    document["tags"] = [
        {"name": name, "description": description} for name, description in _TAGS.items() if name in used_tags
    ]
    return document


def _correct_framework_entry(path: str, entry: dict[str, Any], *, is_write: bool) -> None:
    """Add what the framework does not know about its own routes: their errors and headers, and that they need
    an API key."""
    answers = entry["responses"]
    answers.pop("422", None)
    for content in answers.get("200", {}).get("content", {}).values():
        if "$ref" in content["schema"]:  # the framework's own schema of an answer is beside it
            content["schema"] = {"$ref": content["schema"]["$ref"]}
    if path.startswith(INTERNAL_BASE):
        entry["security"] = KEY_SCHEMES
        entry["responses"] = answers | list_error_answers()
        own_headers = answers["200"].get("headers", {})
        headers = refer_to_headers("Request-Id", *(_WRITE_HEADERS if is_write else ()))
        answers["200"]["headers"] = headers | own_headers
        if is_write and path not in _WITHOUT_IDEMPOTENCY_KEY:
            reference = {"$ref": "#/components/parameters/Idempotency-Key"}
            entry["parameters"] = [*entry.get("parameters", ()), reference]
