"""The directory of an embedded server's socket: usually the cluster's own, sometimes a short one in /tmp.

A directory in /tmp carries a hash of the cluster's path in its name, so a later start finds it without any
other record of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ledger.postgres.binaries import ServerUser

_SOCKET_NAME = ".s.PGSQL.5432"
_FILE_NAMES = (_SOCKET_NAME, f"{_SOCKET_NAME}.lock")
_PATH_BYTES_MAX = 103  # sun_path without its NUL on macOS; Linux has four more
_PARENT_DIR = Path("/tmp")  # not TMPDIR, which may be long, or root's own  # noqa: S108


def choose_socket_dir(cluster_dir: Path, user: ServerUser) -> Path:
    """The cluster's directory; a new one of `user` in /tmp if the cluster's path is too long for a socket, or
    has a comma or quote, which would split the setting."""
    path = os.fsencode(cluster_dir / _SOCKET_NAME)
    if len(path) <= _PATH_BYTES_MAX and not set(path) & set(b',"'):
        return cluster_dir
    socket_dir = Path(tempfile.mkdtemp(prefix=_get_prefix(cluster_dir), dir=_PARENT_DIR))
    user.chown(socket_dir)
    return socket_dir


def remove_sockets(cluster_dir: Path, recorded_dirs: Iterable[Path] = ()) -> None:
    """Remove the socket and the socket's lock file of a cluster without a running server, and the directories
    made for them in /tmp. `recorded_dirs` are directories that a file says were used: that file may be a copy
    of another cluster's, whose server runs."""
    for name in _FILE_NAMES:
        (cluster_dir / name).unlink(missing_ok=True)
    made_dirs = {*_PARENT_DIR.glob(f"{_get_prefix(cluster_dir)}*"), *recorded_dirs}
    for directory in made_dirs:
        is_made = directory.parent == _PARENT_DIR and directory.name.startswith("ledger-")
        if not is_made or directory.is_symlink() or accepts_connections(directory):
            continue
        with contextlib.suppress(OSError):  # another user's, or with files that are not ours
            for name in _FILE_NAMES:
                (directory / name).unlink(missing_ok=True)
            directory.rmdir()


def accepts_connections(directory: Path) -> bool:
    """Whether a server listens on the socket in `directory`."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(directory / _SOCKET_NAME))
        return True
    return False


def _get_prefix(cluster_dir: Path) -> str:
    return f"ledger-{hashlib.sha256(os.fsencode(cluster_dir)).hexdigest()[:16]}-"
