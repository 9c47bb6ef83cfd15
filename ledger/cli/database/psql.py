"""`ledger psql`: PostgreSQL's own shell on the configured database, read-only by default."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.cli.shell import warn_of_misspelt_settings
from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.deployment import get_owner_dsn, open_database
from ledger.postgres.programs.client import (
    add_options,
    connect,
    describe_connection,
    describe_server,
    find_program,
)

SEARCH_PATH = "ledger, projections, webhooks, reporting, public"
_READ_ONLY = "default_transaction_read_only"
_DEAF_POOLER = (
    "LEDGER_DATABASE_URL: it leads to a pooler that {} what a session is to begin with (pgbouncer: "
    "ignore_startup_parameters): give `ledger psql` the server's own address"
)
_SELECT_OPTIONS = f"SELECT current_setting('role'), current_setting('{_READ_ONLY}')".encode()
_ROLE_SETTINGS = """
SELECT setting FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) setting
JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE r.rolname = %s AND (d.oid IS NULL OR d.datname = current_database())
ORDER BY d.oid NULLS FIRST"""


def run_psql(settings: Settings, arguments: Sequence[str], *, role: str | None, write: bool) -> int:
    """Run psql with `arguments` as the owner of the database, or in `role` with the settings that a login of
    it has, and return its exit status.

    Raises SettingError when the database cannot be reached or there is no psql.
    """
    options = {"search_path": SEARCH_PATH}
    with open_database(settings) as (dsn, _):
        owner_dsn = get_owner_dsn(settings, dsn)
        with connect(owner_dsn) as conn:
            server = describe_server(conn)
            if role is not None:
                options |= _read_role_settings(conn, role) | {"role": role}
        options[_READ_ONLY] = "off" if write else "on"
        try:
            psql = find_program("psql", server, older=True)
        except SettingError as error:
            raise SettingError(f"{error}. From elsewhere: {_show_command(settings, owner_dsn)}") from None
        session_dsn = add_options(owner_dsn, options)
        _check_options(session_dsn, role, read_only=options[_READ_ONLY])
        connection = describe_connection(make_conninfo(session_dsn, application_name="ledger psql"))
        warn_of_misspelt_settings()
        process = subprocess.Popen([psql, *connection.arguments, *arguments], env=connection.environment)
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's: it cancels a query
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def _check_options(dsn: str, role: str | None, *, read_only: str) -> None:
    """Raises SettingError behind a pooler that refuses them, or ignores them: psql would run as the owner,
    and could write."""
    try:
        with connect(dsn) as conn:
            row = conn.execute(_SELECT_OPTIONS).fetchone()
    except SettingError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        raise SettingError(_DEAF_POOLER.format("refuses")) from None
    assert row is not None
    if row[1] != read_only or role not in (None, row[0]):
        raise SettingError(_DEAF_POOLER.format("ignores"))


def _read_role_settings(conn: psycopg.Connection, role: str) -> dict[str, str]:
    """What ALTER ROLE … SET has set. Postgres applies it to a login of the role, but not to SET ROLE."""
    rows = conn.execute(_ROLE_SETTINGS, (role,)).fetchall()
    return dict(setting.split("=", 1) for (setting,) in rows)


def _show_command(settings: Settings, dsn: str) -> str:
    """The command that connects another psql, without a password."""
    if settings.database_url is not None:
        return 'psql "$LEDGER_DATABASE_URL"'
    location = conninfo_to_dict(dsn)
    return f"PGPASSFILE={location['passfile']} psql -h {location['host']} -U {location['user']} ledger"
