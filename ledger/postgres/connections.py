"""The database: reach it, check that it is one we can use, migrate it, open connections in a role.

Every connection takes one of the two roles of migration 0001: `ledger_api` appends and never rewrites,
`ledger_projector` owns the read models and cannot append. Whatever makes a database unusable at start
is a `SettingError` of one line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Params, QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from ledger.errors import SettingError, Unavailable

# In the package when it was installed from a wheel (setup.py), beside the package in a checkout.
_PACKAGED = Path(__file__).resolve().parents[1] / "migrations"
MIGRATIONS = _PACKAGED if _PACKAGED.is_dir() else _PACKAGED.parents[1] / "alembic"
SERVER_VERSION_MIN = 150000
CONNECT_TIMEOUT_SECONDS = 5
QUERY_TIMEOUT_SECONDS = 6
# A server that is gone without a word is noticed in this time (TCP only) …
_CLIENT_TCP_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# … and by the server, a client: its locks would be held for hours. Over a Unix socket they say nothing.
_SERVER_TCP_OPTIONS = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=15000"
)
# A client that was killed is noticed in the middle of a statement, too: an index may take an hour, and its
# backend would hold its locks until then.
_CHECK_CLIENT_CONNECTION = "SET client_connection_check_interval = '1s'"
# Pages are read along an index, whatever the statistics of a young table say; plans are made once.
READ_PLANNER_OPTIONS = (
    "-c enable_seqscan=off -c enable_bitmapscan=off -c plan_cache_mode=force_generic_plan -c jit=off "
    "-c statement_timeout=5s"
)
POOL_SIZE_MIN = 1
POOL_SIZE_MAX = 8
# A migration gives up what it waits for after two seconds (its lock_timeout), so as to hold up nobody.
MIGRATE_ATTEMPTS_MAX = 5
MIGRATE_PAUSE_SECONDS = 1.0

Role = Literal["ledger_api", "ledger_projector"]
Conn = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Conn]

# Whatever a database or user defaults to: each statement of ledger.append has to see what was committed
# before the head lock was granted.
_ISOLATION = r"-c default_transaction_isolation=read\ committed"
_MIGRATION_LOCK = "SELECT pg_advisory_lock(hashtext('ledger.migrate'))"
_SCHEMA_VERSION = "SELECT version_num FROM ledger.alembic_version"
_OLDEST_SUPPORTED_RELEASE = "SELECT oldest FROM ledger.served"


async def connect(dsn: str, role: Role, *, name: str, options: str = "") -> Conn:
    """An autocommit connection in `role`. Raises psycopg.OperationalError."""
    task = asyncio.ensure_future(_open(_conninfo(dsn, role, name, options)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # Half-open, it would lie about until the garbage collector comes, and a backend in the middle of
        # its authentication holds up what waits for all backends: DROP DATABASE, for a minute.
        with suppress(psycopg.Error):
            await (await task).close()
        raise


async def fetch_one(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> TupleRow | None:
    """The first row that the query answers with; None when it answers with none. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchone()


async def fetch_all(conn: Conn, query: QueryNoTemplate, params: Params | None = None) -> list[TupleRow]:
    """All rows that the query answers with. Raises psycopg.Error."""
    return await (await conn.execute(query, params)).fetchall()


@asynccontextmanager
async def open_connection(dsn: str, role: Role, *, name: str) -> AsyncIterator[Conn]:
    """`connect`, closed at the end; an unreachable database raises Unavailable."""
    try:
        conn = await connect(dsn, role, name=name)
    except psycopg.OperationalError as error:
        raise Unavailable(first_line(error)) from error
    async with conn:
        yield conn


def open_pool(dsn: str) -> Pool:
    """A pool of connections for reads, not open yet."""
    return AsyncConnectionPool(
        _conninfo(dsn, "ledger_api", "reads", READ_PLANNER_OPTIONS),
        kwargs={"autocommit": True, "prepare_threshold": 1},
        configure=_enable_client_check,
        min_size=POOL_SIZE_MIN,
        max_size=POOL_SIZE_MAX,
        timeout=CONNECT_TIMEOUT_SECONDS,
        # Its pause between attempts doubles up to this (300 s by default): lists would stay away for
        # minutes after the database is back.
        reconnect_timeout=CONNECT_TIMEOUT_SECONDS,
        open=False,
    )


@asynccontextmanager
async def query_timeout() -> AsyncIterator[None]:
    """Bounds what is asked of the database within: Unavailable when it is away, or hangs too long."""
    try:
        async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
            yield
    except (psycopg.OperationalError, TimeoutError) as error:
        raise Unavailable(first_line(error)) from error


def migrate(dsn: str) -> None:
    """Bring the schema to this release's; a later one that serves this release is left as it is.

    Raises SettingError for a database that cannot be used.
    """
    with _connect_checked(dsn) as conn:
        if _supports_this_release(conn):
            return
        conn.execute(_MIGRATION_LOCK)
        try:
            conn.execute("CREATE SCHEMA IF NOT EXISTS ledger")
            conn.commit()
            _upgrade_with_retries(dsn)
        except psycopg.errors.InsufficientPrivilege as error:
            raise SettingError(
                f"the database user may not migrate ({first_line(error)}); it needs CREATE on the database "
                "and CREATEROLE"
            ) from None


def check_schema(dsn: str) -> None:
    """Refuse, in one line, a database that is unreachable, too old, not migrated to this release, or
    migrated to one that does not serve this release any more."""
    with _connect_checked(dsn) as conn:
        if not _supports_this_release(conn):
            raise SettingError(
                f"the database schema is at {_schema_version(conn) or 'nothing'}, this release needs "
                f"{release_version()}: run `ledger migrate`"
            )


def release_version() -> str:
    """The schema version of this release: migrations are numbered, the last is the head."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py")).partition("_")[0]


def first_line(error: BaseException) -> str:
    """The first line of an error's text: Postgres says what is wrong there."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_disconnect(error: psycopg.OperationalError) -> bool:
    """Whether it tells that the connection, or the server, is lost: not that the server could not do what was
    asked, for want of room, time or a lock."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


async def _open(conninfo: str) -> Conn:
    conn = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=1)
    try:
        await _enable_client_check(conn)
    except BaseException:
        await conn.close()
        raise
    return conn


async def _enable_client_check(conn: Conn) -> None:
    """Have the server look after its client while it works. Not by the connection's options: a server on
    Windows cannot, and would refuse the connection instead of the setting."""
    with suppress(psycopg.errors.InvalidParameterValue):
        await conn.execute(_CHECK_CLIENT_CONNECTION, prepare=False)


def _conninfo(dsn: str, role: Role, name: str, options: str) -> str:
    dsn_options = cast(str, conninfo_to_dict(dsn).get("options") or "")
    return make_conninfo(
        dsn,
        options=f"{_SERVER_TCP_OPTIONS} {dsn_options} -c role={role} {_ISOLATION} {options}".strip(),
        application_name=f"ledger {name}",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **_CLIENT_TCP_OPTIONS,
    )


def _connect_checked(dsn: str) -> psycopg.Connection[TupleRow]:
    try:
        conn = psycopg.connect(
            dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="ledger migrate"
        )
    except psycopg.ProgrammingError:
        raise SettingError("LEDGER_DATABASE_URL: not a Postgres connection string") from None
    except psycopg.OperationalError as error:
        raise SettingError(
            f"LEDGER_DATABASE_URL: the database cannot be reached: {first_line(error)}"
        ) from None
    if conn.info.server_version < SERVER_VERSION_MIN:
        version = conn.info.server_version // 10000
        conn.close()
        raise SettingError(f"LEDGER_DATABASE_URL: Postgres {version} is too old, 15 or newer is needed")
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        conn.close()
        raise SettingError(f"LEDGER_DATABASE_URL: the database is encoded in {encoding}, UTF8 is needed")
    return conn


def _schema_version(conn: psycopg.Connection[TupleRow]) -> str | None:
    try:
        row = conn.execute(_SCHEMA_VERSION).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        conn.rollback()
        return None
    return row[0] if row else None


def _supports_this_release(conn: psycopg.Connection[TupleRow]) -> bool:
    """Whether the schema is what this release needs: its own, or a later one that has taken nothing away.

    Raises SettingError for a later one that has.
    """
    schema_version, own_version = _schema_version(conn), release_version()
    if schema_version is None or schema_version <= own_version:
        return schema_version == own_version
    row = conn.execute(_OLDEST_SUPPORTED_RELEASE).fetchone()
    if row is None or own_version < row[0]:
        raise SettingError(
            f"the database schema is at {schema_version} and serves releases from "
            f"{row[0] if row else schema_version} on; "
            f"this one is of {own_version}: run a newer release"
        )
    return True


def _upgrade_with_retries(dsn: str) -> None:
    """Somebody may be reading what is to be changed: nothing is done then, and it is tried again."""
    for attempt in range(MIGRATE_ATTEMPTS_MAX):
        if attempt:
            time.sleep(MIGRATE_PAUSE_SECONDS)
        try:
            _upgrade(dsn)
        except psycopg.errors.LockNotAvailable as error:
            reason = first_line(error)
        else:
            return
    raise SettingError(
        f"the schema could not be changed, others are using it ({reason}); nothing is changed: look at "
        "pg_stat_activity for long transactions, then run `ledger migrate` again"
    )


def _upgrade(dsn: str) -> None:
    # Half of a start's time is these imports, and most starts find nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(dsn))
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        engine.dispose()


class ReconnectingConnection:
    """One connection, opened when first used and again when it was lost.

    `async with link as conn` gives it to one user at a time and drops it when they fail with it.
    """

    def __init__(self, dsn: str, role: Role, *, name: str, options: str = "") -> None:
        self._dsn = dsn
        self._role: Role = role
        self._name = name
        self._options = options
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

    async def get(self) -> Conn:
        """The open connection. Raises psycopg.OperationalError when there is none to be had."""
        if self._conn is None or self._conn.closed:
            self._conn = await connect(self._dsn, self._role, name=self._name, options=self._options)
        return self._conn

    @property
    def is_disconnected(self) -> bool:
        """No connection, or one that broke."""
        return self._conn is None or self._conn.closed

    async def drop(self) -> None:
        """Forget the connection, whatever state it is in."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error):
                await conn.close()
