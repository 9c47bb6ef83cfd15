"""One Postgres for the whole run, a database of its own for whoever asks, made by copying a template.

By default the embedded server, without fsync; any other with LEDGER_TEST_DATABASE_URL. The controller of
a parallel run starts it and tells the workers, so there is one server however many there are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.postgres.connections import migrate
from ledger.postgres.embedded import EmbeddedPostgres

FAST_AND_LOOSE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "400",
    "shared_buffers": "128MB",
}
TEMPLATE = "ledger_template"
MEMORY_BYTES_MIN = 4 * 1024**3


class Cluster:
    """The server the tests share; `maintenance` may make and drop databases on it."""

    def __init__(self, maintenance: str) -> None:
        self.maintenance = maintenance

    @contextlib.contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """A connection string to a fresh copy of the template, dropped at the end."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        try:
            yield make_conninfo(self.maintenance, dbname=name)
        finally:
            self.run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.maintenance, autocommit=True) as conn:
            conn.execute(statement)


def _template_of(maintenance: str) -> None:
    cluster = Cluster(maintenance)
    name = sql.Identifier(TEMPLATE)
    cluster.run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    cluster.run(sql.SQL("CREATE DATABASE {}").format(name))
    migrate(make_conninfo(maintenance, dbname=TEMPLATE))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    given = os.environ.get("LEDGER_TEST_DATABASE_URL")
    if given:
        config.stash[_MAINTENANCE] = given
    else:
        # Not pytest's tmp_path: as root the server runs as a service user, who must get there.
        place = Path(tempfile.mkdtemp(prefix="ledger-tests-", dir=_memory()))
        place.chmod(0o755)
        server = EmbeddedPostgres(place / "data", settings=FAST_AND_LOOSE)
        server.start()
        config.stash[_SERVER] = (server, place)
        config.stash[_MAINTENANCE] = server.dsn("postgres")
    _template_of(config.stash[_MAINTENANCE])


def _memory() -> str | None:
    """A file system in memory with room for the server, if there is one: copying a template there takes 18 ms
    instead of 140, a thousand files each time."""
    shared = "/dev/shm"
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > MEMORY_BYTES_MIN
    return shared if roomy else None


def pytest_unconfigure(config: pytest.Config) -> None:
    started = config.stash.get(_SERVER, None)
    if started is not None:
        server, place = started
        server.destroy()
        shutil.rmtree(place, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: called on the controller for each worker."""
    node.workerinput["maintenance"] = node.config.stash[_MAINTENANCE]


_MAINTENANCE = pytest.StashKey[str]()
_SERVER = pytest.StashKey[tuple[EmbeddedPostgres, Path]]()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The shared server."""
    workerinput = getattr(pytestconfig, "workerinput", None)
    return Cluster(workerinput["maintenance"] if workerinput else pytestconfig.stash[_MAINTENANCE])


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """A fresh, migrated database for this test alone."""
    with cluster.database() as dsn:
        yield dsn
