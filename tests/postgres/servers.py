"""Helpers of the tests of the embedded server: a process that owns one, and questions to its database."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from ledger.postgres.connections import Pool, fetch_one
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.time_limits import RequestLimit

FAST = {"fsync": "off", "shared_buffers": "16MB"}
ROOT = os.geteuid() == 0

# Starts the server of argv[1], says so, and waits to be killed.
HOLDER = """
import sys, time
from pathlib import Path
from ledger.postgres.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
print(server.dsn(), flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def moved(data_dir: Path, target: Path) -> Iterator[Path]:
    data_dir.rename(target)
    yield target
    target.rename(data_dir)


def execute(server: EmbeddedPostgres, sql: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(sql)


def answer(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT answer FROM kept").fetchone()
        assert row is not None
        return int(row[0])


def host(dsn: str) -> Path:
    """The directory of the server's socket: its cluster, where that can have one."""
    return Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"]))


def start_holder(data_dir: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that owns `data_dir`, and its connection string."""
    holder = spawn_holder(data_dir)
    assert holder.stdout is not None
    return holder, holder.stdout.readline().strip()


def spawn_holder(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that begins to start the server of `data_dir`."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def postmaster_pid(cluster: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (cluster / "postmaster.pid").exists():
            return int((cluster / "postmaster.pid").read_text().split()[0])
        time.sleep(0.01)
    raise AssertionError("no postmaster")


async def ask_pool(pool: Pool, *, seconds: float) -> None:
    """Ask a question of the server, as a request that takes so many seconds at most."""
    async with RequestLimit(seconds):
        await pool.run_idempotent(lambda conn: fetch_one(conn, "SELECT 1"))
