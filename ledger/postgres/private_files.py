"""Write files that are durable and never half-written; those that hold secrets, for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path


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
