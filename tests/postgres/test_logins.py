"""The service's connections to an embedded database: each logs in as its role, which no statement leaves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from ledger.config import Settings, load_settings
from ledger.postgres.connections import connect, fetch_all
from ledger.postgres.deployment import ANALYST, migrate_database, open_database, open_own_database
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.sessions import ROLES, Role

USERS = "SELECT session_user::text, current_user::text"
CANCEL_REBUILD = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger rebuild'"
)
REFUSED = [
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "UPDATE ledger.events SET topic = ''",
    "DELETE FROM ledger.events",
    "TRUNCATE ledger.events",
    "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
    "DROP TABLE ledger.events",
    "CREATE TABLE ledger.other ()",
    "CREATE ROLE other",
    "GRANT postgres TO CURRENT_USER",
    "SELECT FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]


@pytest.fixture(scope="module")
def settings(place: Path) -> Settings:
    return load_settings(data_dir=place / "logins")


@pytest.fixture(scope="module")
def dsn(settings: Settings) -> Iterator[str]:
    """The connection string that the service uses, while its server runs."""
    with open_own_database(settings) as (dsn, _):
        yield dsn


def owner(dsn: str) -> str:
    return make_conninfo(dsn, user="postgres")


def run(dsn: str, role: Role, *statements: str) -> list[TupleRow]:
    """The rows of the last statement, on one of the service's connections."""

    async def run_statements() -> list[TupleRow]:
        async with await connect(dsn, role, name="test") as conn:
            for statement in statements[:-1]:
                await conn.execute(statement.encode())
            return await fetch_all(conn, statements[-1].encode())

    return asyncio.run(run_statements())


@pytest.mark.parametrize("role", ROLES)
def test_a_connection_logs_in_as_its_role(dsn: str, role: Role) -> None:
    assert run(dsn, role, USERS) == [(role, role)]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("reset", ["SET ROLE NONE", "RESET ROLE", "RESET SESSION AUTHORIZATION", "RESET ALL"])
def test_a_reset_of_the_role_gives_no_more_rights(dsn: str, role: Role, reset: str) -> None:
    assert run(dsn, role, reset, USERS) == [(role, role)]
    for statement in REFUSED:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(dsn, role, reset, statement)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("statement", REFUSED)
def test_what_only_the_owner_may_do_is_refused(dsn: str, role: Role, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(dsn, role, statement)


def test_neither_role_can_become_the_other(dsn: str) -> None:
    for role, other in (ROLES, ROLES[::-1]):
        for statement in (f"SET ROLE {other}", f"SET SESSION AUTHORIZATION {other}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run(dsn, role, statement)


def test_a_role_sees_and_cancels_its_own_backends(dsn: str) -> None:
    """An operator cancels the process that drives a rebuild."""

    async def cancel_driver() -> list[TupleRow]:
        async with (
            await connect(dsn, "ledger_projector", name="rebuild"),
            await connect(dsn, "ledger_projector", name="cli") as conn,
        ):
            return await fetch_all(conn, CANCEL_REBUILD)

    assert asyncio.run(cancel_driver()) == [(True,)]


def test_the_schema_belongs_to_the_owner(dsn: str, settings: Settings) -> None:
    migrate_database(settings, dsn)
    with psycopg.connect(owner(dsn)) as conn:
        query = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'ledger'"
        assert conn.execute(query).fetchall() == [("postgres",)]


def test_the_passwords_are_in_the_private_file_alone(dsn: str, settings: Settings) -> None:
    passfile = settings.data_dir / "postgres.pass"
    lines = [line.split(":") for line in passfile.read_text().splitlines()]
    assert [line[3] for line in lines] == ["postgres", *ROLES, ANALYST]
    assert passfile.stat().st_mode & 0o077 == 0
    log = (settings.data_dir / "postgres.log").read_text()
    connection_file = (settings.data_dir / "database.json").read_text()
    for line in lines:
        assert line[4] not in log + connection_file


def test_a_command_beside_the_service_logs_in_as_the_service_does(dsn: str, settings: Settings) -> None:
    with open_database(settings) as (found, _):
        assert conninfo_to_dict(found)["user"] in ROLES


def test_variables_for_another_server_change_nothing(
    dsn: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at a start nor for a command beside the service; each alone would break a connection."""
    for name, value in (("PGPASSWORD", "lovelace"), ("PGSERVICE", "none"), ("PGREQUIREAUTH", "none")):
        monkeypatch.setenv(name, value)
        with open_database(settings) as (found, _), psycopg.connect(found) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_data_directory_of_an_earlier_release_is_upgraded_at_the_next_start(place: Path) -> None:
    """There the roles cannot log in, and the password file has the superuser alone."""
    settings = load_settings(data_dir=place / "earlier")
    with open_own_database(settings) as (dsn, _), psycopg.connect(owner(dsn)) as conn:
        conn.execute("ALTER ROLE ledger_api NOLOGIN PASSWORD NULL")
        conn.execute("ALTER ROLE ledger_projector NOLOGIN PASSWORD NULL")
    passfile = settings.data_dir / "postgres.pass"
    passfile.write_text(passfile.read_text().splitlines()[0] + "\n")
    for _ in range(2):
        with open_own_database(settings) as (dsn, _):
            for role in ROLES:
                assert run(dsn, role, USERS) == [(role, role)]
    with EmbeddedPostgres(settings.data_dir) as server:
        server.destroy()
    shutil.rmtree(settings.data_dir)


def test_a_database_url_with_the_user_of_one_role_logs_in_as_either(dsn: str) -> None:
    """The way to the same safety without the embedded server: one password for both."""
    with psycopg.connect(owner(dsn), dbname="postgres") as conn:
        for role in ROLES:
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD 'shared'").format(sql.Identifier(role)))
    url = make_conninfo(dsn, user="ledger_api", password="shared", passfile="/nonexistent")
    external = load_settings(database_url=url, secret_key="k" * 32)
    with open_own_database(external) as (found, _):
        for role in ROLES:
            assert run(found, role, USERS) == [(role, role)]
