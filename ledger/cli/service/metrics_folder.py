"""The folder in which the processes of one service keep their metrics, so that each can render those of all.

It lies in the directory for temporary files. Every process that uses it holds its lock file, so a folder with
a free lock was left by killed processes. The next start of any service removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client import values

PREFIX = "ledger-metrics-"
LOCK_FILE = "lock"


class MetricsFolder(NamedTuple):
    """A folder, and the descriptor of its lock."""

    folder: Path
    lock_fd: int


@contextmanager
def open_metrics_folder() -> Iterator[MetricsFolder]:
    """A new folder, removed at the end of the `with` block. The processes that use it inherit its lock."""
    parent = Path(tempfile.gettempdir())
    # It gets its name when it is locked: another process that starts now does not take it for a leftover.
    new_folder = Path(tempfile.mkdtemp(prefix="ledger-new-metrics-", dir=parent))
    descriptor = os.open(new_folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = new_folder.rename(parent / new_folder.name.replace("ledger-new-metrics-", PREFIX))
        try:
            yield MetricsFolder(folder, descriptor)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def keep_metrics_in(folder: Path) -> None:
    """Keep the metrics that this process makes from now on in `folder`, beside those of other processes."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # The library chooses this when it is imported, which was before the fork.
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


def remove_leftover_folders() -> None:
    """Remove the folders of this user's killed services."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process removes it too
            if _is_leftover(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_leftover(folder: Path) -> bool:
    """Whether the folder is ours and no process uses it any more. Raises OSError."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if not (folder / LOCK_FILE).exists():  # made by a release that had no locks: its files name processes
        return not any(_process_exists(file) for file in folder.glob("*.db"))
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _process_exists(metrics_file: Path) -> bool:
    pid = re.search(r"_(\d+)\.db$", metrics_file.name)
    with contextlib.suppress(PermissionError):
        try:
            os.kill(int(pid[1]) if pid else 0, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
