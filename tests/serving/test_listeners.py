"""The sockets of several API processes: connections are distributed among them, and nobody else gets any."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from ledger.cli.service.development import format_stripe_cli_command
from ledger.cli.service.listener import format_url, open_listener, open_listeners
from ledger.errors import SettingError

CONNECTIONS = 64
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the processes share one socket")


def test_connections_are_distributed_among_the_sockets() -> None:
    with open_listeners("127.0.0.1", 0, 2, hint="") as socks, contextlib.ExitStack() as stack:
        address = socks[0].getsockname()
        assert socks[1].getsockname() == address
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(address))
        accepted = [count_accepted(sock) for sock in socks]
    assert sum(accepted) == CONNECTIONS
    assert min(accepted) >= CONNECTIONS / 5


def count_accepted(sock: socket.socket) -> int:
    sock.setblocking(False)
    accepted = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            accepted += 1
    return accepted


def test_two_services_do_not_share_a_port() -> None:
    with open_listeners("127.0.0.1", 0, 2, hint="LEDGER_PORT") as socks:
        port = socks[0].getsockname()[1]
        for count in (1, 2):
            with (
                pytest.raises(SettingError, match="LEDGER_PORT"),
                open_listeners("127.0.0.1", port, count, hint="LEDGER_PORT"),
            ):
                pass


def test_a_single_process_has_a_single_socket() -> None:
    with open_listeners("127.0.0.1", 0, 1, hint="") as socks:
        assert len(socks) == 1
        assert not socks[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")],
)
def test_the_announced_url_can_be_called(host: str, reached_at: str) -> None:
    with open_listener(host, 0, hint="") as sock:
        port = sock.getsockname()[1]
        assert format_url(host, port) == f"http://{reached_at}:{port}"
        socket.create_connection((reached_at.strip("[]"), port)).close()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://127.0.0.1:4242", "http://127.0.0.1:4242"),
        ("http://localhost:4242", "http://127.0.0.1:4242"),
        ("http://[::1]:4242", "http://[::1]:4242"),
        ("http://10.0.0.5:4242", None),
        ("http://ledger.test:4242", None),
    ],
)
def test_the_stripe_cli_is_shown_a_url_that_it_takes(url: str, named: str | None) -> None:
    command = format_stripe_cli_command(url, "sk_test_1")
    assert (command and command.split("--api-base ")[1].split()[0]) == named
