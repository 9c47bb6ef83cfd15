"""The Unix socket on which the API listens beside its port, if LEDGER_UNIX_SOCKET names one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.cli.service.listener import LISTEN_BACKLOG
from ledger.errors import SettingError

PERMISSIONS = 0o660
"""The user and the group of the service may connect; what they ask for needs a key all the same."""
VARIABLE = "LEDGER_UNIX_SOCKET"

_NOBODY_LISTENS = (errno.ECONNREFUSED, errno.ENOENT)


class UnixListener:
    """A listening socket in the file system, which all API processes of the service share."""

    def __init__(self, path: Path, sock: socket.socket) -> None:
        self.path = path
        self.sock = sock
        self._file = _identify(path)

    def close(self) -> None:
        """Stop listening in this process, and remove the file: whoever connects from now on is refused. It
        stays if another service has put its own in its place. May be called again."""
        self.sock.close()
        if self._file is not None and _identify(self.path) == self._file:
            self.path.unlink(missing_ok=True)
        self._file = None


@contextmanager
def open_unix_listener(path: Path) -> Iterator[UnixListener]:
    """A listening socket at `path`, closed and removed at the end. It takes the place of one that a killed
    service has left.

    Raises SettingError when it cannot listen there, and when another process does.
    """
    path = path.absolute()
    try:
        listener = _listen(path)
    except OSError as error:
        # An error without a number is Python's own: the system's limit is that of a path in bytes.
        reason = error.strerror or "a path has at most 107 bytes, on macOS 103"
        raise SettingError(f"{VARIABLE}: cannot listen on {path}: {reason}") from None
    try:
        yield listener
    finally:
        listener.close()


def _listen(path: Path) -> UnixListener:
    """Raises OSError and SettingError."""
    # Two services that start at once must not each remove the other's socket as a leftover.
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder_fd, fcntl.LOCK_EX)
        _remove_leftover(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            path.chmod(PERMISSIONS)  # before anybody can connect
            sock.listen(LISTEN_BACKLOG)
        except BaseException:
            sock.close()
            raise
    finally:
        os.close(folder_fd)
    return UnixListener(path, sock)


def _remove_leftover(path: Path) -> None:
    """Remove a socket on which nobody listens. Raises OSError, and SettingError for any other file."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise SettingError(f"{VARIABLE}: {path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)  # a process with a full backlog listens too
        error_number = sock.connect_ex(str(path))
    if error_number in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise SettingError(f"{VARIABLE}: another process listens on {path}")
    if error_number not in _NOBODY_LISTENS:
        raise OSError(error_number, os.strerror(error_number))
    path.unlink(missing_ok=True)


def _identify(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that has taken its path; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
