"""One Postgres server for the whole run, and a database of its own for each test that asks for one.

The server is the embedded one, without fsync, or any other that LEDGER_TEST_DATABASE_URL names. In a parallel
run the controller starts it and passes its address to the workers. With --pure there is none: only the tests
in PURE run, which need no database.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate

if TYPE_CHECKING:
    from tests.api.service import Service

# What commands print is buffered, as it is for a user.
os.environ.pop("PYTHONUNBUFFERED", None)

TEST_SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "600",
    "shared_buffers": "128MB",
}
TEMPLATE_DATABASE = "ledger_template"
FREE_MEMORY_BYTES_MIN = 4 * 1024**3
PURE = ("domain", "golden", "wire", "tlog", "test_config.py", "test_errors.py", "test_ids.py", "test_lru.py")
"""Of this folder: the tests that start no other process and use no database."""
HIGH_AVAILABILITY = Path(__file__).parent / "ha"
"""Tests that take minutes, and both cores: they run only when they are named, as `make test-ha` does."""


class Cluster:
    """The server that the tests share; `maintenance_dsn` may create and drop databases on it."""

    def __init__(self, maintenance_dsn: str) -> None:
        self.maintenance_dsn = maintenance_dsn

    @contextlib.contextmanager
    def create_database(self, template: str = TEMPLATE_DATABASE, *, is_active: bool = True) -> Iterator[str]:
        """A connection string to a fresh copy of the template, dropped at the end. By default a copy of a
        database that ran acts like the original; with `is_active` false it knows that it is a copy."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        try:
            dsn = make_conninfo(self.maintenance_dsn, dbname=name)
            if is_active and template != TEMPLATE_DATABASE:
                _forget_activations(dsn)
            yield dsn
        finally:
            self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.maintenance_dsn, autocommit=True) as conn:
            conn.execute(statement)


def _forget_activations(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute("SELECT to_regclass('ledger.activations')").fetchone()
        if row is not None and row[0] is not None:
            conn.execute("DELETE FROM ledger.activations")


def as_options(settings: Mapping[str, str]) -> str:
    """The settings of one of the service's sessions as libpq's `options`, for a connection of a test."""
    return " ".join(f"-c {name}={setting}" for name, setting in settings.items())


def _create_template_database(maintenance_dsn: str) -> None:
    cluster = Cluster(maintenance_dsn)
    name = sql.Identifier(TEMPLATE_DATABASE)
    cluster.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
    cluster.execute(sql.SQL("CREATE DATABASE {}").format(name))
    migrate(make_conninfo(maintenance_dsn, dbname=TEMPLATE_DATABASE))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pure", action="store_true", help="run only the tests that need no database")


# A machine that is busy with something else is no fault. A test that Hypothesis calls again and again cleans
# up by itself what its fixtures have given it.
settings.register_profile(
    "ledger",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ledger")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path == HIGH_AVAILABILITY:
        named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
        return None if any(path.is_relative_to(HIGH_AVAILABILITY) for path in named) else True
    place = collection_path.relative_to(Path(__file__).parent).parts[:1]
    is_pure = any(fnmatch(name, pattern) for name in place for pattern in PURE)
    return True if config.getoption("pure") and place and not is_pure else None


def pytest_configure(config: pytest.Config) -> None:
    # The tests start hundreds of processes: where this is set, each would compile all sources again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False  # and each worker compile all tests, with their assertions rewritten
    if hasattr(config, "workerinput") or config.getoption("pure"):
        return
    database_url = os.environ.get("LEDGER_TEST_DATABASE_URL")
    if database_url:
        config.stash[_MAINTENANCE_DSN] = database_url
    else:
        # Not pytest's tmp_path: as root the server runs as a service user, who must get there.
        directory = Path(tempfile.mkdtemp(prefix="ledger-tests-", dir=find_memory_directory()))
        directory.chmod(0o755)
        server = EmbeddedPostgres(directory / "data", settings=TEST_SERVER_SETTINGS)
        server.start()
        config.stash[_SERVER] = (server, directory)
        config.stash[_MAINTENANCE_DSN] = server.dsn("postgres")
    _create_template_database(config.stash[_MAINTENANCE_DSN])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The garbage collector looks at nothing that was made by then: all tests, and what they import, stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def find_memory_directory() -> str | None:
    """A file system in memory with room for the server, if there is one: copying a template, a thousand files
    each time, takes 18 ms there instead of 140."""
    shared_memory = "/dev/shm"
    has_room = (
        os.access(shared_memory, os.W_OK) and shutil.disk_usage(shared_memory).free > FREE_MEMORY_BYTES_MIN
    )
    return shared_memory if has_room else None


def pytest_unconfigure(config: pytest.Config) -> None:
    server_and_directory = config.stash.get(_SERVER, None)
    if server_and_directory is not None:
        server, directory = server_and_directory
        server.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: called on the controller for each worker."""
    node.workerinput["maintenance"] = node.config.stash.get(_MAINTENANCE_DSN, None)


_MAINTENANCE_DSN = pytest.StashKey[str]()
_SERVER = pytest.StashKey[tuple[EmbeddedPostgres, Path]]()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The shared server. A test that uses it is not pure."""
    workerinput = getattr(pytestconfig, "workerinput", None)
    maintenance_dsn = (
        workerinput["maintenance"] if workerinput else pytestconfig.stash.get(_MAINTENANCE_DSN, None)
    )
    assert maintenance_dsn is not None, "with --pure there is no server: this test belongs in another folder"
    return Cluster(maintenance_dsn)


@pytest.fixture(scope="session")
def shared_service(cluster: Cluster) -> Iterator[Service]:
    """The running service that the tests of this worker share, whatever their folder: an idle one costs a
    thirtieth of a core. None may move its clock. At the end its log must have no failure and no secret, and
    all money must agree."""
    from tests.api.conftest import check_log, check_money  # not with --pure
    from tests.api.service import Service

    with cluster.create_database() as dsn, tempfile.TemporaryDirectory() as data_dir:
        service = Service(dsn, Path(data_dir))
        yield service
        service.stop()
        check_log(service.log)
        check_money(dsn)


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """A fresh, migrated database for this test alone."""
    with cluster.create_database() as dsn:
        yield dsn
