"""One nats-server and one database a module; for each test an empty log and a stream of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Cluster
from tests.jetstream.nats_server import NatsServer, require_program, run_nats_server

# Only a superuser's session that asks for it passes by the trigger that keeps the log append-only.
_EMPTY = """
SET session_replication_role = replica;
TRUNCATE ledger.events, ledger.replies, ledger.appenders;
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with run_nats_server(require_program()) as server:
        yield server


@pytest.fixture(scope="module")
def module_dsn(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database() as dsn:
        yield dsn


@pytest.fixture
def dsn(module_dsn: str) -> str:
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        conn.execute(_EMPTY.encode())
    return module_dsn


@pytest.fixture
def name() -> str:
    """Of a stream, and the prefix of its subjects."""
    return f"stream{next(_numbers)}"
