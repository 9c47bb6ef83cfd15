"""Sessions: each runs in its role on a primary, or is refused; what is not answered in time is abandoned, and
never cancelled; a commit that no standby has is no success."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import SettingError, Unavailable
from ledger.postgres.connections import (
    POOL_SIZE_MAX,
    Conn,
    Pool,
    ReconnectingConnection,
    connect,
    fetch_one,
    open_connection,
)
from ledger.postgres.deployment import check_server
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import check_schema
from ledger.postgres.pipelines import BoundStatement, PipelinedTransaction, run_together
from ledger.postgres.prepared import PreparedConnection
from ledger.postgres.sessions import (
    CONNECT_TIMEOUT_SECONDS,
    NoAnswer,
    NotReplicated,
    Role,
    SessionRefused,
    StandbyServer,
    is_disconnect,
    name_primary,
)
from tests.postgres.poolers import read_password
from tests.postgres.servers import FAST, ask_pool
from tests.serving.tcp_proxy import TcpProxy, open_tcp_proxy
from tests.store.lossy_proxy import open_lossy_proxy

INSERT_LATE = b"INSERT INTO kept SELECT 1 FROM pg_sleep(0.4)"
INSERT = b"INSERT INTO kept VALUES (1)"
SLEEP = b"SELECT FROM pg_sleep(60)"
Way = Callable[[Conn, bytes], Coroutine[None, None, None]]


async def run_in_session(conn: Conn, statement: bytes) -> None:
    await conn.execute(statement)


async def run_prepared(conn: Conn, statement: bytes) -> None:
    deadline = asyncio.get_running_loop().time() + (conn.answer_seconds or 60)
    await PreparedConnection(conn).run(statement, [], [], deadline=deadline)


async def run_in_pipeline(conn: Conn, statement: bytes) -> None:
    await run_together(conn, [BoundStatement(statement)])


async def run_in_pipelined_transaction(conn: Conn, statement: bytes) -> None:
    async with PipelinedTransaction(conn) as transaction:
        transaction.add(BoundStatement(statement))


WAYS = [run_in_session, run_prepared, run_in_pipeline, run_in_pipelined_transaction]


@pytest.fixture
def kept(dsn: str) -> str:
    """A database with the table `kept`, which both roles may fill."""
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE kept (number integer)")
        conn.execute("GRANT ALL ON kept TO PUBLIC")
    return dsn


def count_kept(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM kept").fetchone()
        assert row is not None
        return int(row[0])


def wait_for_kept(dsn: str) -> None:
    deadline = time.monotonic() + 60
    while not count_kept(dsn):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["limit", "caller"])
def test_what_is_not_awaited_any_more_is_not_cancelled(kept: str, way: Way, end: str) -> None:
    async def give_up() -> None:
        conn = await connect(kept, "ledger_api", name="test", answer_seconds=0.1 if end == "limit" else 60)
        # The server would notice the lost client after a second, which a busy machine may need for the work.
        await conn.execute("SET client_connection_check_interval = 0")
        if end == "limit":
            with pytest.raises(NoAnswer) as caught:
                await way(conn, INSERT_LATE)
            assert is_disconnect(caught.value)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await way(conn, INSERT_LATE)
        assert conn.closed

    began = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - began < 5
    wait_for_kept(kept)


def test_who_listens_waits_as_long_as_it_likes_and_keeps_the_connection(dsn: str) -> None:
    async def listen() -> None:
        async with await connect(dsn, "ledger_api", name="test", answer_seconds=0.1) as conn:
            await conn.execute("LISTEN ledger_head")
            assert [notification async for notification in conn.notifies(timeout=0.3)] == []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(conn.notifies(timeout=60))
            assert await fetch_one(conn, "SELECT 1") == (1,)

    asyncio.run(listen())


@pytest.mark.parametrize("role", ["ledger_api", "ledger_projector"])
def test_a_session_begins_with_its_login_and_one_statement(dsn: str, role: Role) -> None:
    async def begin() -> None:
        async with open_lossy_proxy(dsn) as (way, between):
            bare = await psycopg.AsyncConnection.connect(way, application_name="bare")
            login_requests = between.requests["bare"]
            await bare.close()
            settings = {"enable_seqscan": "off", "statement_timeout": "7s"}
            async with await connect(way, role, name="test", settings=settings) as conn:
                assert between.requests["ledger test"] == login_requests + 1
                shown = "SELECT current_user::text, current_setting('enable_seqscan'), "
                shown += (
                    "current_setting('statement_timeout'), current_setting('default_transaction_isolation')"
                )
                assert await fetch_one(conn, shown) == (role, "off", "7s", "read committed")

    asyncio.run(begin())


def test_a_login_that_may_not_take_the_role_is_refused_in_one_line(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP ROLE IF EXISTS ledger_test_stranger")
        conn.execute("CREATE ROLE ledger_test_stranger LOGIN PASSWORD 'x'")
    stranger = make_conninfo(dsn, user="ledger_test_stranger", password="x", passfile="/nonexistent")
    line = "the session cannot run in the role ledger_api: permission denied to set role"

    async def meet() -> None:
        with pytest.raises(SessionRefused, match=line) as caught:
            await connect(stranger, "ledger_api", name="test")
        assert "\n" not in str(caught.value)
        assert not is_disconnect(caught.value)
        with pytest.raises(Unavailable, match=line):
            async with open_connection(stranger, "ledger_api", name="test"):
                pass
        async with Pool(stranger) as pool:
            with pytest.raises(Unavailable, match=line):
                await ask_pool(pool, seconds=1)

    try:
        asyncio.run(meet())
    finally:
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP ROLE ledger_test_stranger")


@pytest.fixture(scope="module")
def cluster_dir(place: Path) -> Path:
    """The data directory of a stopped server with the service's roles, and the table `kept`."""
    with EmbeddedPostgres(place / "roles", settings=FAST) as server, psycopg.connect(server.dsn()) as conn:
        conn.execute(
            "CREATE ROLE ledger_api; CREATE ROLE ledger_projector; CREATE TABLE kept (number integer)"
        )
        conn.execute("GRANT ALL ON kept TO PUBLIC")
    return place / "roles"


@pytest.fixture(scope="module")
def lonely(cluster_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A server whose commits wait for a standby that it does not have."""
    with EmbeddedPostgres(cluster_dir, settings=FAST | {"synchronous_standby_names": "nobody"}) as server:
        yield server


@pytest.fixture
def lonely_dsn(lonely: EmbeddedPostgres) -> str:
    return lonely.dsn()


@pytest.fixture
def standby_dsn(lonely: EmbeddedPostgres) -> Iterator[str]:
    """The same server, as a standby that follows nobody."""
    with psycopg.connect(lonely.dsn()) as conn:
        row = conn.execute("SHOW data_directory").fetchone()
    assert row is not None
    lonely.stop()
    mark = Path(row[0]) / "standby.signal"
    mark.touch()
    try:
        lonely.start()
        yield lonely.dsn()
        lonely.stop()
    finally:
        mark.unlink()
        lonely.start()


async def end_wait_for_standbys(dsn: str) -> None:
    """As an operator would: cancel the statement that waits."""
    async with await Conn.connect(dsn, autocommit=True) as conn:
        await conn.execute("SET synchronous_commit = local")
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        while await fetch_one(conn, cancel) is None:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", WAYS)
def test_a_commit_whose_wait_for_standbys_was_ended_is_no_success(lonely_dsn: str, way: Way) -> None:
    async def commit() -> None:
        before = await asyncio.to_thread(count_kept, lonely_dsn)
        conn = await connect(lonely_dsn, "ledger_api", name="test")
        working = asyncio.create_task(way(conn, INSERT))
        async with asyncio.timeout(10):
            await end_wait_for_standbys(lonely_dsn)
        with pytest.raises(NotReplicated, match="perhaps none has it") as caught:
            await working
        assert not is_disconnect(caught.value)
        assert await asyncio.to_thread(count_kept, lonely_dsn) == before + 1
        assert await fetch_one(conn, "SELECT 1") == (1,) or way is run_prepared
        await conn.close()

    asyncio.run(commit())


def test_a_query_whose_commit_is_not_replicated_is_not_repeated(lonely_dsn: str) -> None:
    async def commit() -> None:
        runs = 0

        async def insert(conn: Conn) -> None:
            nonlocal runs
            runs += 1
            async with conn.transaction():
                await conn.execute(INSERT)

        kept = ReconnectingConnection(lonely_dsn, "ledger_api", name="test")
        working = asyncio.create_task(kept.run_idempotent(insert))
        async with asyncio.timeout(10):
            await end_wait_for_standbys(lonely_dsn)
        with pytest.raises(Unavailable, match="perhaps none has it"):
            await working
        assert runs == 1
        await kept.drop()

    asyncio.run(commit())


def test_a_standby_is_refused_unless_it_will_do(standby_dsn: str) -> None:
    async def meet(dsn: str) -> None:
        with pytest.raises(StandbyServer) as caught:
            await connect(dsn, "ledger_api", name="test")
        assert is_disconnect(caught.value)
        async with await connect(dsn, "ledger_api", name="test", may_be_standby=True) as conn:
            assert await fetch_one(conn, "SELECT pg_is_in_recovery()") == (True,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
                await conn.execute(INSERT)
            assert is_disconnect(refused.value)  # as on a primary that became a standby

    asyncio.run(meet(standby_dsn))


def test_of_several_hosts_the_primary_is_taken(dsn: str, standby_dsn: str, place: Path) -> None:
    standby, primary = conninfo_to_dict(standby_dsn), conninfo_to_dict(dsn)
    passfile = place / "both.pass"
    passfile.write_text(
        "".join(
            f"{each['host']}:*:*:{each['user']}:{read_password(one)}\n"
            for one, each in ((standby_dsn, standby), (dsn, primary))
        )
    )
    passfile.chmod(0o600)
    hosts = f"{standby['host']},{primary['host']}"
    both = make_conninfo(dsn, host=hosts, port=f"5432,{primary.get('port', 5432)}", passfile=str(passfile))

    async def find_database(url: str) -> object:
        async with await connect(url, "ledger_api", name="test") as conn:
            return await fetch_one(conn, "SELECT pg_is_in_recovery(), current_database() LIKE 'test%'")

    check_server(name_primary(both))
    check_schema(name_primary(both))
    assert asyncio.run(find_database(name_primary(both))) == (False, True)
    asked = make_conninfo(both, target_session_attrs="any")
    assert name_primary(asked) == asked
    assert name_primary(dsn) == dsn
    with pytest.raises(SettingError, match="it leads to a standby, which takes no writes"):
        check_server(standby_dsn)


def test_a_server_that_takes_no_writes_any_more_is_left(kept: str) -> None:
    async def run(lender: Pool | ReconnectingConnection) -> None:
        pids = []

        async def write(conn: Conn) -> None:
            pids.append(conn.info.backend_pid)
            if len(pids) == 1:
                await conn.execute("SET default_transaction_read_only = on")
            await conn.execute(INSERT)

        await lender.run_idempotent(write)
        assert len(set(pids)) == 2

    async def main() -> None:
        async with Pool(kept) as pool:
            await run(pool)
        single = ReconnectingConnection(kept, "ledger_api", name="test")
        await run(single)
        await single.drop()

    asyncio.run(main())
    assert count_kept(kept) == 2


def test_a_server_without_room_for_more_connections_says_so(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP ROLE IF EXISTS ledger_test_one")
        conn.execute("CREATE ROLE ledger_test_one LOGIN PASSWORD 'x' CONNECTION LIMIT 1 IN ROLE ledger_api")
    one = make_conninfo(dsn, user="ledger_test_one", password="x", passfile="/nonexistent")

    async def meet() -> None:
        async with await connect(one, "ledger_api", name="test"), Pool(one) as pool:
            with pytest.raises(Unavailable, match="too many connections for role"):
                await ask_pool(pool, seconds=1)

    try:
        asyncio.run(meet())
    finally:
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP ROLE ledger_test_one")


def test_who_gives_up_a_connection_that_is_not_there_yet_waits_for_nothing(dsn: str) -> None:
    async def give_up(silent: str) -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connect(silent, "ledger_api", name="test")
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, as the kernel of a server that hangs
        port = server.getsockname()[1]
        silent = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        assert asyncio.run(give_up(silent)) < CONNECT_TIMEOUT_SECONDS / 2


def test_a_pool_all_of_whose_connections_are_in_use_says_so(dsn: str) -> None:
    async def meet() -> None:
        async with Pool(dsn) as pool, AsyncExitStack() as stack:
            for _ in range(POOL_SIZE_MAX):
                await stack.enter_async_context(pool.connection())
            with pytest.raises(Unavailable, match=f"all {POOL_SIZE_MAX} are in use"):
                await ask_pool(pool, seconds=1)

    asyncio.run(meet())


def test_who_is_cancelled_between_two_statements_does_not_wait_for_a_rollback(dsn: str) -> None:
    async def give_up() -> float:
        conn = await connect(dsn, "ledger_api", name="test", answer_seconds=60)
        pid = conn.info.backend_pid
        began = time.monotonic()
        try:
            async with asyncio.timeout(0.1), conn.transaction():
                await conn.execute("SELECT 1")
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(60)
        except TimeoutError:
            assert conn.closed
        except PermissionError:
            pytest.skip("the server's processes are not ours to stop")
        finally:
            with suppress(PermissionError):
                os.kill(pid, signal.SIGCONT)
        return time.monotonic() - began

    assert asyncio.run(give_up()) < 20


def test_a_start_waits_for_a_primary_that_is_being_replaced(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def start() -> None:
        async with open_lossy_proxy(dsn) as (way, between):
            between.lose("", "request")  # as by a proxy that has no server to pass it to
            await asyncio.to_thread(check_server, way)
            assert between.losses == [("", "request")]

    asyncio.run(start())
    assert "has no primary now, and is waited for: " in caplog.text


def test_what_waits_on_a_former_primary_ends_once_another_is_reached(lonely: EmbeddedPostgres) -> None:
    login = conninfo_to_dict(lonely.dsn())
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

    async def meet(proxy: TcpProxy) -> None:
        address = make_conninfo(lonely.dsn(), host="127.0.0.1", port=proxy.port, sslmode="disable")
        conns = [await connect(address, "ledger_api", name="test", answer_seconds=60) for _ in WAYS]
        waiting = [asyncio.create_task(way(conn, SLEEP)) for way, conn in zip(WAYS, conns, strict=True)]
        async with await Conn.connect(lonely.dsn(), autocommit=True) as direct, asyncio.timeout(10):
            while await fetch_one(direct, asleep) != (len(WAYS),):  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.01)
        proxy.silence()
        async with await connect(address, "ledger_api", name="test"):
            pass
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not done  # the server is the same, and what it works on may take long
        await asyncio.to_thread(lonely.stop)
        await asyncio.to_thread(lonely.start)
        async with await connect(address, "ledger_api", name="test"), asyncio.timeout(10):
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in ended] == [psycopg.OperationalError] * len(WAYS)
        assert all(isinstance(error, psycopg.Error) and is_disconnect(error) for error in ended)
        assert all(conn.has_ended for conn in conns)

    with open_tcp_proxy(f"{login['host']}/.s.PGSQL.{login.get('port', 5432)}") as proxy:
        uvloop.run(meet(proxy))
