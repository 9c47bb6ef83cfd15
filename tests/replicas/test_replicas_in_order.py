"""When a replica is asked: not one of another database or another history, and again after a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from ledger.errors import UnknownObject
from ledger.metrics.backlogs import ReplicaStatus
from ledger.postgres.connections import Conn, Pool, fetch_one
from ledger.postgres.statements import parse_statement
from ledger.store.replication.replica import Reads, Replica
from tests.postgres.poolers import needs_pgbouncer, open_pgbouncer
from tests.postgres.standby import ReplicatedServers, run_replicated
from tests.projections.histories import KEY, Author, run_story
from tests.serving.process import run_ledger

WAIT_SECONDS = 60
IS_STANDBY = "SELECT pg_is_in_recovery()"


@pytest.fixture(scope="module")
def servers() -> Iterator[ReplicatedServers]:
    """A replica whose replay waits for no lock that a reader has, and cancels no other readers."""
    settings = {"max_standby_streaming_delay": "0", "hot_standby_feedback": "on", "log_statement": "all"}
    with run_replicated(standby_settings=settings) as servers:
        servers.set_synchronous("")
        yield servers


@asynccontextmanager
async def open_replica(servers: ReplicatedServers, url: str) -> AsyncIterator[tuple[Replica, list[str]]]:
    """The replica at `url`, and how reads went."""
    replica, outcomes = Replica(url, servers.primary.dsn()), list[str]()
    replica.on_read = outcomes.append
    await replica.start()
    try:
        yield replica, outcomes
    finally:
        await replica.close()


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110  # asks a server
            await asyncio.sleep(0.01)


async def is_standby(conn: Conn) -> bool:
    row = await fetch_one(conn, IS_STANDBY)
    assert row is not None
    return bool(row[0])


async def cancel_by_replay(servers: ReplicatedServers, read: Awaitable[object]) -> object:
    """The result of a read whose statement the replay cancels: it has a lock that the primary's takes."""
    task = asyncio.ensure_future(read)
    query = """
    SELECT EXISTS (SELECT FROM pg_locks
                   WHERE relation = 'ledger.served'::regclass AND mode = 'AccessShareLock' AND granted)
    """
    await wait_for(lambda: servers.standby.fetch_value(query, "ledger"))
    with psycopg.connect(servers.primary.dsn()) as conn:
        conn.execute("LOCK TABLE ledger.served IN ACCESS EXCLUSIVE MODE")
    return await task


def test_a_read_that_the_replay_cancels_is_asked_again_on_the_primary(servers: ReplicatedServers) -> None:
    async def sleep_on_standby(conn: Conn) -> bool:
        if not await is_standby(conn):
            return False
        await conn.execute("SELECT pg_sleep(60) FROM ledger.served")
        return True

    async def story() -> None:
        async with (
            open_replica(servers, servers.standby.dsn()) as (replica, outcomes),
            Pool(servers.primary.dsn()) as pool,
        ):
            await wait_for(lambda: replica.is_used)
            reads = Reads(pool, replica)
            assert await reads.run_idempotent(is_standby)
            assert await cancel_by_replay(servers, reads.run_idempotent(sleep_on_standby)) is False
            statement = parse_statement("SELECT pg_sleep(60) FROM ledger.served")
            assert await cancel_by_replay(servers, replica.fetch(statement, {})) is None
            assert outcomes == ["answered", "conflict", "conflict"]
            assert replica.is_used

    asyncio.run(story())


def test_what_a_read_refuses_is_not_asked_again(servers: ReplicatedServers) -> None:
    async def refuse(conn: Conn) -> None:
        assert await is_standby(conn)
        raise UnknownObject("event", "evt_1")

    async def story() -> None:
        async with (
            open_replica(servers, servers.standby.dsn()) as (replica, _),
            Pool(servers.primary.dsn()) as pool,
        ):
            await wait_for(lambda: replica.is_used)
            with pytest.raises(UnknownObject):
                await Reads(pool, replica).run_idempotent(refuse)

    asyncio.run(story())


def test_what_the_primary_does_not_show_yet_is_not_answered(servers: ReplicatedServers) -> None:
    """A replica shows a commit at once that the primary acknowledges only when its standbys have it."""

    async def fetch_head(conn: Conn) -> int:
        row = await fetch_one(conn, "SELECT position FROM ledger.head")
        assert row is not None
        return int(row[0])

    async def story(author: Author) -> None:
        async with (
            open_replica(servers, servers.standby.dsn()) as (replica, outcomes),
            Pool(servers.primary.dsn()) as pool,
        ):
            await wait_for(lambda: replica.is_used)
            head = await replica.read_head()
            servers.set_synchronous("absent")
            append = asyncio.ensure_future(author.create_customer())
            try:
                query = f"SELECT position > {head} FROM ledger.head"
                await wait_for(lambda: servers.standby.fetch_value(query, "ledger"))
                replica._status = ReplicaStatus(is_used=True)
                assert await Reads(pool, replica).run_idempotent(fetch_head) == head
                assert outcomes == ["behind"]
            finally:
                servers.set_synchronous("")
            await append
            await wait_for(lambda: replica.is_used)
            assert await Reads(pool, replica).run_idempotent(fetch_head) == head + 1
            assert outcomes == ["behind", "answered"]

    run_story(servers.primary.dsn(), story)


def test_a_read_goes_on_with_the_primary_if_that_did_not_say_its_position(
    servers: ReplicatedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be lost for longer than the question for its position waits, and less than a request may."""
    monkeypatch.setattr("ledger.postgres.statements.QUERY_TIMEOUT_SECONDS", 0.3)
    nowhere = make_conninfo(servers.primary.dsn(), port="1")

    async def story() -> None:
        replica, outcomes = Replica(servers.standby.dsn(), nowhere), list[str]()
        replica.on_read = outcomes.append
        await replica.start()
        async with Pool(servers.primary.dsn()) as pool:
            replica._status = ReplicaStatus(is_used=True)
            assert await Reads(pool, replica).run_idempotent(is_standby) is False
        await replica.close()
        assert outcomes == ["not_asked"]
        assert not replica.is_used

    asyncio.run(story())


def test_a_command_of_the_audit_reads_the_log_of_the_replica(
    servers: ReplicatedServers, tmp_path: Path
) -> None:
    urls = {"database_url": servers.primary.dsn(), "replica_url": servers.standby.dsn()}

    def run(*arguments: str) -> str:
        ended = run_ledger(tmp_path / "data", *arguments, secret_key=KEY.decode(), **urls)
        assert ended.returncode == 0, ended
        return ended.stdout

    account = run("accounts", "create", "A test").strip()
    servers.wait_caught_up()
    run("audit", "log", "--account", account)
    assert "projections.audit_keys" in servers.standby.log


def test_the_replica_of_another_database_is_never_asked(servers: ReplicatedServers, dsn: str) -> None:
    assert "no streaming replica of this database" in find_reason(servers, dsn)


@needs_pgbouncer
def test_a_pooler_of_transactions_is_not_asked_any_more(servers: ReplicatedServers, place: Path) -> None:
    async def run(url: str) -> None:
        with capture_logs() as logged:
            async with open_replica(servers, url) as (replica, outcomes):
                await wait_for(lambda: replica.is_used)
                assert await replica.fetch(parse_statement("SELECT 1"), {}) is None
                await wait_for(lambda: logged)
                assert not replica.is_used
                assert outcomes == ["failed"]
        assert "a pooler that lends a session for one transaction" in logged[0]["reason"]

    trusted = make_conninfo(servers.standby.dsn(), password="none")
    with open_pgbouncer(trusted, place / "lent", pool_mode="transaction") as url:
        asyncio.run(run(url))


def test_a_replica_with_another_history_is_never_asked(servers: ReplicatedServers) -> None:
    """Such as a primary that was lost, and came back without being rewound."""

    async def story(author: Author) -> None:
        await author.create_customer()

    run_story(servers.primary.dsn(), story)
    servers.wait_caught_up()
    servers.promote_standby()
    with psycopg.connect(servers.standby.dsn()) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("UPDATE ledger.events SET recorded_at = recorded_at + interval '1 ms'")
    assert "log differs from the primary's" in find_reason(servers, servers.standby.dsn())


def find_reason(servers: ReplicatedServers, url: str) -> str:
    """Why the replica at `url` is not asked, as the log says."""

    async def run() -> str:
        with capture_logs() as logged:
            async with open_replica(servers, url) as (replica, _):
                await wait_for(lambda: logged)
                assert not replica.is_used
        assert [line["event"] for line in logged] == ["replica_not_used"]
        return str(logged[0]["reason"])

    return asyncio.run(run())
