"""A real pgbouncer in front of a test's server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
START_SECONDS = 60.0


@contextmanager
def open_pgbouncer(dsn: str, directory: Path, **settings: object) -> Iterator[str]:
    """A connection string to the database of `dsn` through a pgbouncer with these settings, whose files are
    in `directory`: a new one, which every user may pass through."""
    assert PGBOUNCER is not None
    directory.mkdir()
    directory.chmod(0o755)
    server = conninfo_to_dict(dsn)
    user, password = str(server["user"]), read_password(dsn)
    (directory / "users.txt").write_text(f'"{user}" "{password}"\n')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    lines = [
        "[databases]",
        f"* = host={server['host']} port={server.get('port', 5432)} password={password}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = trust",
        f"auth_file = {directory / 'users.txt'}",
        *(f"{name} = {setting}" for name, setting in settings.items()),
    ]
    (directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    owner = find_owner(str(server["host"]))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [PGBOUNCER, directory / "pgbouncer.ini"], stdout=log, stderr=log, user=owner, group=owner
        )
    try:
        wait_for_port(port, process, directory / "log")
        yield make_conninfo(host="127.0.0.1", port=port, dbname=server["dbname"], user=user)
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        shutil.rmtree(directory)


def read_password(dsn: str) -> str:
    """The password of the connection string, or of the file that it names."""
    parameters = conninfo_to_dict(dsn)
    if "passfile" not in parameters:
        return str(parameters.get("password", ""))
    lines = (line.split(":") for line in Path(str(parameters["passfile"])).read_text().splitlines())
    return next(line[4] for line in lines if line[3] == parameters["user"])


def find_owner(host: str) -> int | None:
    """Who may use the server's socket, if this is root: pgbouncer does not run as root."""
    if os.geteuid() != 0:
        return None
    return Path(host).stat().st_uid if host.startswith("/") else 65534


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
