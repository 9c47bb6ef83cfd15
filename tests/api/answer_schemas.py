"""Checks the answers that an HTTP client of the tests receives against the service's own OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import httpx

from tests.wire.closed_schemas import AnswerSchemas

OBJECT_ROUTES = re.compile(r"/(?:v1|v2|internal/v1)/")


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
            prefix = "V2." if path.startswith("/v2/") else ""
            answers = {"default": {"$ref": f"#/components/responses/{prefix}Error"}}
        described = answers.get(str(status)) or answers["default"]
        if "$ref" in described:
            described = self._document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        self._schemas.check(described["content"]["application/json"]["schema"], answer)


@lru_cache
def load_document(url: str) -> Documented:
    """The document of a running service."""
    return _read(httpx.get(f"{url}/openapi.json", verify=False, timeout=30).content)


@lru_cache
def _read(document: bytes) -> Documented:
    """A document, once for all services that have the same: preparing its schemas takes long."""
    return Documented(json.loads(document))
