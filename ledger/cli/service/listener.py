"""The sockets on which a command listens."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ledger.errors import SettingError

LISTEN_BACKLOG = 2048


@contextmanager
def open_listener(host: str, port: int, *, hint: str) -> Iterator[socket.socket]:
    """A listening socket that child processes may inherit, closed at the end; port 0 is any free one.

    hint  what sets address and port, for the error

    Raises SettingError when it cannot listen there.
    """
    with _listen(host, port, hint) as sock:
        yield sock


@contextmanager
def open_listeners(host: str, port: int, count: int, *, hint: str) -> Iterator[list[socket.socket]]:
    """As `open_listener`, `count` sockets on one port, among which Linux distributes new connections evenly.
    Of processes that share one socket, one may accept all of a burst: of 16 connections, 16 and 0 were seen.

    Elsewhere the same socket `count` times. Raises SettingError.
    """
    with ExitStack() as stack:
        if count == 1 or sys.platform != "linux":
            yield [stack.enter_context(_listen(host, port, hint))] * count
            return
        # Another service of this user that listens in the same way would share the port, unnoticed.
        with _listen(host, port, hint) as sock:
            port = sock.getsockname()[1]
        yield [stack.enter_context(_listen(host, port, hint, share_port=True)) for _ in range(count)]


def format_url(host: str, port: int) -> str:
    """The URL at which a program on this machine reaches what listens on `host`: the addresses that mean all
    of them are not among those that can be called."""
    reached_at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nothing is bound here
    return f"http://[{reached_at}]:{port}" if ":" in reached_at else f"http://{reached_at}:{port}"


def _listen(host: str, port: int, hint: str, *, share_port: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise SettingError(f"cannot listen on {host} port {port}: {error.strerror} ({hint})") from None
    sock.set_inheritable(True)
    return sock
