"""The deployment's database and service key: those of the settings, or an embedded server and a key that is
generated at the first start and kept beside it in the data directory.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.postgres.private_files import write_private_file

_HAS_DATA = """
SELECT EXISTS (SELECT FROM ledger.service_key) OR EXISTS (SELECT FROM ledger.events)
    OR EXISTS (SELECT FROM ledger.file_chunks)
"""


@contextmanager
def open_database(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """(connection string, service key) for a command or a part of the service. Uses the embedded server of
    another process when one runs on the data directory. Raises SettingError."""
    with ExitStack() as stack:
        try:
            dsn_and_key = stack.enter_context(open_own_database(settings))
        except SettingError:
            dsn = _read_running_dsn(settings.data_dir / "database.json")
            if settings.database_url is not None or dsn is None:
                raise
            dsn_and_key = dsn, _load_service_key(settings, dsn)
        yield dsn_and_key


@contextmanager
def open_own_database(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """(connection string, service key) for the service. Without a database URL an embedded server runs inside
    the `with` block, migrated. Raises SettingError, also when another process uses the data directory."""
    if settings.database_url is not None:
        assert settings.secret_key is not None
        yield settings.database_url.get_secret_value(), settings.secret_key.get_secret_value().encode()
        return
    dsn_file = settings.data_dir / "database.json"
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings.data_dir))
        write_private_file(dsn_file, json.dumps({"pid": os.getpid(), "dsn": server.dsn()}))
        stack.callback(dsn_file.unlink, missing_ok=True)
        migrate(server.dsn())
        yield server.dsn(), _load_service_key(settings, server.dsn())


def get_key_file(settings: Settings) -> Path:
    """The file with the service key of an embedded server, unless the settings have the key."""
    return settings.data_dir / "secret.key"


def _read_running_dsn(dsn_file: Path) -> str | None:
    """The connection string that a running process left for others; None when no such process runs."""
    try:
        server = json.loads(dsn_file.read_text())
        os.kill(server["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return str(server["dsn"])


def _load_service_key(settings: Settings, dsn: str) -> bytes:
    """The key of the settings or of the file, which is made for a database without data. Raises
    SettingError."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    file = get_key_file(settings)
    if not file.exists():
        with psycopg.connect(dsn, application_name="ledger service key") as conn:
            row = conn.execute(_HAS_DATA).fetchone()
        if row is None or row[0]:
            raise SettingError(
                f"{file} is missing, and the data of this database was made with the key in it: restore the "
                "file, or set LEDGER_SECRET_KEY (docs/operations.md, Backups)"
            )
        write_private_file(file, secrets.token_urlsafe(48))
    return file.read_text().encode()
