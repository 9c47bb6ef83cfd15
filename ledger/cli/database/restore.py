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

from ledger.cli.database.backup import name_keys_file
from ledger.cli.shell import format_count, get_shell_user
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
from ledger.postgres.programs.keys import RestoredKeys, mark_unreadable, restore_keys
from ledger.postgres.programs.restore import (
    DumpFacts,
    check_empty,
    check_whole,
    empty_again,
    read_facts,
    restore_dump,
)
from ledger.service_key import check_service_key, derive_check_value
from ledger.webhooks.switch import declare_copy, read_switch


class Restored(NamedTuple):
    """A restored database.

    missing_roles      roles of the dump that the server does not have
    keys               what is known of its keys
    may_lack_erasures  whether what was erased after its keys were dumped is back
    """

    missing_roles: list[str]
    keys: RestoredKeys
    may_lack_erasures: bool


class Dumps(NamedTuple):
    """The files of a backup. `keys` has the keys of personal data; None: without them, which is allowed for a
    backup of a release that had none, and if `without_keys`."""

    log: Path
    keys: Path | None
    without_keys: bool


class _Facts(NamedTuple):
    """What the files say of themselves, checked against each other."""

    log: DumpFacts
    keys: DumpFacts | None

    @property
    def of_keys(self) -> DumpFacts:
        """What tells of the service key: it wraps what is in the file of the keys, if there is one."""
        return self.log if self.keys is None else self.keys

    @property
    def are_of_one_time(self) -> bool:
        """Whether no erasure lies between the two."""
        return self.keys is None or self.keys.erasures == self.log.erasures

    @property
    def have_keys(self) -> bool:
        """Whether they open personal data. That of releases without such keys is opened by the service
        key."""
        return self.keys is not None or self.log.has_keys or self.log.erasures is None


def find_dumps(file: Path, keys: Path | None, without_keys: bool) -> Dumps:
    """The files of the backup `file`, with the keys that are named, or else those beside it. Raises
    SettingError."""
    if keys is not None and without_keys:
        raise SettingError("--keys and --without-keys exclude each other")
    beside = name_keys_file(file)
    if keys is None and not without_keys and beside.exists():
        keys = beside
    return Dumps(file, keys, without_keys)


def describe_keys(keys: RestoredKeys) -> list[str]:
    """What cannot be read in a restored database, in words for its operator."""
    lines = []
    if keys.unreadable:
        persons = format_count(keys.unreadable, "data subject")
        lines.append(f"No key is here for {persons}: their personal data shows as redacted, for good.")
    if keys.unfinished:
        erasures = format_count(keys.unfinished, "data subject")
        lines.append(
            f"The erasure of {erasures} was under way: see `ledger erase list`, or request it again."
        )
    return lines


def restore(settings: Settings, dumps: Dumps, key_file: Path | None) -> Restored:
    """Restore a backup into the configured database, or into a new embedded one. `key_file` has the service
    key of an embedded database. Raises SettingError; then nothing has changed."""
    if settings.database_url is not None:
        return _restore_into_url(settings, get_database_url(settings), dumps, key_file)
    return _restore_embedded(settings, dumps, key_file)


def _restore_into_url(settings: Settings, dsn: str, dumps: Dumps, key_file: Path | None) -> Restored:
    if key_file is not None:
        raise SettingError("--key-file: only for an embedded database; LEDGER_SECRET_KEY is the key here")
    configured = read_configured_keys(settings)
    assert configured is not None
    check_empty(dsn)
    facts = _read_facts(dumps)
    _check_keys(facts.of_keys, configured, "LEDGER_SECRET_KEY")
    missing_roles = restore_dump(dsn, dumps.log)
    try:
        restored_keys = _finish(settings, dsn, configured, dumps, facts)
        return Restored(missing_roles, restored_keys, facts.have_keys)
    except BaseException:
        empty_again(dsn)
        raise


def _restore_embedded(settings: Settings, dumps: Dumps, key_file: Path | None) -> Restored:
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
    facts = _read_facts(dumps)
    _check_keys(facts.of_keys, configured, source)
    with _create_embedded(data_dir) as server:
        missing_roles = restore_dump(server.dsn(), dumps.log)
        if settings.secret_key is None and not own_key_file.exists():
            write_private_file(own_key_file, configured.current.decode())
        keys = _finish(settings, server.dsn(), configured, dumps, facts)
    return Restored(missing_roles, keys, facts.have_keys)


def _read_facts(dumps: Dumps) -> _Facts:
    """What the files say, if they can be restored together. Raises SettingError."""
    log = read_facts(dumps.log)
    if not log.has_log:
        raise SettingError(f"{dumps.log} has the keys alone: name it with --keys, beside the file of the log")
    if dumps.keys is None:
        if log.erasures is not None and not log.has_keys and not dumps.without_keys:
            raise SettingError(
                "the keys of personal data are missing: name their file with --keys, or restore without "
                "what they open, for good, by --without-keys"
            )
        return _Facts(log, None)
    keys = read_facts(dumps.keys)
    if keys.has_log or not keys.has_keys:
        raise SettingError(f"{dumps.keys} is not a file with the keys of `ledger backup`")
    check_whole(dumps.keys)  # before anything is restored: they come last
    if None not in (keys.identity, log.identity) and keys.identity != log.identity:
        raise SettingError(
            f"{dumps.keys} has the keys of another database than {dumps.log}: nothing was restored"
        )
    if (keys.erasures or 0) < (log.erasures or 0):
        raise SettingError(
            f"{dumps.keys} is older than {dumps.log}, and has keys that were destroyed before that was made: "
            "use the keys of the same backup, or newer ones"
        )
    return _Facts(log, keys)


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


def _finish(
    settings: Settings, dsn: str, configured: ConfiguredKeys, dumps: Dumps, facts: _Facts
) -> RestoredKeys:
    # The keys follow the migration: they may be of a later release than the log is.
    migrate(dsn)
    if dumps.keys is not None:
        restore_keys(dsn, dumps.keys)
    is_old = facts.log.erasures is None and facts.keys is None  # its keys follow from the service key
    restored = RestoredKeys(0, 0)
    if not is_old:
        restored = mark_unreadable(
            dsn,
            has_keys=facts.keys is not None or facts.log.has_keys,
            with_projections=facts.are_of_one_time,
        )
    check_service_key(settings, dsn, configured)
    asyncio.run(_mark_as_copy(dsn))
    return restored


async def _mark_as_copy(dsn: str) -> None:
    """Let nothing happen by itself, even if the dump is of a release that left no mark to recognise it by."""
    async with open_connection(dsn, "ledger_api", name="restore") as conn:
        if (await read_switch(conn)).is_active:
            await declare_copy(conn, get_shell_user(), "restored by `ledger restore`")
