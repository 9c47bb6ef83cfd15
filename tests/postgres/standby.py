"""A primary and a synchronous standby that streams from it: two real servers of the embedded wheel.

What a transaction commits here is acknowledged once the standby has it, so a test can take the standby away,
look at what is acknowledged all the same, and make the standby the primary. Each server is ended by the
process ids of its own postmaster and that one's children.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from ledger.postgres.binaries import ServerBinaries, choose_server_user, find_binaries
from ledger.postgres.cluster import SUPERUSER
from ledger.postgres.migrations import migrate

HOST = "127.0.0.1"
STANDBY_NAME = "standby"
SETTINGS = {
    # Without fsync, what a server wrote survives its own crash all the same: the kernel has it.
    "fsync": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "wal_sender_timeout": "0",
    "wal_receiver_timeout": "0",
    "wal_retrieve_retry_interval": "100ms",
    "timezone": "UTC",
}
WAIT_SECONDS = 60.0


class Server:
    """One server with its data in `directory`, on a port of its own of loopback, which trusts who connects.

    `settings` take precedence over those of the data directory.
    """

    def __init__(self, directory: Path, binaries: ServerBinaries, settings: Mapping[str, str]) -> None:
        self.directory = directory
        self.port = _find_free_port()
        self._binaries = binaries
        address = {"listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": ""}
        self._settings = {**SETTINGS, **settings, **address}
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = "ledger", *, user: str = SUPERUSER) -> str:
        """A libpq connection string."""
        return make_conninfo(host=HOST, port=str(self.port), dbname=database, user=user)

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def start(self) -> None:
        """Return once it accepts connections: as a standby, once it may be read."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries.bin_dir / "postgres"), "-D", str(self.directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._binaries.user.get_process_options(),
            )
        wait_until(self._accepts_connections)

    def stop(self) -> None:
        """A fast shutdown: sessions end, and a primary first sends everything to its standby."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End at once, as in a crash; `start` recovers."""
        self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Stop all its processes where they are: its sockets stay open, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        self._signal_all(signal.SIGCONT)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the superuser; waits for no standby."""
        with psycopg.connect(self.dsn(database), autocommit=True) as conn:
            conn.execute("SET synchronous_commit = local")
            conn.execute(statement.encode())

    def fetch_value(self, query: str, database: str = "postgres") -> object:
        """The first value of a query's first row; None without rows."""
        with psycopg.connect(self.dsn(database), autocommit=True) as conn:
            row = conn.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def read_wal_position(self) -> str:
        """Where the next record of the primary's WAL begins."""
        return str(self.fetch_value("SELECT pg_current_wal_insert_lsn()::text"))

    @property
    def _log_file(self) -> Path:
        return self.directory.with_suffix(".log")

    def _accepts_connections(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            return True
        return False

    def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        children = _list_children(process.pid)
        _send([process.pid, *children], signal.SIGCONT)
        process.send_signal(signal_number)
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            _send([process.pid, *children], signal.SIGKILL)
            process.wait()

    def _signal_all(self, signal_number: signal.Signals) -> None:
        assert self._process is not None
        _send([self._process.pid], signal_number)  # first: it starts no more of them
        _send(_list_children(self._process.pid), signal_number)


class ReplicatedServers:
    """A primary and its standby, both running; commits on the primary wait for the standby."""

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary = primary
        self.standby = standby

    def stop_standby(self) -> None:
        """Take the standby away: from now on no commit on the primary is acknowledged."""
        self.standby.stop()
        wait_until(lambda: not self.is_replicated())

    def start_standby(self) -> None:
        """Bring the standby back, and wait until it follows."""
        self.standby.start()
        wait_until(self.is_replicated)

    def pause_standby(self) -> None:
        """Let the standby receive nothing, while its connection to the primary stays open."""
        self.standby.pause()

    def resume_standby(self) -> None:
        """Let the standby receive again."""
        self.standby.resume()

    def fail_over(self) -> None:
        """End the primary as a crash would, and make the standby a primary that waits for nobody."""
        self.primary.crash()
        self.promote_standby()

    def promote_standby(self) -> None:
        """Make the standby a primary that waits for nobody."""
        assert self.standby.fetch_value("SELECT pg_promote()")

    def is_replicated(self) -> bool:
        """Whether the primary has its synchronous standby."""
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"
        return self.primary.fetch_value(query) == 1

    def set_synchronous(self, names: str = STANDBY_NAME) -> None:
        """Let commits wait for the standbys of these names; '' for none."""
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.primary.fetch_value("SHOW synchronous_standby_names") == names)

    def wait_caught_up(self) -> None:
        """Wait until readers of the standby see what is committed on the primary now."""
        position = self.primary.fetch_value("SELECT pg_current_wal_flush_lsn()::text")
        wait_until(lambda: self.standby.fetch_value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))


@contextlib.contextmanager
def run_replicated(
    *, settings: Mapping[str, str] = {}, standby_settings: Mapping[str, str] = {}
) -> Iterator[ReplicatedServers]:
    """A primary with a migrated database `ledger`, and its standby. `settings` are of both servers,
    `standby_settings` of the standby alone."""
    place = Path(tempfile.mkdtemp(prefix="standby-", dir=_find_place())).resolve()
    place.chmod(0o711)
    user = choose_server_user(place / "primary")
    binaries = find_binaries(user, place)
    primary = Server(place / "primary", binaries, settings)
    standby = Server(place / STANDBY_NAME, binaries, {**settings, **standby_settings})
    try:
        _create(primary, binaries)
        primary.start()
        primary.execute("CREATE DATABASE ledger")
        migrate(primary.dsn())
        _copy(primary, standby, binaries)
        standby.start()
        servers = ReplicatedServers(primary, standby)
        servers.set_synchronous()
        wait_until(servers.is_replicated)
        yield servers
    finally:
        standby.crash()
        primary.crash()
        shutil.rmtree(place, ignore_errors=True)


def wait_until(condition: Callable[[], object], *, seconds: float = WAIT_SECONDS) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.01)


def _create(server: Server, binaries: ServerBinaries) -> None:
    server.directory.mkdir(mode=0o700)
    binaries.user.chown(server.directory)
    completed = binaries.run(
        "initdb", "-D", str(server.directory), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--no-sync",
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr


def _copy(primary: Server, standby: Server, binaries: ServerBinaries) -> None:
    """The files of a standby, as `pg_basebackup` copies them."""
    standby.directory.mkdir(mode=0o700)
    binaries.user.chown(standby.directory)
    completed = binaries.run(
        "pg_basebackup", "-D", str(standby.directory), "-d", primary.dsn("postgres"), "--checkpoint=fast",
        "--wal-method=stream", "--no-sync",
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    conninfo = make_conninfo(host=HOST, port=str(primary.port), user=SUPERUSER, application_name=STANDBY_NAME)
    with (standby.directory / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = '{conninfo}'\n")
    signal_file = standby.directory / "standby.signal"
    signal_file.touch()
    binaries.user.chown(signal_file)


def _find_place() -> str | None:
    """A file system in memory, if there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _list_children(pid: int) -> list[int]:
    completed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(child) for child in completed.stdout.split()]


def _send(pids: list[int], signal_number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
