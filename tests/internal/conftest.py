"""Fixtures: the shared running service, called as other services and operators call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from ledger.accounts import INTERNAL_SCOPES
from tests.api.conftest import account, client, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Registrar

# ruff: noqa: F811


class InternalClient:
    """JSON to /internal/v1 with one key."""

    def __init__(self, http: httpx.Client, key: str) -> None:
        self.http = http
        self.key = key

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        default_headers = {"authorization": f"Bearer {self.key}"}
        return self.http.request(
            method, f"/internal/v1{path}", json=body, headers=default_headers | dict(headers or {})
        )

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.call("POST", path, body, {name.replace("_", "-"): text for name, text in headers.items()})

    def get(self, path: str) -> httpx.Response:
        return self.call("GET", path)


@pytest.fixture
def operator(http: httpx.Client, account: Account, registrar: Registrar) -> InternalClient:
    """A restricted key of the account, with every scope that the internal API asks for, in test mode."""
    scopes = (*INTERNAL_SCOPES, "rak_dispute_read")
    return InternalClient(http, registrar.key(account.id, "rk", scopes=scopes)[1])
