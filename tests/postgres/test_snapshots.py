"""What keeps old versions of rows is seen by the service, whosever it is; what others do is not."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ledger.metrics.backlogs import OldestSnapshot, read_oldest_snapshots
from ledger.postgres.connections import open_connection


def read(dsn: str) -> dict[str, OldestSnapshot]:
    async def main() -> list[OldestSnapshot]:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            return await read_oldest_snapshots(conn)

    return {each.holder: each for each in asyncio.run(main())}


def test_a_snapshot_of_another_user_is_seen_with_its_age(dsn: str) -> None:
    before = read(dsn)
    assert set(before) == {"session", "prepared transaction", "standby", "replication slot"}
    assert (before["session"].seconds, before["session"].transactions) == (0, 0)
    with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as writer:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT FROM ledger.events")
        for _ in range(5):
            writer.execute("SELECT pg_current_xact_id()")
        session = read(dsn)["session"]
        assert session.seconds is not None
        assert session.seconds > 0
        assert session.transactions >= 5
    assert read(dsn)["session"].transactions == 0


def test_a_transaction_that_has_written_counts_while_it_is_idle(dsn: str) -> None:
    with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as writer:
        conn.execute("SELECT pg_current_xact_id()")
        writer.execute("SELECT pg_current_xact_id()")
        assert read(dsn)["session"].transactions >= 1


def test_an_analyst_may_not_ask(dsn: str) -> None:
    with (
        psycopg.connect(dsn, options="-c role=ledger_analyst") as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("SELECT * FROM ledger.oldest_snapshots()")
