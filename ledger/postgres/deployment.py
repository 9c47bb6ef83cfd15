"""The deployment's database and service keys: those of the settings, or an embedded server and a key that is
generated at the first start and kept beside it in the data directory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.config import SECRET_KEY_LENGTH_MIN, Settings, name_unknown_settings
from ledger.errors import DataDirectoryInUse, SettingError
from ledger.postgres.cluster import SUPERUSER
from ledger.postgres.connections import Conn, fetch_one, first_line
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import SERVER_VERSION_MIN, end_support, migrate
from ledger.postgres.private_files import write_private_file
from ledger.postgres.sessions import CONNECT_TIMEOUT_SECONDS, ROLES, NoAnswer, name_primary

DSN_FILE = "database.json"
ANALYST = "ledger_analyst"
"""The role that reads the schema `reporting`. The service itself never uses it."""
_HAS_DATA = """
SELECT EXISTS (SELECT FROM ledger.service_key) OR EXISTS (SELECT FROM ledger.events)
    OR EXISTS (SELECT FROM ledger.file_chunks)
"""

AWAIT_SECONDS = 30.0
"""How long a start waits for a primary that is being replaced: more than a failover takes."""
_AWAIT_PAUSE_SECONDS = 0.5
# What a login meets at a proxy that knows no primary now, and at a server that starts or ends. By text:
# psycopg has no code for a login that failed. In another language the start fails at once.
_PASSING = ("server closed the connection unexpectedly", "Connection reset by peer", "database system is")

_log = logging.getLogger("ledger.postgres")

_LOOK_ROUNDS = 3
# The roles that the user may not take. Before the first migration nobody needs them.
_LOOK = """
SELECT pg_backend_pid(), pg_is_in_recovery(), ARRAY(
    SELECT r.rolname::text FROM pg_roles r
    WHERE r.rolname = ANY (%s) AND NOT pg_has_role(current_user, r.oid, 'MEMBER')
    AND EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'ledger' AND c.relname = 'served') ORDER BY 1)
"""


class ConfiguredKeys(NamedTuple):
    """The service keys of the settings or of the key files, not compared with the database yet."""

    current: bytes
    previous: bytes | None = None

    def __repr__(self) -> str:
        return "ConfiguredKeys()"  # never the keys


@contextmanager
def open_database(settings: Settings) -> Iterator[tuple[str, ConfiguredKeys]]:
    """(connection string, service keys) for a command or a part of the service, on a database that exists:
    only the service creates one. Uses the embedded server of another process when one runs on the data
    directory. Raises SettingError; then nothing was made."""
    _require_database(settings)
    with ExitStack() as stack:
        try:
            dsn_and_keys = stack.enter_context(open_own_database(settings))
        except DataDirectoryInUse as error:
            dsn = _read_running_dsn(settings.data_dir / DSN_FILE, error.holder_pid)
            if dsn is None:
                raise
            dsn_and_keys = dsn, _load_keys(settings, dsn)
        yield dsn_and_keys


@contextmanager
def open_own_database(settings: Settings) -> Iterator[tuple[str, ConfiguredKeys]]:
    """(connection string, service keys) for the service. Without a database URL an embedded server runs in
    the `with` block, migrated; its connections log in as the roles of the service, and analysts as theirs.
    Raises SettingError, also when another process uses the data directory."""
    if settings.database_url is not None:
        url = get_database_url(settings)
        check_server(url)
        yield url, _load_keys(settings, url)
        return
    dsn_file = settings.data_dir / DSN_FILE
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings.data_dir))
        dsn_file.unlink(missing_ok=True)  # left by a killed process
        migrate(server.dsn())
        configured = _load_keys(settings, server.dsn())
        server.enable_logins((*ROLES, ANALYST))
        dsn = server.dsn(user=ROLES[0])
        write_private_file(dsn_file, json.dumps({"pid": os.getpid(), "dsn": dsn}))
        stack.callback(dsn_file.unlink, missing_ok=True)
        yield dsn, configured


def read_running_database(settings: Settings) -> tuple[str, ConfiguredKeys]:
    """(connection string, service keys) for a command that runs beside the service and outlives a restart of
    it: it starts no embedded server, which would be in the way of that. Raises SettingError when there is no
    database, and when no process has started it."""
    _require_database(settings)
    if settings.database_url is not None:
        url = get_database_url(settings)
        return url, _load_keys(settings, url)
    try:
        dsn = str(json.loads((settings.data_dir / DSN_FILE).read_text())["dsn"])
    except (OSError, ValueError, LookupError, TypeError):
        data_dir = settings.data_dir.absolute()
        raise SettingError(f"no service runs on {data_dir}: start one with `ledger serve`") from None
    return dsn, _load_keys(settings, dsn)


def get_database_url(settings: Settings) -> str:
    """The connection string of the settings, which name one; of several hosts it takes the primary. Raises
    SettingError for what is none."""
    assert settings.database_url is not None
    try:
        return name_primary(settings.database_url.get_secret_value())
    except psycopg.ProgrammingError:
        raise SettingError("LEDGER_DATABASE_URL: not a Postgres connection string") from None


def check_server(url: str) -> None:
    """Check that the service can work through this connection string: that it leads to a primary, gives each
    connection a session of its own, and may take the roles that exist. A failover that is under way is waited
    for, AWAIT_SECONDS at most. Raises SettingError."""
    deadline, is_awaited = time.monotonic() + AWAIT_SECONDS, False
    try:
        while True:
            try:
                reason = asyncio.run(_find_fault(url))
                break
            except psycopg.OperationalError as error:
                if not _is_passing(error) or time.monotonic() >= deadline:
                    raise
                if not is_awaited:
                    _log.warning("the database has no primary now, and is waited for: %s", first_line(error))
                    is_awaited = True
            time.sleep(_AWAIT_PAUSE_SECONDS)
    except NoAnswer:
        reason = (
            f"a connection was accepted, but nothing was answered on it in {CONNECT_TIMEOUT_SECONDS} s: the "
            "server hangs, or a pooler in front of it has too small a pool (docs/high-availability.md)"
        )
    except psycopg.OperationalError as error:
        reason = f"the database cannot be reached: {first_line(error)}"
    if reason is not None:
        raise SettingError(f"LEDGER_DATABASE_URL: {reason}")


def _is_passing(error: psycopg.OperationalError) -> bool:
    is_ending = error.sqlstate is not None and error.sqlstate.startswith("57P")
    return is_ending or any(words in str(error) for words in _PASSING)


async def _find_fault(url: str) -> str | None:
    async with AsyncExitStack() as stack:
        conns: list[Conn] = []
        for _ in range(2):
            conn = await Conn.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
            conns.append(await stack.enter_async_context(conn))
            if conn.info.server_version < SERVER_VERSION_MIN:
                return None  # whoever looks at the schema says so
        seen = set()
        for _ in range(_LOOK_ROUNDS):
            for number, conn in enumerate(conns):
                row = await fetch_one(conn, _LOOK, (list(ROLES),))
                assert row is not None
                pid, is_standby, roles_denied = row
                seen.add((number, pid))
    if is_standby:
        return "it leads to a standby, which takes no writes: use the address of the primary"
    if len(seen) != len(conns) or len({pid for _, pid in seen}) != len(conns):
        return (
            "it leads to a pooler that lends a session for one transaction: let it lend one for a whole "
            "connection (pgbouncer: pool_mode = session), or use the server's own address"
        )
    if roles_denied and conninfo_to_dict(url).get("user") not in ROLES:
        return f"its user may not take the role {roles_denied[0]}: GRANT {', '.join(roles_denied)} TO it"
    return None


def get_owner_dsn(settings: Settings, dsn: str) -> str:
    """The connection string of the owner of the database that `open_database` has opened."""
    return dsn if settings.database_url is not None else make_conninfo(dsn, user=SUPERUSER)


def read_configured_keys(settings: Settings) -> ConfiguredKeys | None:
    """The service keys of the settings; None where they are in files."""
    if settings.secret_key is None:
        return None
    previous = settings.previous_secret_key
    return ConfiguredKeys(
        settings.secret_key.get_secret_value().encode(),
        None if previous is None else previous.get_secret_value().encode(),
    )


def get_key_file(settings: Settings) -> Path:
    """The file with the service key of an embedded server, unless the settings have the key."""
    return settings.data_dir / "secret.key"


def get_previous_key_file(settings: Settings) -> Path:
    """The file with the service key that the one in `get_key_file` replaces; it is there only meanwhile."""
    return settings.data_dir / "secret.key.previous"


def read_key_file(path: Path) -> bytes:
    """The service key in a file: all its bytes. Raises SettingError."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from None
    if len(key) < SECRET_KEY_LENGTH_MIN or not key.isascii():
        raise SettingError(f"{path} is not a file with a service key")
    return key


def migrate_database(settings: Settings, dsn: str, *, contract: bool = False) -> list[str]:
    """Upgrade the schema of the database that `open_database` has opened, as its owner. `contract`: no older
    release may start on it any more. Returns the projections that keep what only older releases use, as
    `end_support` does. Raises SettingError."""
    owner_dsn = get_owner_dsn(settings, dsn)
    migrate(owner_dsn)
    return end_support(owner_dsn) if contract else []


def _require_database(settings: Settings) -> None:
    """Raises SettingError when there is neither a database URL nor a database in the data directory."""
    if settings.database_url is not None:
        return
    data_dir = settings.data_dir.absolute()
    if not EmbeddedPostgres(data_dir).exists:
        raise SettingError(
            f"there is no database in {data_dir}: start one with `ledger serve`, or set LEDGER_DATA_DIR or "
            f"LEDGER_DATABASE_URL{name_unknown_settings()}"
        )
    key_file = get_key_file(settings).absolute()
    if settings.secret_key is None and not key_file.exists():
        raise SettingError(f"{key_file} is missing: restore it, or set LEDGER_SECRET_KEY")


def _read_running_dsn(dsn_file: Path, holder_pid: int | None) -> str | None:
    """The connection string that the process `holder_pid` left for others; None before it is ready."""
    try:
        server = json.loads(dsn_file.read_text())
        return str(server["dsn"]) if server["pid"] == holder_pid else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _load_keys(settings: Settings, dsn: str) -> ConfiguredKeys:
    """The keys of the settings or of the key files. A key is made for an embedded database without data.
    Raises SettingError."""
    configured = read_configured_keys(settings)
    if configured is not None:
        return configured
    file, previous_file = get_key_file(settings), get_previous_key_file(settings)
    if not file.exists():
        with psycopg.connect(dsn, application_name="ledger service key") as conn:
            row = conn.execute(_HAS_DATA).fetchone()
        if row is None or row[0]:
            raise SettingError(
                f"{file} is missing, and the data of this database was made with the key in it: restore the "
                "file, or set LEDGER_SECRET_KEY (docs/operations.md, Backups)"
            )
        write_private_file(file, secrets.token_urlsafe(48))
    return ConfiguredKeys(file.read_bytes(), read_key_file(previous_file) if previous_file.exists() else None)
