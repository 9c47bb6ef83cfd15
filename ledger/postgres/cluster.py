"""The files of an embedded database: where its cluster (PostgreSQL's word) lies, and how one is created.

A cluster lies in the data directory. When we are root and the server's user cannot reach that, it lies
elsewhere, and `postgres.json` in the data directory names the place. The passwords of the superuser and of
other logins are in `postgres.pass`, readable by the owner of the data directory alone.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ledger.errors import SettingError
from ledger.postgres.binaries import ServerBinaries
from ledger.postgres.leftovers import end_processes
from ledger.postgres.private_files import fsync_directory, write_private_file

SUPERUSER = "postgres"


class Cluster:
    """The cluster of one data directory. `directory` may lie outside it after `locate` or `place_in`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._location_file = data_dir / "postgres.json"
        self._passfile = data_dir / "postgres.pass"
        self.directory = data_dir / "postgres"

    @property
    def exists(self) -> bool:
        """Whether the cluster was created: a half-made one never has this name."""
        return (self.directory / "PG_VERSION").exists()

    @property
    def is_outside_data_dir(self) -> bool:
        """Whether `directory` has a parent directory of its own elsewhere."""
        return self.directory.parent != self._data_dir

    def dsn(self, database: str, socket_dir: Path, user: str) -> str:
        """A libpq connection string. It names the file that holds the password, not the password."""
        location = {"host": str(socket_dir), "port": "5432", "passfile": str(self._passfile)}
        return make_conninfo(user=user, dbname=database, **location)

    def load_passwords(self, users: Sequence[str]) -> dict[str, bytes]:
        """The passwords of `users` in the password file; a user without one gets one."""
        text = self._passfile.read_text()
        passwords = {
            line.split(":")[3]: line.split(":")[4] for line in text.splitlines() if line.count(":") == 4
        }
        new_passwords = {user: secrets.token_hex(24) for user in users if user not in passwords}
        if new_passwords:
            new_lines = [_format_password(user, password) for user, password in new_passwords.items()]
            write_private_file(self._passfile, "".join([f"{text.rstrip()}\n", *new_lines]))
        return {user: (passwords | new_passwords)[user].encode() for user in users}

    def locate(self) -> None:
        """Find an existing cluster. Raises SettingError when its recorded place is damaged or missing."""
        self.directory = self._data_dir / "postgres"
        if not self._location_file.exists():
            return
        try:
            self.directory = Path(json.loads(self._location_file.read_text())["cluster"])
        except (ValueError, KeyError, TypeError):
            raise SettingError(
                f"{self._location_file} is damaged: it must hold the path of the database directory as JSON"
            ) from None
        if not self.exists:
            raise SettingError(
                f"the database in {self.directory}, named by {self._location_file}, is missing"
            )

    def place_in(self, parent: Path) -> None:
        """Put a cluster that is still to be created in `parent`, outside the data directory."""
        self.directory = parent / "postgres"

    def adopt(self) -> bool:
        """Keep a complete cluster whose passwords are in the data directory, and record its place: a service
        was killed before it did. False when there is none; what is there then belongs to no data directory.
        """
        if not (self.exists and self._passfile.exists()):
            return False
        self._record_location()
        return True

    def create(self, binaries: ServerBinaries, settings: Sequence[str], *, sync: bool) -> None:
        """Create the cluster with an empty database `ledger`. `settings` are server options (`-c`, `a=b`).

        It is built under another name and renamed when complete, so a half-made one is never started.
        Without `sync` a power failure may damage it. Raises SettingError with PostgreSQL's reason.
        """
        temporary_dir = self.directory.with_name("postgres.new")
        end_processes(temporary_dir)  # an initdb survives the service that started it
        shutil.rmtree(temporary_dir, ignore_errors=True)
        temporary_dir.mkdir(mode=0o700)
        binaries.user.chown(temporary_dir)
        password = secrets.token_hex(24)
        self._run_initdb(binaries, temporary_dir, password, sync=sync)
        single_user = ["--single", "-D", str(temporary_dir), "-c", "exit_on_error=true", *settings]
        created = binaries.run("postgres", *single_user, "postgres", stdin="CREATE DATABASE ledger;\n")
        self._check_completed(created.returncode, created.stderr)
        write_private_file(self._passfile, _format_password(SUPERUSER, password))
        temporary_dir.rename(self.directory)
        fsync_directory(self.directory.parent)
        if self.is_outside_data_dir:
            self._record_location()

    def check(self, major: str | None) -> None:
        """Check that a server of version `major` can run this cluster. Raises SettingError."""
        cluster_major = (self.directory / "PG_VERSION").read_text().strip()
        if cluster_major != major:
            raise SettingError(
                f"the database in {self.directory} was created by PostgreSQL {cluster_major}; the installed "
                f"version is {major}"
            )
        if not self._passfile.exists():
            raise SettingError(f"{self._passfile} is missing; the database's password was stored there")

    def delete(self) -> None:
        """Delete the cluster and the record of its place."""
        shutil.rmtree(
            self.directory.parent if self.is_outside_data_dir else self.directory, ignore_errors=True
        )
        self._location_file.unlink(missing_ok=True)

    def _record_location(self) -> None:
        write_private_file(self._location_file, json.dumps({"cluster": str(self.directory)}) + "\n")

    def _run_initdb(self, binaries: ServerBinaries, directory: Path, password: str, *, sync: bool) -> None:
        password_file = self.directory.with_name("postgres.password.new")
        write_private_file(password_file, password)
        binaries.user.chown(password_file)
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--data-checksums", "--encoding=UTF8"]
        # PostgreSQL's own order and case rules: an upgrade of libc cannot corrupt an index.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not sync:
            options.append("--no-sync")
        # Its working directory is how a later start finds it if we are killed.
        completed = binaries.run("initdb", "-D", str(directory), "-U", SUPERUSER, *options, cwd=directory)
        password_file.unlink()
        self._check_completed(completed.returncode, completed.stderr)

    def _check_completed(self, returncode: int, output: str) -> None:
        if returncode != 0:
            raise SettingError(f"the database in {self.directory} cannot be created: {find_reason(output)}")


def _format_password(user: str, password: str) -> str:
    """A line of a libpq password file, for every host, port and database."""
    return f"*:*:*:{user}:{password}\n"


def find_reason(output: str) -> str:
    """The one line of a PostgreSQL program's output that names the reason why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    error_lines = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    return (error_lines or lines or ["no output"])[-1]
