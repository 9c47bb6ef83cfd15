"""Which database and which service key this deployment has: those named in its settings, or an embedded
server of its own and a key kept beside it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate


@contextmanager
def open_database(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """The database to work with and the service key, for commands and parts of the service: while another
    process of ours serves from the data directory, its server is used."""
    with ExitStack() as stack:
        try:
            dsn_and_key = stack.enter_context(open_own_database(settings))
        except SettingError:
            dsn = _read_running_dsn(settings.data_dir / "database.json")
            if settings.database_url is not None or dsn is None:
                raise
            dsn_and_key = dsn, _load_service_key(settings)
        yield dsn_and_key


@contextmanager
def open_own_database(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """The database and the service key; an embedded server runs meanwhile if there is no URL. Raises
    SettingError when another process has its data directory."""
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
        yield server.dsn(), _load_service_key(settings)


def _read_running_dsn(dsn_file: Path) -> str | None:
    try:
        server = json.loads(dsn_file.read_text())
        os.kill(server["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return str(server["dsn"])


def _load_service_key(settings: Settings) -> bytes:
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    file = settings.data_dir / "secret.key"
    if not file.exists():
        write_private_file(file, secrets.token_urlsafe(48))
    return file.read_text().encode()


def write_private_file(path: Path, text: str) -> None:
    """A file that nobody else may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
