"""Fixtures: a primary and its replica, which no commit waits for, and the service on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from tests.api.conftest import account, http, operator, raw, registrar  # noqa: F401  # fixtures
from tests.api.service import Service
from tests.postgres.conftest import place  # noqa: F401  # fixture
from tests.postgres.standby import HOST, ReplicatedServers, run_replicated


@pytest.fixture(scope="module")
def servers() -> Iterator[ReplicatedServers]:
    """Both run; a test that takes the replica away brings it back."""
    with run_replicated() as servers:
        servers.set_synchronous("")
        yield servers


@pytest.fixture(scope="module")
def service(servers: ReplicatedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One process with its worker, which waits for a projection only briefly."""
    both = {"host": f"{HOST},{HOST}", "port": f"{servers.primary.port},{servers.standby.port}"}
    service = Service(
        make_conninfo(servers.primary.dsn(), **both),
        tmp_path_factory.mktemp("service"),
        LEDGER_REPLICA_URL=servers.standby.dsn(),
        LEDGER_WORKERS="0",
        LEDGER_LIST_WAIT_MS="300",
    )
    yield service
    service.stop()
