"""`ledger psql`: PostgreSQL's own shell on the configured database, read-only by default."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.deployment import get_owner_dsn, open_database
from ledger.postgres.programs.client import connect, describe_connection, describe_server, find_program

SEARCH_PATH = "ledger, projections, webhooks, reporting, public"


def run_psql(settings: Settings, arguments: Sequence[str], *, role: str | None, write: bool) -> int:
    """Run psql with `arguments` as the owner of the database, or in `role`, and return its exit status.

    Raises SettingError when the database cannot be reached or there is no psql.
    """
    options = {"search_path": SEARCH_PATH}
    if not write:
        options["default_transaction_read_only"] = "on"
    if role is not None:
        options["role"] = role
    with open_database(settings) as (dsn, _):
        owner_dsn = get_owner_dsn(settings, dsn)
        with connect(owner_dsn) as conn:
            server = describe_server(conn)
        try:
            psql = find_program("psql", server, older=True)
        except SettingError as error:
            raise SettingError(f"{error}. From elsewhere: {_show_command(settings, owner_dsn)}") from None
        named = make_conninfo(owner_dsn, application_name="ledger psql")
        connection = describe_connection(named, options=options)
        process = subprocess.Popen([psql, *connection.arguments, *arguments], env=connection.environment)
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's: it cancels a query
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def _show_command(settings: Settings, dsn: str) -> str:
    """The command that connects another psql, without a password."""
    if settings.database_url is not None:
        return 'psql "$LEDGER_DATABASE_URL"'
    location = conninfo_to_dict(dsn)
    return f"PGPASSFILE={location['passfile']} psql -h {location['host']} -U {location['user']} ledger"
