"""`ledger backup FILE`: dumps the database while the service runs, or not."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ledger.config import Settings
from ledger.postgres.deployment import get_key_file, get_owner_dsn, open_database
from ledger.postgres.programs.dump import Dump, write_dump


def back_up(settings: Settings, file: Path, *, log_only: bool, overwrite: bool) -> Dump:
    """Dump the configured database into `file`, with progress on a terminal. Raises SettingError; then there
    is no file."""
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with open_database(settings) as (dsn, _), progress:
        task = progress.add_task("dumping")
        return write_dump(
            get_owner_dsn(settings, dsn),
            file,
            log_only=log_only,
            overwrite=overwrite,
            show_bytes=lambda size: progress.update(task, description=f"dumping: {size:,} bytes"),
        )


def describe_key(settings: Settings) -> str:
    """Where the service key is, which no backup holds."""
    if settings.secret_key is not None:
        return "LEDGER_SECRET_KEY"
    return str(get_key_file(settings).absolute())
