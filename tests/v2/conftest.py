"""Fixtures: the shared running service, called under /v2."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.api.conftest import (  # noqa: F401  # fixtures
    account,
    client,
    http,
    live,
    nobody,
    operator,
    raw,
    registrar,
    service,
)

EVENTS = "/v2/core/events"


def assert_refused_v2(
    response: httpx.Response,
    status: int = 400,
    *,
    code: str = "invalid_fields",
    param: str | None = None,
    message: str = "",
    kind: str = "invalid_request_error",
) -> Any:
    """The error in the response, after asserting that it is exactly the expected one; `message` is a
    pattern to search for."""
    document = response.json()
    assert list(document) == ["error"], document
    error = document["error"]
    actual = (response.status_code, error["type"], error["code"], error.get("param"))
    assert actual == (status, kind, code, param), document
    assert re.search(message, error["message"]), (message, error["message"])
    assert set(error) <= {"type", "code", "message", "param"}
    assert response.headers["request-id"].startswith("req_")
    return error
