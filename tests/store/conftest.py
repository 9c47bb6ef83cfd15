"""An empty log for each test, at the cost of a TRUNCATE: one database a module."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Cluster

# Only a superuser's session that asks for it passes by the trigger that keeps the log append-only.
_EMPTY = """
SET session_replication_role = replica;
TRUNCATE ledger.events, ledger.replies, ledger.appenders, ledger.data_keys;
"""


@pytest.fixture(scope="module")
def module_dsn(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database() as dsn:
        yield dsn


@pytest.fixture
def dsn(module_dsn: str) -> str:
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        conn.execute(_EMPTY.encode())
    return module_dsn
