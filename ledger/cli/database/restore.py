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
from ledger.keys.registered_keys import find_unusable
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import open_connection
from ledger.postgres.deployment import (
    ConfiguredKeys,
    get_database_url,
    get_key_file,
    read_configured_keys,
    read_key_file,
)
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.postgres.private_files import write_private_file
from ledger.postgres.programs.restore import DumpFacts, check_empty, read_facts, restore_dump
from ledger.service_key import check_service_key, derive_check_value
from ledger.webhooks.switch import declare_copy, read_switch


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
    configured = read_configured_keys(settings)
    assert configured is not None
    check_empty(dsn)
    facts = read_facts(file)
    _check_keys(facts, configured, "LEDGER_SECRET_KEY")
    missing_roles = restore_dump(dsn, file)
    _finish(settings, dsn, configured)
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
    configured, source = _read_keys(settings, own_key_file, key_file)
    facts = read_facts(file)
    _check_keys(facts, configured, source)
    with _create_embedded(data_dir) as server:
        missing_roles = restore_dump(server.dsn(), file)
        if settings.secret_key is None and not own_key_file.exists():
            write_private_file(own_key_file, configured.current.decode())
        _finish(settings, server.dsn(), configured)
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


def _read_keys(settings: Settings, own_key_file: Path, key_file: Path | None) -> tuple[ConfiguredKeys, str]:
    """The service keys, and where they are from."""
    configured = read_configured_keys(settings)
    if configured is not None:
        if key_file is not None:
            raise SettingError("--key-file: LEDGER_SECRET_KEY is set, too: use one of them")
        return configured, "LEDGER_SECRET_KEY"
    path = key_file or own_key_file
    if key_file is None and not own_key_file.exists():
        raise SettingError(
            "the key is missing with which the data was made: name its file with --key-file, or set "
            "LEDGER_SECRET_KEY"
        )
    return ConfiguredKeys(read_key_file(path)), str(path)


def _check_keys(facts: DumpFacts, configured: ConfiguredKeys, source: str) -> None:
    """Raises SettingError for other keys than those that the data was made with."""
    if facts.service_keys:
        reason = find_unusable(facts.service_keys, ServiceKeys(*configured).ids)
        if reason is not None:
            raise SettingError(f"{source} {reason}: nothing was restored")
    elif facts.check_value is not None and not any(
        hmac.compare_digest(facts.check_value, derive_check_value(key))
        for key in configured
        if key is not None
    ):
        raise SettingError(
            f"{source} is not the key that the data of this backup was made with: nothing was restored. Use "
            "that key (docs/operations.md, Backups)"
        )


def _finish(settings: Settings, dsn: str, configured: ConfiguredKeys) -> None:
    migrate(dsn)
    check_service_key(settings, dsn, configured)
    asyncio.run(_mark_as_copy(dsn))


async def _mark_as_copy(dsn: str) -> None:
    """Let nothing happen by itself, even if the dump is of a release that left no mark to recognise it by."""
    async with open_connection(dsn, "ledger_api", name="restore") as conn:
        if (await read_switch(conn)).is_active:
            await declare_copy(conn, get_shell_user(), "restored by `ledger restore`")
