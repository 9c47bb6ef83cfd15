"""The OpenAPI description of the public API, made from the parameter tables that parse its requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from ledger.api.exchange import IDEMPOTENCY_KEY_LENGTH_MAX
from ledger.api.public.multipart import MULTIPART_CONTENT_TYPE
from ledger.api.public.operations import Operation

_ERROR_RESPONSE = {
    "description": "The error envelope",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "additionalProperties": False,
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["type", "message"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {
                                "enum": [
                                    "api_error", "card_error", "idempotency_error", "invalid_request_error",
                                ]
                            },
                            "message": {"type": "string"},
                            "code": {"type": "string"},
                            "param": {"type": "string"},
                            "decline_code": {"type": "string"},
                            "charge": {"type": "string"},
                            "doc_url": {"type": "string"},
                            "payment_intent": {"type": "object"},
                        },
                    }
                },
            }
        }
    },
}  # fmt: skip
_OBJECT_RESPONSE = {"description": "The object, or the list", "content": {"application/json": {}}}
_POSITION_HEADER = {
    "description": "The position of the last event that the request recorded; absent if it recorded none",
    "schema": {"type": "integer", "minimum": 1},
}
_READ_RESPONSES = {"200": _OBJECT_RESPONSE, "default": _ERROR_RESPONSE}
_WRITE_RESPONSES = {
    "200": {**_OBJECT_RESPONSE, "headers": {"Ledger-Position": _POSITION_HEADER}},
    "default": _ERROR_RESPONSE,
}
IDEMPOTENCY_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": IDEMPOTENCY_KEY_LENGTH_MAX},
}


def extend_openapi(app: FastAPI, operations: Sequence[Operation]) -> None:
    """Add `operations` to the app's OpenAPI document, beside FastAPI's own routes."""
    default_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = default_openapi()
            for path, methods in document["paths"].items():
                for entry in methods.values():
                    _correct_framework_entry(path, entry)
            for unused in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(unused, None)
            for operation in operations:
                document["paths"].setdefault(operation.path, {})[operation.method.lower()] = _build_entry(
                    operation
                )
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "An API key"}
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents to extend it


def _correct_framework_entry(path: str, entry: dict[str, Any]) -> None:
    """Add what the framework does not know about its own routes: their error responses, and that they need an
    API key."""
    if entry["responses"].pop("422", None):
        entry["responses"]["default"] = _ERROR_RESPONSE
    if path.startswith("/internal/"):
        entry["security"] = [{"key": []}]


def _build_entry(operation: Operation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.resource],
        "operationId": operation.method.lower()
        + operation.path.replace("/", "_").replace("{", "").replace("}", ""),
        "security": [{"key": []}],
        "responses": _READ_RESPONSES if operation.decide is None else _WRITE_RESPONSES,
        "parameters": [],
    }
    for name in re.findall(r"\{(\w+)\}", operation.path):
        entry["parameters"].append(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        )
    if operation.method == "POST":
        entry["parameters"].append(IDEMPOTENCY_KEY_HEADER)
        entry["requestBody"] = body = operation.table.request_body()
        if operation.takes_file:
            body["content"] = {MULTIPART_CONTENT_TYPE.decode(): {"schema": operation.table.schema()}}
    else:
        entry["parameters"] += operation.table.query_parameters()
    return entry
