"""The OpenAPI description of the wire protocol, from the same tables that parse it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from ledger.api.multipart import MULTIPART
from ledger.api.operations import Operation

_ANSWERS = {
    "200": {"description": "The object, or the list", "content": {"application/json": {}}},
    "default": {
        "description": "The error envelope",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["type", "message"],
                            "properties": {
                                "type": {"type": "string"},
                                "message": {"type": "string"},
                                "code": {"type": "string"},
                                "param": {"type": "string"},
                            },
                        }
                    },
                }
            }
        },
    },
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
}


def describe(app: FastAPI, operations: Sequence[Operation]) -> None:
    """Make the app's OpenAPI document tell of `operations` beside FastAPI's own routes."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = own()
            for operation in operations:
                document["paths"].setdefault(operation.path, {})[operation.method.lower()] = _entry(operation)
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "An API key"}
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents to extend it


def _entry(operation: Operation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.resource],
        "operationId": operation.method.lower()
        + operation.path.replace("/", "_").replace("{", "").replace("}", ""),
        "security": [{"key": []}],
        "responses": _ANSWERS,
        "parameters": [],
    }
    _, brace, rest = operation.path.partition("{")
    if brace:
        name = rest.partition("}")[0]
        entry["parameters"].append(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        )
    if operation.method == "POST":
        entry["parameters"].append(_IDEMPOTENCY_KEY)
        entry["requestBody"] = body = operation.table.request_body()
        if operation.takes_file:
            body["content"] = {MULTIPART.decode(): {"schema": operation.table.schema()}}
    else:
        entry["parameters"] += operation.table.query_parameters()
    return entry
