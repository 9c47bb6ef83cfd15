"""The service, an account with the history of a small shop, and its requests that were refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import stripe

from tests.api.conftest import account, check_log, client, http, parse_log, registrar  # noqa: F401  # fixtures
from tests.api.service import Account, Service
from tests.clients.shop import Shop, open_shop
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixture

# ruff: noqa: F811

ListRefused = Callable[[], list[tuple[str, str, int]]]


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    """The running service that the tests of a file share. They may move its clock, forward only."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(
            dsn,
            Path(place),
            LEDGER_WEBHOOK_POLL_MS="50",
            LEDGER_WEBHOOK_TIMEOUT_MS="60000",  # a receiver here takes one delivery after the other
        )
        yield running
        running.stop()
        check_log(running.log)


@pytest.fixture
def shop(client: stripe.StripeClient, operator: InternalClient) -> Shop:
    """The account's history: the same for every program."""
    return open_shop(client, operator)


@pytest.fixture
def list_refused(service: Service, account: Account, shop: Shop) -> ListRefused:
    """Lists the account's requests since the shop was opened that were answered with an error: method, path,
    status. Several programs pass over such an answer without a word."""
    begin = len(service.log)

    def list_refused() -> list[tuple[str, str, int]]:
        return [
            (entry["method"], entry["path"], entry["status"])
            for entry in parse_log(service.log[begin:])
            if entry.get("account") == account.id and entry.get("status", 200) >= 400
        ]

    return list_refused
