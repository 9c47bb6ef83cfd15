"""Open connections to the database in one of its two roles, single or pooled, and run queries on them.

The roles of migration 0001: `ledger_api` appends to the log and never rewrites it, `ledger_projector` owns
the projections' tables and cannot append. Every statement commits on its own (autocommit) unless it runs
inside `conn.transaction()`. Both kinds of kept connections, `Pool` and `ReconnectingConnection`, replace one
that has ended while idle (a restart, a failover, a proxy) before they lend it.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Literal, TypeVar, cast, get_args

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Params, QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from ledger.errors import Unavailable

CONNECT_TIMEOUT_SECONDS = 5
QUERY_TIMEOUT_SECONDS = 6
# The client notices within 25 s that the server's host is gone (TCP only) …
_CLIENT_TCP_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# … and the server notices that the client's host is gone; otherwise it would keep the client's locks for
# hours. Postgres ignores both over a Unix socket.
_SERVER_TCP_OPTIONS = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=15000"
)
# The server also notices a killed client in the middle of a statement. Building an index may take an hour,
# and the backend would keep its locks until then.
_CHECK_CLIENT_CONNECTION = "SET client_connection_check_interval = '1s'"
# Pages are read along an index, whatever the statistics of a young table say; plans are made once.
READ_PLANNER_OPTIONS = (
    "-c enable_seqscan=off -c enable_bitmapscan=off -c plan_cache_mode=force_generic_plan -c jit=off "
    "-c statement_timeout=5s"
)
POOL_SIZE_MIN = 1
POOL_SIZE_MAX = 8
IDEMPOTENT_ATTEMPTS_MAX = 2
# A server or proxy ends its connections one after another: the next one to be lent may be about to end.
IDEMPOTENT_PAUSE_SECONDS = 0.05

Role = Literal["ledger_api", "ledger_projector"]
ROLES: tuple[Role, ...] = get_args(Role)
Conn = AsyncConnection[TupleRow]
Result = TypeVar("Result")
Query = Callable[[Conn], Awaitable[Result]]

# Overrides the default of the database or user: each statement of ledger.append_many must see what was
# committed before it got the head lock.
_ISOLATION = r"-c default_transaction_isolation=read\ committed"


async def connect(
    dsn: str, role: Role, *, name: str, options: str = "", prepare_threshold: int | None = 1
) -> Conn:
    """An autocommit connection in `role`, shown as `ledger {name}` in pg_stat_activity. `options` are
    libpq's, `prepare_threshold` is psycopg's; None for a connection whose user prepares statements.

    Raises psycopg.OperationalError when the database cannot be reached.
    """
    task = asyncio.ensure_future(_open(_conninfo(dsn, role, name, options), prepare_threshold))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # A half-open connection would stay until it is garbage collected, and a backend that is still
        # authenticating blocks DROP DATABASE, which waits for all backends, for a minute.
        with suppress(psycopg.Error):
            await (await task).close()
        raise


async def fetch_one(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> TupleRow | None:
    """The first row of the query's result; None when it has no rows. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchone()


async def fetch_all(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> list[TupleRow]:
    """All rows of the query's result. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchall()


@asynccontextmanager
async def open_connection(dsn: str, role: Role, *, name: str) -> AsyncIterator[Conn]:
    """A connection as from `connect`, closed at the end. Raises Unavailable for an unreachable database."""
    try:
        conn = await connect(dsn, role, name=name)
    except psycopg.OperationalError as error:
        raise Unavailable(first_line(error)) from error
    async with conn:
        yield conn


class Pool(AsyncConnectionPool[Conn]):
    """Connections in the role `ledger_api` for reads and short writes, lent to one user each.

    The user opens it (`await pool.open()`, or `async with`) and closes it.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(
            _conninfo(dsn, "ledger_api", "reads", READ_PLANNER_OPTIONS),
            kwargs={"autocommit": True, "prepare_threshold": 1},
            configure=_enable_client_check,
            min_size=POOL_SIZE_MIN,
            max_size=POOL_SIZE_MAX,
            timeout=CONNECT_TIMEOUT_SECONDS,
            # The pool doubles its pause between attempts up to this. With the default of 300 s, lists would
            # fail for minutes after the database is back.
            reconnect_timeout=CONNECT_TIMEOUT_SECONDS,
            open=False,
        )

    async def getconn(self, timeout: float | None = None) -> Conn:  # noqa: ASYNC109  # the library's interface
        """A connection that had not ended when it was lent; `connection()` calls this. Raises
        psycopg_pool.PoolTimeout."""
        # Not the library's `check`: it pauses for seconds between two ended connections, and after a restart
        # all of them have ended.
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            conn = await super().getconn(deadline - time.monotonic())
            if not _has_ended(conn):
                return conn
            await conn.close()
            await self.putconn(conn)  # the pool opens another in its place

    async def run_idempotent(self, query: Query[Result], *, wait_seconds: float | None = None) -> Result:
        """The result of `query` on a connection, for which this waits `wait_seconds` (default: the pool's
        timeout). Runs it again if the connection breaks: so it only reads, or repeating it changes nothing.

        Raises Unavailable, and what `query` raises apart from psycopg.OperationalError.
        """
        return await _run_idempotent(lambda: self.connection(wait_seconds), query)


async def _run_idempotent(
    lend: Callable[[], AbstractAsyncContextManager[Conn]], query: Query[Result]
) -> Result:
    for attempts_left in reversed(range(IDEMPOTENT_ATTEMPTS_MAX)):
        lent = False
        try:
            async with lend() as conn:
                lent = True
                return await query(conn)
        except psycopg.OperationalError as error:
            if not (lent and attempts_left and is_disconnect(error)):
                raise Unavailable(first_line(error)) from error
        await asyncio.sleep(IDEMPOTENT_PAUSE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _has_ended(conn: Conn) -> bool:
    """Whether the server or the network has ended a connection that nobody uses. It costs no round trip: on a
    connection that works there is nothing to read between two queries, except notifications."""
    if conn.closed:
        return True
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        conn.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    # A notification is lost here, which costs its receiver one poll interval. Anything else is the message
    # with which the server ends the connection.
    return conn.pgconn.notifies() is None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text. Postgres names the fault there; the
    lines after it (DETAIL) quote whole rows."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_disconnect(error: psycopg.OperationalError) -> bool:
    """Whether the error means that the connection or the server is lost, not that the server lacks space,
    time or a lock for the statement."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


async def _open(conninfo: str, prepare_threshold: int | None) -> Conn:
    conn = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=prepare_threshold)
    try:
        await _enable_client_check(conn)
    except BaseException:
        await conn.close()
        raise
    return conn


async def _enable_client_check(conn: Conn) -> None:
    """Make the server detect a disconnected client during a statement. Not one of the connection's options:
    a server on Windows does not support the setting, and would refuse the whole connection."""
    with suppress(psycopg.errors.InvalidParameterValue):
        await conn.execute(_CHECK_CLIENT_CONNECTION, prepare=False)


def _conninfo(dsn: str, role: Role, name: str, options: str) -> str:
    parameters = conninfo_to_dict(dsn)
    dsn_options = cast(str, parameters.get("options") or "")
    # A string for one of the roles stands for both: each connection logs in as its role, and no statement
    # can leave that. Any other user only sets the role, and could reset it.
    login = {"user": role} if parameters.get("user") in ROLES else {}
    return make_conninfo(
        dsn,
        **login,
        options=f"{_SERVER_TCP_OPTIONS} {dsn_options} -c role={role} {_ISOLATION} {options}".strip(),
        application_name=f"ledger {name}",
        client_encoding="UTF8",  # the journal encodes texts itself
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **_CLIENT_TCP_OPTIONS,
    )


class ReconnectingConnection:
    """One connection, opened at its first use and again after it was lost.

    `async with connection as conn` lends it to one user at a time, and drops it if that user fails.
    """

    def __init__(
        self, dsn: str, role: Role, *, name: str, options: str = "", prepare_threshold: int | None = 1
    ) -> None:
        self._dsn = dsn
        self._role: Role = role
        self._name = name
        self._options = options
        self._prepare_threshold = prepare_threshold
        self._conn: Conn | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Conn:
        await self._lock.acquire()
        try:
            return await self.get()
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            if error_type is not None:
                await self.drop()
        finally:
            self._lock.release()

    async def run_idempotent(self, query: Query[Result]) -> Result:
        """The result of `query`, within QUERY_TIMEOUT_SECONDS. Runs it again if the connection breaks: so it
        only reads, or repeating it changes nothing.

        Raises Unavailable, and what `query` raises apart from psycopg.OperationalError.
        """
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                return await _run_idempotent(lambda: self, query)
        except TimeoutError as error:
            raise Unavailable(first_line(error)) from error

    async def get(self) -> Conn:
        """The open connection, which nobody else uses now: another one if it has ended. Raises
        psycopg.OperationalError when the database cannot be reached."""
        if self._conn is not None and _has_ended(self._conn):
            await self.drop()
        if self._conn is None:
            self._conn = await connect(
                self._dsn,
                self._role,
                name=self._name,
                options=self._options,
                prepare_threshold=self._prepare_threshold,
            )
        return self._conn

    @property
    def is_disconnected(self) -> bool:
        """Whether there is no connection, or it has broken."""
        return self._conn is None or self._conn.closed

    async def drop(self) -> None:
        """Close the connection, whatever its state; the next use opens another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error):
                await conn.close()
