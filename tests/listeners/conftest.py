"""The shared service, and an account of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString, Protocol

import psycopg
import pytest

from tests.api.conftest import account, client, http, live, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Service
from tests.listeners.client import Session

# ruff: noqa: F811


class Ask(Protocol):
    """Asks the service's database, of what no answer tells."""

    def __call__(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]: ...


@pytest.fixture
def ask(service: Service) -> Iterator[Ask]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield lambda query, *values: conn.execute(query, values).fetchall() if conn else []


@pytest.fixture
def session(service: Service, account: Account) -> Session:
    return Session(service.url, account.secret)
