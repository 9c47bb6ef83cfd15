"""Write files that are durable and never half-written; those that hold secrets, for their owner alone."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ledger.errors import SettingError


def write_private_file(path: Path, text: str) -> None:
    """Create or replace the file `path`, with mode 0600. Its text survives a power failure."""
    write_durable_file(path, text, mode=0o600)


def write_durable_file(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Create or replace the file `path`. Its text survives a power failure."""
    new_file = path.with_name(f"{path.name}.new")
    new_file.unlink(missing_ok=True)
    with open(os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new_file.replace(path)
    fsync_directory(path.parent)


def fsync_directory(directory: Path) -> None:
    """Make the directory's entries durable: files created in it, renamed or removed."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_new_file(path: Path, *, overwrite: bool) -> Iterator[tuple[BinaryIO, Path]]:
    """A file with mode 0600 that is called `path` when the block ends without an error, and is removed
    otherwise; its path until then. Raises SettingError, also for a name that is taken, unless `overwrite`."""
    _check_free(path, overwrite=overwrite)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            yield file, Path(name)
            file.flush()
            os.fsync(file.fileno())
        _check_free(path, overwrite=overwrite)
        os.replace(name, path)
        fsync_directory(path.parent)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _check_free(path: Path, *, overwrite: bool) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise SettingError(f"{path} is a directory")
    if not stat.S_ISREG(mode):  # replaced, /dev/null would be an ordinary file from then on
        raise SettingError(f"{path} is not an ordinary file")
    if not overwrite:
        raise SettingError(f"{path} exists: choose another name, or --force")
