"""The servers of `tests/postgres/standby.py` do what tests of replication rely on."""

from __future__ import annotations

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn

from tests.postgres.standby import Server, run_replicated, wait_until

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def test_a_commit_waits_for_the_standby_and_is_lost_with_the_primary_if_it_has_not_arrived() -> None:
    with run_replicated() as servers:
        primary, standby = servers.primary, servers.standby
        with psycopg.connect(primary.dsn(), autocommit=True) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 1 AS number")
        servers.stop_standby()
        waiting = _send_and_wait(primary, b"INSERT INTO kept VALUES (2)")
        servers.start_standby()
        wait_until(lambda: not primary.fetch_value(_WAITING))
        waiting.finish()
        servers.wait_caught_up()
        assert standby.fetch_value("SELECT sum(number) FROM kept", "ledger") == 3
        servers.stop_standby()
        _send_and_wait(primary, b"INSERT INTO kept VALUES (4)").finish()
        primary.crash()
        standby.start()
        servers.promote_standby()
        assert standby.fetch_value("SELECT sum(number) FROM kept", "ledger") == 3


def test_a_paused_standby_lets_commits_wait() -> None:
    with run_replicated() as servers:
        servers.pause_standby()
        waiting = _send_and_wait(servers.primary, b"CREATE TABLE kept ()")
        servers.resume_standby()
        wait_until(lambda: not servers.primary.fetch_value(_WAITING))
        waiting.finish()


def _send_and_wait(server: Server, statement: bytes) -> PGconn:
    """A connection whose commit of `statement` waits for the standby."""
    pgconn = pq.PGconn.connect(server.dsn().encode())
    pgconn.send_query(statement)
    wait_until(lambda: server.fetch_value(_WAITING))
    return pgconn
