"""A Postgres of the benchmarks' own, as `ledger serve` would start it, with databases made for one group.

Each group gets a migrated database for ours and an empty one for the stock library, on one server.
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
    """The running server. Databases live as long as it does."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self._postgres = postgres
        self.directory = directory
        self.password = _read_password(postgres.dsn())

    def create_ledger_database(self, name: str) -> str:
        """A new database with our schema; its connection string."""
        dsn = self.create_empty_database(name)
        migrate(dsn)
        return dsn

    def create_empty_database(self, name: str) -> str:
        """A new database without anything; its connection string."""
        with psycopg.connect(self._postgres.dsn("postgres"), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}"')
        return self._postgres.dsn(name)

    @contextmanager
    def slow_commits(self) -> Iterator[None]:
        """Each commit takes `COMMIT_MS` longer, as on a network disk: Postgres waits before it flushes."""
        self._set_commit_delay(COMMIT_MS * 1000)
        try:
            yield
        finally:
            self._set_commit_delay(0)

    def run_pgbench(self, dsn: str, script: str, *, clients: int, seconds: float) -> float:
        """Transactions a second of `script`, prepared, over `clients` connections, in whole seconds."""
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
            # With commit_siblings 0 the delay is also taken when nobody else is committing.
            conn.execute(f"ALTER SYSTEM SET commit_delay = {microseconds}")
            conn.execute("ALTER SYSTEM SET commit_siblings = 0")
            conn.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + RELOAD_TIMEOUT_SECONDS
            while conn.execute("SELECT current_setting('commit_delay')::int").fetchone() != (microseconds,):
                if time.monotonic() > deadline:
                    raise RuntimeError("Postgres did not take over commit_delay")
                time.sleep(0.01)


@contextmanager
def run_server(directory: Path) -> Iterator[Server]:
    """A server of its own in `directory`; it and its data are gone afterwards."""
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    try:
        yield Server(postgres, directory)
    finally:
        postgres.destroy()


def _read_password(dsn: str) -> str:
    """The stock library takes no password file."""
    passfile = conninfo_to_dict(dsn)["passfile"]
    return Path(str(passfile)).read_text().strip().rpartition(":")[2]
