"""The Postgres server that one group of benchmarks uses, started as `ledger serve` would start it.

A group creates a migrated database for our side and an empty one for the stock library, on one server.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate

COMMIT_MS = 1
RELOAD_TIMEOUT_SECONDS = 5.0

_TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


class Server:
    """A running server. Its databases are deleted with it."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self._postgres = postgres
        self.directory = directory
        self.password = _read_password(postgres.dsn())

    def create_ledger_database(self, name: str) -> str:
        """Create a database with our schema. Returns its connection string."""
        dsn = self.create_empty_database(name)
        migrate(dsn)
        return dsn

    def create_empty_database(self, name: str) -> str:
        """Create an empty database. Returns its connection string."""
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}"')
        return self._postgres.dsn(name)

    @contextmanager
    def slow_commits(self) -> Iterator[None]:
        """While this is open each commit takes `COMMIT_MS` longer, as on a network disk: Postgres waits
        before it flushes."""
        self._set_commit_delay(COMMIT_MS * 1000)
        try:
            yield
        finally:
            self._set_commit_delay(0)

    def run_pgbench(self, dsn: str, script: str, *, clients: int, seconds: float) -> float:
        """Transactions per second of `script`, prepared, over `clients` connections. pgbench measures whole
        seconds: `seconds` is rounded, to 1 at least. Raises RuntimeError when pgbench fails."""
        file = self.directory / "pgbench.sql"
        file.write_text(script)
        command = [
            str(self._postgres.bin_dir / "pgbench"), "--no-vacuum", f"--file={file}", "--protocol=prepared",
            f"--client={clients}", f"--jobs={min(clients, 2)}", f"--time={max(1, round(seconds))}", dsn,
        ]  # fmt: skip
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + seconds)
        match = _TPS.search(process.stdout)
        if process.returncode != 0 or match is None:
            raise RuntimeError(f"pgbench failed: {process.stderr.strip()}")
        return float(match[1])

    def _set_commit_delay(self, microseconds: int) -> None:
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as conn:
            # With commit_siblings = 0 the delay also applies when no other transaction is committing.
            conn.execute(f"ALTER SYSTEM SET commit_delay = {microseconds}")
            conn.execute("ALTER SYSTEM SET commit_siblings = 0")
            conn.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + RELOAD_TIMEOUT_SECONDS
            while conn.execute("SELECT current_setting('commit_delay')::int").fetchone() != (microseconds,):
                if time.monotonic() > deadline:
                    raise RuntimeError("Postgres did not apply commit_delay")
                time.sleep(0.01)


@contextmanager
def run_server(directory: Path) -> Iterator[Server]:
    """Start a server in `directory`. Afterwards stop it and delete its data."""
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    try:
        yield Server(postgres, directory)
    finally:
        postgres.destroy()


def _read_password(dsn: str) -> str:
    """The password from the server's password file: the stock library does not read such files."""
    passfile = conninfo_to_dict(dsn)["passfile"]
    return Path(str(passfile)).read_text().strip().rpartition(":")[2]
