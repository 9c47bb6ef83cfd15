"""A real nats-server of a test: on a loopback port, with a store of its own, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 60.0
PROGRAMS = ("/usr/sbin/nats-server", "nats-server")
MISSING = "nats-server is not installed (Debian: apt install nats-server)"


def find_program() -> str | None:
    """Debian's program, or another one on the PATH."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def require_program() -> str:
    program = find_program()
    if program is None:
        pytest.skip(MISSING)
    return program


class NatsServer:
    """A server that keeps its port and its store when it is started again."""

    def __init__(self, program: str, directory: Path, *, options: str = "") -> None:
        self._program = program
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        (directory / "server.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{directory}" }}\n{options}\n'
        )
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._directory / "server.conf"), "-l", str(self._directory / "log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            sock.settimeout(1)
            with contextlib.suppress(OSError):
                return re.match(rb"INFO .*\"jetstream\":\s*true", sock.recv(4096)) is not None
        return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def run_nats_server(program: str, *, options: str = "") -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory(prefix="nats-") as directory:
        server = NatsServer(program, Path(directory), options=options)
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def run_nats_cluster(program: str, size: int = 3) -> Iterator[list[NatsServer]]:
    """Servers that keep copies of the same streams."""
    with tempfile.TemporaryDirectory(prefix="nats-") as directory, contextlib.ExitStack() as stack:
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(size)]
        ports = [probe.getsockname()[1] for probe in probes]
        for probe in probes:
            probe.close()
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
        servers = []
        for number, port in enumerate(ports):
            place = Path(directory) / str(number)
            place.mkdir()
            options = (
                f"server_name: n{number}\n"
                f'cluster {{ name: cluster, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            )
            server = NatsServer(program, place, options=options)
            stack.callback(server.kill)
            servers.append(server)
        yield servers
