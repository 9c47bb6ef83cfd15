"""A service that tries again soon, and a receiver; an account of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString, Protocol

import psycopg
import pytest
import stripe

from tests.api.conftest import (  # noqa: F401  # fixtures
    account,
    check_log,
    client,
    http,
    live,
    operator,
    raw,
    registrar,
)
from tests.api.service import Service
from tests.conftest import Cluster
from tests.webhooks.receiver import Receiver, run_receiver

# ruff: noqa: F811


@pytest.fixture(scope="session")
def service(cluster: Cluster) -> Iterator[Service]:
    """Three tries, a second apart. All tests of this folder that a worker runs share it."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(
            dsn,
            Path(place),
            LEDGER_WEBHOOK_RETRY_SECONDS_TEST="1,1",
            LEDGER_WEBHOOK_TIMEOUT_MS="2000",
            LEDGER_WEBHOOK_POLL_MS="50",
        )
        yield running
        running.stop()
        check_log(running.log)
        assert "/hooks/" not in running.log


class Ask(Protocol):
    """Asks the service's database, of what no answer of the public API tells."""

    def __call__(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]: ...


@pytest.fixture(scope="module")
def ask(service: Service) -> Iterator[Ask]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        yield lambda query, *values: conn.execute(query, values).fetchall()


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """An address of the receiver that no other test has."""
    return f"/hooks/{request.node.name}"


@pytest.fixture
def endpoint(client: stripe.StripeClient, receiver: Receiver, path: str) -> stripe.WebhookEndpoint:
    """An endpoint of the account, at the test's address, for all types."""
    return client.v1.webhook_endpoints.create({"url": receiver.url(path), "enabled_events": ["*"]})
