"""The socket on which a command listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import SettingError

LISTEN_BACKLOG = 2048


@contextmanager
def open_listener(host: str, port: int, *, hint: str) -> Iterator[socket.socket]:
    """A listening socket that child processes may inherit, closed at the end; port 0 is any free one.

    hint  what sets address and port, for the error

    Raises SettingError when it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(LISTEN_BACKLOG)
        except OSError as error:
            raise SettingError(f"cannot listen on {host} port {port}: {error.strerror} ({hint})") from None
        sock.set_inheritable(True)
        yield sock
