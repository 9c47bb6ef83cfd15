"""A proxy in a process of its own, in front of a server's Unix socket: a test ends it or stops it, as a
machine ends or hangs. Run as a program it is the proxy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

START_SECONDS = 60.0


class TcpProxy:
    """The proxy on a port of its own, which it keeps when it is started again."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, str(self.port), self._socket_path])
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        """End it and all its connections."""
        self._process.kill()
        self._process.wait()

    def silence(self) -> None:
        """Let the connections that there are pass nothing more, and stay open; new ones work. So is an
        address that another server has taken over while the old one hangs."""
        os.kill(self._process.pid, signal.SIGUSR1)


@contextlib.contextmanager
def open_tcp_proxy(socket_path: str) -> Iterator[TcpProxy]:
    proxy = TcpProxy(socket_path)
    try:
        yield proxy
    finally:
        proxy.kill()


_generation = 0


def _begin_generation(*_: object) -> None:
    global _generation
    _generation += 1


def _serve(port: int, socket_path: str) -> None:
    signal.signal(signal.SIGUSR1, _begin_generation)
    with socket.create_server(("127.0.0.1", port), backlog=256) as server:
        while True:
            client, _ = server.accept()
            target = socket.socket(socket.AF_UNIX)
            target.connect(socket_path)
            for source, sink in ((client, target), (target, client)):
                threading.Thread(target=_pass_on, args=(source, sink, _generation), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, generation: int) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if generation != _generation:
                threading.Event().wait()
            sink.sendall(data)
    for sock in (source, sink):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
