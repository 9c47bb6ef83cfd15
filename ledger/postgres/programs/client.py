"""Finds PostgreSQL's client programs for a server, and tells them how to connect.

A password is never an argument: any user of the machine can read the arguments of a process. The wheel's
programs come with the service, but cannot encrypt connections, and its psql cannot edit lines; those of the
machine are often older than the server, and pg_dump refuses a server that is newer than itself.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import SettingError
from ledger.postgres.binaries import copy_environment, find_wheel_bin_dir
from ledger.postgres.connections import first_line
from ledger.postgres.sessions import CONNECT_TIMEOUT_SECONDS

_DEBIAN = Path("/usr/lib/postgresql")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


class Server(NamedTuple):
    """What of a server decides which programs can be used: its major version, and whether the connection to
    it is encrypted."""

    major: int
    is_encrypted: bool


def connect(dsn: str) -> psycopg.Connection:
    """A connection of the database's owner. Raises SettingError for a database that cannot be reached."""
    try:
        return psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="ledger cli")
    except psycopg.ProgrammingError:
        raise SettingError("LEDGER_DATABASE_URL: not a Postgres connection string") from None
    except psycopg.OperationalError as error:
        raise SettingError(
            f"LEDGER_DATABASE_URL: the database cannot be reached: {first_line(error)}"
        ) from None


def describe_server(conn: psycopg.Connection) -> Server:
    """The server of a connection."""
    return Server(conn.info.server_version // 10_000, bool(conn.pgconn.ssl_in_use))


def find_program(name: str, server: Server, *, older: bool = False) -> Path:
    """The program `name`, of the server's version or a later one: the machine's, or the wheel's. `older`: an
    older one if there is no other. Raises SettingError, which says what to install."""
    found: list[tuple[int, Path]] = []
    for path in _list_candidates(name, with_wheel=not server.is_encrypted):
        major = _read_major_version(path)
        if major is not None and major >= server.major:
            return path
        if major is not None:
            found.append((major, path))
    if older and found:
        return max(found)[1]
    reason = ", ".join(f"{path} is of PostgreSQL {major}" for major, path in found)
    if server.is_encrypted:
        reason += f"{'; ' if reason else ''}the embedded one cannot encrypt the connection"
    raise SettingError(
        f"no {name} for PostgreSQL {server.major} is installed here{f' ({reason})' if reason else ''}: "
        f"install it (Debian: postgresql-client-{server.major}), or use it elsewhere (docs/operations.md)"
    )


def find_newest_program(name: str) -> Path:
    """The newest program `name`, for one that does not connect. Raises SettingError if there is none."""
    versions = [(_read_major_version(path) or 0, path) for path in _list_candidates(name, with_wheel=True)]
    if not versions:
        raise SettingError(f"no {name} is installed here: install it (Debian: postgresql-client)")
    return max(versions)[1]


def _list_candidates(name: str, *, with_wheel: bool) -> Iterator[Path]:
    in_path = shutil.which(name)
    if in_path is not None:
        yield Path(in_path)
    yield from sorted(_DEBIAN.glob(f"*/bin/{name}"), reverse=True)
    if with_wheel:
        with suppress(SettingError):
            yield find_wheel_bin_dir() / name


def _read_major_version(program: Path) -> int | None:
    """The version of a program; None if it does not run."""
    try:
        completed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = _VERSION.search(completed.stdout)
    return int(match[1]) if match else None


class Connection(NamedTuple):
    """How a program connects: by its environment, and by arguments for what no variable exists for."""

    environment: dict[str, str]
    arguments: list[str]


def add_options(dsn: str, options: Mapping[str, str]) -> str:
    """The connection string of sessions with these parameters, by name."""
    given = str(conninfo_to_dict(dsn).get("options") or "")
    texts = [f"-c {name}={_escape_option(value)}" for name, value in options.items()]
    return make_conninfo(dsn, options=" ".join([given, *texts]).strip())


def describe_connection(dsn: str) -> Connection:
    """How a program connects as `dsn` does. Raises SettingError for a secret that could only be an
    argument."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    parameters.setdefault("client_encoding", "UTF8")
    environment, others = copy_environment(), {}
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if name not in parameters:
            continue
        if option.envvar is not None:
            environment[option.envvar.decode()] = parameters[name]
        elif option.dispchar:
            raise SettingError(
                f"LEDGER_DATABASE_URL: {name} cannot be handed to PostgreSQL's programs without showing it "
                "to other users of this machine: use a connection string without it"
            )
        else:
            others[name] = parameters[name]
    return Connection(environment, ["--dbname", make_conninfo("", **others)] if others else [])


def _escape_option(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)
