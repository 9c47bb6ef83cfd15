"""`ledger backup FILE`: dumps the database while the service runs, or not, into two files."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ledger.config import Settings
from ledger.errors import SettingError
from ledger.postgres.deployment import get_key_file, get_owner_dsn, open_database
from ledger.postgres.programs.dump import Dump, write_dump

KEYS_SUFFIX = ".keys"


def name_keys_file(file: Path) -> Path:
    """The file of the keys of personal data, unless another one is named."""
    return file.with_name(file.name + KEYS_SUFFIX)


def back_up(settings: Settings, file: Path, keys: Path, *, log_only: bool, overwrite: bool) -> Dump:
    """Dump the configured database into `file`, and the keys of personal data into `keys`, with progress on a
    terminal. Raises SettingError; then there is no file."""
    if file.absolute() == keys.absolute():
        raise SettingError("--keys: the keys need a file of their own")
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with open_database(settings) as (dsn, _), progress:
        task = progress.add_task("dumping")
        return write_dump(
            get_owner_dsn(settings, dsn),
            file,
            keys,
            log_only=log_only,
            overwrite=overwrite,
            show_bytes=lambda size: progress.update(task, description=f"dumping: {size:,} bytes"),
        )


def describe_key(settings: Settings) -> str:
    """Where the service key is, which no backup holds."""
    if settings.secret_key is not None:
        return "LEDGER_SECRET_KEY"
    return str(get_key_file(settings).absolute())
