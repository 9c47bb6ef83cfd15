"""A schema is brought to a release, or has moved on and still serves it, or the release is told to go."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ledger.errors import SettingError
from ledger.postgres import connections
from ledger.postgres.connections import Conn, check_schema, connect, migrate, open_pool, release_version

NEXT = '''"""Changes what everybody uses."""

from alembic import op

revision = "9000"
down_revision = "{previous}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '50ms'")
    op.execute("ALTER TABLE ledger.head ADD COLUMN another text")
'''


def at(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT version_num FROM ledger.alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def moved_on(dsn: str, *, oldest: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
        conn.execute("UPDATE ledger.served SET oldest = %s", (oldest,))


def test_a_later_schema_that_has_taken_nothing_away_is_served_and_left_alone(dsn: str) -> None:
    moved_on(dsn, oldest=release_version())
    check_schema(dsn)
    migrate(dsn)
    assert at(dsn) == "9999"


def test_a_release_that_is_not_served_any_more_is_told_so(dsn: str) -> None:
    moved_on(dsn, oldest="9998")
    for use in (check_schema, migrate):
        with pytest.raises(SettingError, match=rf"9998 on; this one is of {release_version()}: run a newer"):
            use(dsn)


def test_a_migration_that_others_are_in_the_way_of_changes_nothing_and_says_so(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous, migrations = release_version(), tmp_path / "alembic"
    shutil.copytree(connections.MIGRATIONS, migrations)
    (migrations / "versions" / "9000_next.py").write_text(NEXT.format(previous=previous))
    monkeypatch.setattr(connections, "MIGRATIONS", migrations)
    monkeypatch.setattr(connections, "MIGRATE_PAUSE_SECONDS", 0.01)
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT FROM ledger.head")
        with pytest.raises(SettingError, match=r"others are using it .* nothing is changed"):
            migrate(dsn)
        assert at(dsn) == previous
    migrate(dsn)
    assert at(dsn) == "9000"


def test_a_client_that_is_gone_is_noticed_in_the_middle_of_a_statement(dsn: str) -> None:
    async def vanish() -> None:
        conn = await connect(dsn, "ledger_projector", name="doomed")
        working = asyncio.create_task(conn.execute("SELECT pg_advisory_lock(7), pg_sleep(30)"))
        await asyncio.to_thread(until, lambda: held(dsn))
        with socket.socket(fileno=os.dup(conn.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(working, return_exceptions=True)
        await conn.close()

    asyncio.run(vanish())
    until(lambda: not held(dsn))


def held(dsn: str) -> bool:
    with psycopg.connect(dsn) as conn:
        query = b"""SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        return conn.execute(query).fetchone() is not None


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_connection_has_the_server_look_after_its_client(dsn: str) -> None:
    asked = {
        "client_connection_check_interval": "1000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "15000",
    }

    async def settings(conn: Conn) -> dict[str, str]:
        # `setting` is what the socket says: over a Unix socket nothing.
        query = (
            "SELECT name, CASE name WHEN 'client_connection_check_interval' THEN setting ELSE reset_val END"
            " FROM pg_settings WHERE name = ANY (%s)"
        )
        return dict(await (await conn.execute(query, [list(asked)])).fetchall())

    async def look() -> None:
        async with await connect(dsn, "ledger_projector", name="test") as conn:
            assert await settings(conn) == asked
        async with open_pool(dsn) as pool, pool.connection() as conn:
            assert await settings(conn) == asked

    asyncio.run(look())
