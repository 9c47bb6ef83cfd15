"""Open connections to the database in one of its two roles, single or pooled, and run queries on them.

The roles of migration 0001: `ledger_api` appends to the log and never rewrites it, `ledger_projector` owns
the projections' tables and cannot append. Every statement commits on its own (autocommit) unless it runs
inside `conn.transaction()`. Both kinds of kept connections, `Pool` and `ReconnectingConnection`, replace one
that has ended while idle (a restart, a failover, a proxy) before they lend it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import psycopg
from psycopg.abc import Params, QueryNoTemplate
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ledger.errors import Unavailable
from ledger.postgres.sessions import (
    CONNECT_TIMEOUT_SECONDS,
    LOCAL_COMMITS,
    LOST,
    NotConnected,
    Role,
    Session,
    Settings,
    begin_session,
    is_disconnect,
    plan_session,
)
from ledger.postgres.sessions import Conn as Conn  # whoever opens one names its type
from ledger.time_limits import Attempts, get_request_deadline

QUERY_TIMEOUT_SECONDS = 6
ANSWER_GRACE_SECONDS = 1.0
"""How much longer to wait for an answer than the server's own limit: its error says more."""
BACKGROUND_ANSWER_SECONDS = 60.0
"""For background work whose statements have no limit of their own."""
LONG_ANSWER_SECONDS = 24 * 3600.0
"""For statements that read or index whole tables, and for commands: who typed one can end it."""
# Pages are read along an index, whatever the statistics of a young table say; plans are made once.
READ_PLANNER_SETTINGS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_incremental_sort": "off",  # it reads all that has the first column, for the order of the rest
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "statement_timeout": "5s",
}
# In READ COMMITTED a statement is planned first, with the partitions that there are, and takes its snapshot
# afterwards: it sees the checkpoint of a batch, and not the rows that the batch wrote into a new partition.
SNAPSHOT_FIRST = {"default_transaction_isolation": "repeatable read"}
"""Of a session that only reads, and reads rows of the projections together with how far they are."""
LEND_SHARE, LEND_SECONDS_MAX, LEND_AGAIN_SECONDS = 0.9, 1.0, 0.25
"""A pool that could not connect tries again only when it is asked again."""
POOL_SIZE_MIN = 1
POOL_SIZE_MAX = 8

Result = TypeVar("Result")

# How long who gives up a connection that is not there yet waits for it.
_LATE_SECONDS = 0.2

Query = Callable[[Conn], Awaitable[Result]]


async def connect(
    dsn: str,
    role: Role,
    *,
    name: str,
    settings: Settings | None = None,
    prepare_threshold: int | None = 1,
    answer_seconds: float | None = QUERY_TIMEOUT_SECONDS,
    may_be_standby: bool = False,
) -> Conn:
    """An autocommit connection in `role`, shown as `ledger {name}` in pg_stat_activity.

    settings           of the session, as `SET` takes them
    prepare_threshold  psycopg's; None for a connection whose user prepares statements
    answer_seconds     how long to wait for each answer; None: without a limit
    may_be_standby     whether a server that takes no writes will do

    Raises psycopg.OperationalError when the database cannot be reached.
    """
    session = plan_session(dsn, role, name=name, settings=settings, may_be_standby=may_be_standby)
    task = asyncio.ensure_future(_open(session, prepare_threshold, answer_seconds))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # A half-open connection would stay until it is garbage collected, and a backend that is still
        # authenticating blocks DROP DATABASE, which waits for all backends, for a minute.
        _late.add(task)
        task.add_done_callback(_close_late)
        await asyncio.wait({task}, timeout=_LATE_SECONDS)
        raise


# Connections that nobody waits for any more.
_late: set[asyncio.Future[Conn]] = set()


def _close_late(task: asyncio.Future[Conn]) -> None:
    _late.discard(task)
    if not task.cancelled() and task.exception() is None:
        task.result().abandon()


async def _open(session: Session, prepare_threshold: int | None, answer_seconds: float | None) -> Conn:
    try:
        conn = await Conn.connect(session.conninfo, autocommit=True, prepare_threshold=prepare_threshold)
    except psycopg.OperationalError as error:
        raise NotConnected(first_line(error)) from error
    try:
        await begin_session(conn, session)
    except BaseException:
        conn.abandon()
        raise
    conn.answer_seconds = answer_seconds
    return conn


async def fetch_one(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> TupleRow | None:
    """The first row of the query's result; None when it has no rows. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchone()


async def fetch_all(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> list[TupleRow]:
    """All rows of the query's result. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchall()


@asynccontextmanager
async def open_connection(
    dsn: str,
    role: Role,
    *,
    name: str,
    settings: Settings | None = None,
    answer_seconds: float | None = QUERY_TIMEOUT_SECONDS,
) -> AsyncIterator[Conn]:
    """A connection as from `connect`, closed at the end. Raises Unavailable for an unreachable database: in a
    request at the end of that, else at once."""
    attempts = Attempts(get_request_deadline(0))
    while True:
        try:
            conn = await connect(dsn, role, name=name, settings=settings, answer_seconds=answer_seconds)
            break
        except psycopg.OperationalError as error:
            if not (is_disconnect(error) and await attempts.pause(error)):
                raise Unavailable(first_line(error)) from error
    async with conn:
        yield conn


class Pool(AsyncConnectionPool[Conn]):
    """Connections in the role `ledger_api` for reads and short writes, lent to one user each. No commit waits
    for a standby here: whoever says that something was written confirms it (`ledger.store.durability`).

    The user opens it (`await pool.open()`, or `async with`) and closes it. `name` and `may_be_standby` are as
    for `connect`.
    """

    def __init__(self, dsn: str, *, name: str = "reads", may_be_standby: bool = False) -> None:
        settings = READ_PLANNER_SETTINGS | LOCAL_COMMITS
        self._session = plan_session(
            dsn, "ledger_api", name=name, settings=settings, may_be_standby=may_be_standby
        )
        self._connect_error: str | None = None
        super().__init__(
            self._session.conninfo,
            connection_class=Conn,
            kwargs={"autocommit": True, "prepare_threshold": 1},
            configure=self._begin,
            # A standby that is away is no fault: nobody keeps trying to connect to it, and logs that.
            min_size=0 if may_be_standby else POOL_SIZE_MIN,
            max_size=POOL_SIZE_MAX,
            timeout=CONNECT_TIMEOUT_SECONDS,
            # It gives up at once, and tries again when it is asked again. Its own pauses grow to minutes, and
            # lists would fail while the database is back.
            reconnect_timeout=0,
            open=False,
        )

    async def getconn(self, timeout: float | None = None) -> Conn:  # noqa: ASYNC109  # the library's interface
        """A connection that had not ended when it was lent; `connection()` calls this. By default it waits
        until the end of the request. Raises psycopg_pool.PoolTimeout."""
        # Not the library's `check`: it pauses for seconds between two ended connections, and after a restart
        # all of them have ended.
        loop = asyncio.get_running_loop()
        deadline = get_request_deadline(self.timeout) if timeout is None else loop.time() + timeout
        while True:
            seconds_max = LEND_SECONDS_MAX if self._connect_error is None else LEND_AGAIN_SECONDS
            try:
                conn = await super().getconn(min(deadline - loop.time(), seconds_max))
            except PoolTimeout as error:
                if loop.time() < deadline:
                    continue
                reason = self._connect_error or f"all {self.max_size} are in use"
                raise PoolTimeout(f"no connection for reads became free: {reason}") from error
            if not conn.has_ended:
                return conn
            await conn.close()
            await self.putconn(conn)  # the pool opens another in its place

    async def _begin(self, conn: Conn) -> None:
        await begin_session(conn, self._session)
        conn.answer_seconds = QUERY_TIMEOUT_SECONDS

    # The library's own: it logs why it cannot connect, and tells only those who wait that it took too long.
    async def _connect(self, timeout: float | None = None) -> Conn:  # noqa: ASYNC109
        try:
            conn = await super()._connect(timeout)
        except psycopg.Error as error:
            self._connect_error = first_line(error)
            raise
        self._connect_error = None
        return conn

    async def run_idempotent(self, query: Query[Result]) -> Result:
        """The result of `query` on a connection. While the server is lost, it runs again and again, until the
        end of the request, outside of one for twice QUERY_TIMEOUT_SECONDS: so it only reads, or repeating it
        changes nothing.

        Raises Unavailable, and what `query` raises apart from psycopg.OperationalError.
        """
        return await _run_idempotent(self._lend, query)

    def _lend(self, seconds: float) -> AbstractAsyncContextManager[Conn]:
        # The error of the pool says why: so it comes before the end of the attempt.
        return self.connection(seconds * LEND_SHARE)


async def _run_idempotent(
    lend: Callable[[float], AbstractAsyncContextManager[Conn]], query: Query[Result]
) -> Result:
    attempts = Attempts(get_request_deadline(2 * QUERY_TIMEOUT_SECONDS))  # one may take half of it
    failure: Exception | None = None
    while True:
        deadline = attempts.begin()
        seconds = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline) as limit, lend(seconds) as conn:
                try:
                    return await query(conn)
                except psycopg.errors.ReadOnlySqlTransaction:
                    conn.abandon()
                    raise
        except LOST as error:
            if not is_disconnect(error):
                raise Unavailable(first_line(error)) from error
            failure = error
        except TimeoutError as error:
            if not limit.expired():
                raise
            failure = failure or error  # what an earlier attempt met says more
        if not await attempts.pause(failure):
            raise Unavailable(first_line(failure)) from failure


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text. Postgres names the fault there; the
    lines after it (DETAIL) quote whole rows."""
    nameless = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return str(error).strip().partition("\n")[0] or nameless


class ReconnectingConnection:
    """One connection, opened at its first use and again after it was lost.

    `async with connection as conn` lends it to one user at a time, and drops it if that user fails.
    """

    def __init__(
        self,
        dsn: str,
        role: Role,
        *,
        name: str,
        settings: Settings | None = None,
        prepare_threshold: int | None = 1,
        answer_seconds: float | None = QUERY_TIMEOUT_SECONDS,
        may_be_standby: bool = False,
    ) -> None:
        self._connect = partial(
            connect,
            dsn,
            role,
            name=name,
            settings=settings,
            prepare_threshold=prepare_threshold,
            answer_seconds=answer_seconds,
            may_be_standby=may_be_standby,
        )
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
        """As that of `Pool`."""
        return await _run_idempotent(lambda seconds: self, query)

    async def get(self) -> Conn:
        """The open connection, which nobody else uses now: another one if it has ended. Raises
        psycopg.OperationalError when the database cannot be reached."""
        if self._conn is not None and self._conn.has_ended:
            await self.drop()
        if self._conn is None:
            self._conn = await self._connect()
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
