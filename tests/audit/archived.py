"""An archive of a whole log, made by the command, and the question of docs/audit/exports.md to it."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from ledger.postgres.connections import open_connection
from ledger.tree.keys import list_keys
from tests.api.service import SERVICE_KEY, Service
from tests.serving.process import run_ledger

SEAL_SECONDS = 60
DOCUMENT = Path(__file__).parents[2] / "docs/audit/exports.md"
_SEALED = "SELECT h.position, t.size FROM ledger.head h, ledger.tree_head t"


class Archive(NamedTuple):
    """The folder, the last position that it has, and the public key of the log."""

    folder: Path
    upto: int
    key: str


def make_archive(service: Service, place: Path, *, after: int = 0) -> Archive:
    """Archive everything after a position that was recorded until now."""
    upto = asyncio.run(_wait_until_sealed(service.dsn))
    folder = place / "archive-1"
    arguments = ("audit", "archive", str(folder), "--after", str(after), "--before", str(upto + 1))
    done = run_ledger(place / "data", *arguments, database_url=service.dsn, secret_key=SERVICE_KEY)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert f"{upto - after} record" in done.stderr
    return Archive(folder, upto, asyncio.run(_read_key(service.dsn)))


def read_statements() -> tuple[str, str, str]:
    """The question in the SQL of Postgres, of DuckDB and of Spark."""
    section = DOCUMENT.read_text().partition("### The same question")[2].partition("\n## ")[0]
    postgres, duckdb, spark = re.findall(r"```sql\n(.*?)```", section, flags=re.DOTALL)
    return postgres, duckdb, spark


def ask_database(service: Service, upto: int) -> list[tuple[Any, ...]]:
    """The answer of the database, as an analyst gets it, about the positions up to `upto`."""
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("SET ROLE ledger_analyst")
        rows = conn.execute(read_statements()[0].replace("1000000", str(upto)).encode()).fetchall()
    return sorted((*row[:-1], int(row[-1])) for row in rows)


async def _wait_until_sealed(dsn: str) -> int:
    deadline = time.monotonic() + SEAL_SECONDS
    async with open_connection(dsn, "ledger_api", name="tests") as conn:
        while True:
            row = await (await conn.execute(_SEALED)).fetchone()
            assert row is not None
            if row[0] <= row[1]:
                return int(row[0])
            assert time.monotonic() < deadline, row
            await asyncio.sleep(0.05)


async def _read_key(dsn: str) -> str:
    async with open_connection(dsn, "ledger_api", name="tests") as conn:
        (current,) = [each for each in await list_keys(conn) if each.retired_at is None]
        return str(current.verifier)
