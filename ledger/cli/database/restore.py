"""`ledger restore FILE`: fills an empty database from a backup, or changes nothing.

What can be found wrong is found first, from the file alone: that it is of a ledger, of a release that this
one can read, and made with the key that is here.
"""

from __future__ import annotations

import asyncio
import hmac
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from ledger.cli.shell import get_shell_user
from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.connections import open_connection
from ledger.postgres.deployment import get_database_url, get_key_file
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.postgres.private_files import write_private_file
from ledger.postgres.programs.restore import DumpFacts, check_empty, read_facts, restore_dump
from ledger.service_key import check_service_key, derive_check_value
from ledger.webhooks.switch import declare_copy, read_switch

KEY_LENGTH_MIN = 32


class Restored(NamedTuple):
    """A restored database: what the dump said of it, and roles of the dump that the server does not have."""

    facts: DumpFacts
    missing_roles: list[str]


def restore(settings: Settings, file: Path, key_file: Path | None) -> Restored:
    """Restore `file` into the configured database, or into a new embedded one. `key_file` has the service
    key of an embedded database. Raises SettingError; then nothing has changed."""
    if settings.database_url is not None:
        return _restore_into_url(settings, get_database_url(settings), file, key_file)
    return _restore_embedded(settings, file, key_file)


def _restore_into_url(settings: Settings, dsn: str, file: Path, key_file: Path | None) -> Restored:
    if key_file is not None:
        raise SettingError("--key-file: only for an embedded database; LEDGER_SECRET_KEY is the key here")
    assert settings.secret_key is not None
    key = settings.secret_key.get_secret_value().encode()
    check_empty(dsn)
    facts = read_facts(file)
    _check_key(facts, key, "LEDGER_SECRET_KEY")
    missing_roles = restore_dump(dsn, file)
    _finish(settings, dsn, key)
    return Restored(facts, missing_roles)


def _restore_embedded(settings: Settings, file: Path, key_file: Path | None) -> Restored:
    data_dir = settings.data_dir.absolute()
    own_key_file = get_key_file(settings).absolute()
    if EmbeddedPostgres(data_dir).exists:
        raise SettingError(
            f"there is a database in {data_dir}: nothing was restored. Set LEDGER_DATA_DIR to a new directory"
        )
    others = [path.name for path in data_dir.iterdir() if path != own_key_file] if data_dir.exists() else []
    if others:
        raise SettingError(
            f"{data_dir} is not empty (it has {others[0]}): nothing was restored. Set LEDGER_DATA_DIR "
            "to a new directory"
        )
    key, source = _read_key(settings, own_key_file, key_file)
    facts = read_facts(file)
    _check_key(facts, key, source)
    with _create_embedded(data_dir) as server:
        missing_roles = restore_dump(server.dsn(), file)
        if settings.secret_key is None and not own_key_file.exists():
            write_private_file(own_key_file, key.decode())
        _finish(settings, server.dsn(), key)
    return Restored(facts, missing_roles)


@contextmanager
def _create_embedded(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A new embedded server. If the block ends by an error, all that was made is removed."""
    was_there = data_dir.exists()
    kept = set(data_dir.iterdir()) if was_there else set()
    server = EmbeddedPostgres(data_dir)
    with ExitStack() as stack:
        stack.callback(_remove_made, data_dir, kept, keep_directory=was_there)
        server.start()
        stack.callback(server.destroy)
        yield server
        stack.pop_all()
    server.stop()


def _remove_made(data_dir: Path, kept: set[Path], *, keep_directory: bool) -> None:
    for path in data_dir.iterdir() if data_dir.exists() else ():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep_directory and data_dir.exists():
        data_dir.rmdir()


def _read_key(settings: Settings, own_key_file: Path, key_file: Path | None) -> tuple[bytes, str]:
    """The service key, and where it is from."""
    if settings.secret_key is not None:
        if key_file is not None:
            raise SettingError("--key-file: LEDGER_SECRET_KEY is set, too: use one of them")
        return settings.secret_key.get_secret_value().encode(), "LEDGER_SECRET_KEY"
    path = key_file or own_key_file
    if key_file is None and not own_key_file.exists():
        raise SettingError(
            "the key is missing with which the data was made: name its file with --key-file, or set "
            "LEDGER_SECRET_KEY"
        )
    try:
        key = path.read_bytes()
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from None
    if len(key) < KEY_LENGTH_MIN or not key.isascii():
        raise SettingError(f"{path} is not a file with a service key")
    return key, str(path)


def _check_key(facts: DumpFacts, key: bytes, source: str) -> None:
    if facts.check_value is not None and not hmac.compare_digest(facts.check_value, derive_check_value(key)):
        raise SettingError(
            f"{source} is not the key that the data of this backup was made with: nothing was restored. Use "
            "that key (docs/operations.md, Backups)"
        )


def _finish(settings: Settings, dsn: str, key: bytes) -> None:
    migrate(dsn)
    check_service_key(settings, dsn, key)
    asyncio.run(_mark_as_copy(dsn))


async def _mark_as_copy(dsn: str) -> None:
    """Let nothing happen by itself, even if the dump is of a release that left no mark to recognise it by."""
    async with open_connection(dsn, "ledger_api", name="restore") as conn:
        if (await read_switch(conn)).is_active:
            await declare_copy(conn, get_shell_user(), "restored by `ledger restore`")
