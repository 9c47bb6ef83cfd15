"""A pgbouncer between the service and its database, under load: the server crashes behind it, and it drops
every connection itself. That it must keep one session for each: tests/postgres/test_poolers.py."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from tests.ha.scenes import WRITES, run_loaded_service
from tests.postgres.poolers import needs_pgbouncer, open_pgbouncer
from tests.serving.process import SERVICE_KEY, run_refused

AWAY_SECONDS = 1.0
SETTINGS = {
    "default_pool_size": 60,
    "max_client_conn": 200,
    "admin_users": "postgres",
    "server_login_retry": 1,
}

pytestmark = [needs_pgbouncer, pytest.mark.timeout(240)]


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    place = Path(tempfile.mkdtemp(prefix="ha-pooled-"))
    place.chmod(0o711)
    server = EmbeddedPostgres(place / "server", settings={"shared_buffers": "16MB", "max_connections": "100"})
    server.start()
    try:
        migrate(server.dsn())
        yield server
    finally:
        server.destroy()
        shutil.rmtree(place)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ha-pgbouncer-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_a_pooler_of_sessions_under_load(server: EmbeddedPostgres, place: Path) -> None:
    owner_dsn = server.dsn()
    with (
        open_pgbouncer(owner_dsn, place / "sessions", pool_mode="session", **SETTINGS) as url,
        run_loaded_service(url, owner_dsn=owner_dsn) as scene,
    ):
        server.kill()
        server.start()
        scene.load.wait_for_writes(WRITES)
        with psycopg.connect(make_conninfo(url, dbname="pgbouncer"), autocommit=True) as console:
            console.execute("KILL ledger")  # drops each client, and lets none in
            time.sleep(AWAY_SECONDS)
            console.execute("RESUME ledger")
        scene.end(owner_dsn)


def test_a_pooler_of_transactions_is_refused_before_anything_is_done(
    server: EmbeddedPostgres, place: Path
) -> None:
    with open_pgbouncer(server.dsn(), place / "transactions", pool_mode="transaction", **SETTINGS) as url:
        refused = run_refused(place / "service", "serve", database_url=url, secret_key=SERVICE_KEY)
    assert "pool_mode = session" in refused
    with psycopg.connect(server.dsn()) as conn:
        assert conn.execute("SELECT count(*) FROM ledger.service_key").fetchone() == (0,)
