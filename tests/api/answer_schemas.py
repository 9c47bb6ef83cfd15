"""Checks answers against the schemas that the OpenAPI document has of them, and more strictly.

The document leaves objects open, so that a client generated today accepts members added tomorrow. A test
closes them: a member that the schema does not declare fails it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import httpx
import jsonschema_rs

OBJECT_ROUTES = re.compile(r"/(?:v1|internal/v1)/")


def close(schema: Any) -> Any:
    """The schema in which no object has members that are not declared, unless it says that it does."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(member) for name, member in schema.items() if name not in ("example", "examples")}
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    if is_object and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


class AnswerSchemas:
    """The closed schemas of an OpenAPI document's components."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = close(dict(components))
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def check(self, schema: Mapping[str, Any], answer: Any) -> None:
        """Fails if the answer does not have this schema, with the place where it does not."""
        name = repr(schema)
        if name not in self._validators:
            whole = {**close(dict(schema)), "components": {"schemas": self._components}}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole)
        for error in self._validators[name].iter_errors(answer):
            place = "".join(f"[{part!r}]" for part in error.instance_path)
            raise AssertionError(f"{name}: {place}: {error.message[:2000]}")


def check_answers(url: str) -> dict[str, list[Callable[..., Any]]]:
    """Event hooks of an HTTP client: each JSON answer of the service must be one that its document has."""

    def check(answer: httpx.Response) -> None:
        path = answer.url.path
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if is_json and OBJECT_ROUTES.match(path) and answer.request.method != "HEAD":
            answer.read()
            load_document(url).check(answer.request.method, path, answer.status_code, answer.json())

    return {"response": [check]}


class Documented:
    """A document, by method and path of a request."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._schemas = AnswerSchemas(document["components"]["schemas"])
        self._paths = [
            (re.compile(re.sub(r"\\{\w+(:path)?\\}", "[^/]+", re.escape(path))), methods)
            for path, methods in sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
        ]

    def check(self, method: str, path: str, status: int, answer: Any) -> None:
        """Fails if the answer is not one that the document has for the request."""
        for pattern, methods in self._paths:
            if pattern.fullmatch(path) and method.lower() in methods:
                answers = methods[method.lower()]["responses"]
                break
        else:
            assert status >= 400, f"the document does not have {method} {path}, which answers {status}"
            answers = {"default": {"$ref": "#/components/responses/Error"}}
        described = answers.get(str(status)) or answers["default"]
        if "$ref" in described:
            described = self._document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        self._schemas.check(described["content"]["application/json"]["schema"], answer)


@lru_cache
def load_document(url: str) -> Documented:
    """The document of a running service."""
    return Documented(httpx.get(f"{url}/openapi.json", verify=False, timeout=30).json())
